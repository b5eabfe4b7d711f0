"""`ProviderAwareTaskAdmissionPolicy`: would a worker only wait at its provider while others could
work?"""

from __future__ import annotations

from engine.identity import (
    PressureSnapshot,
    RequestPressureSnapshotProvider,
    RequestResourceKey,
)
from engine.scheduling.policy import (
    FairSharePolicy,
    TaskAdmissionPolicyDecision,
    any_contender,
    fits,
)
from engine.scheduling.types import SchedulableTask
from engine.scheduling.views import QueueView, TaskAdmissionView


class ProviderAwareTaskAdmissionPolicy:
    """The shares of `shares`, and advice from request pressure, which it only reads.

    A resource is pressed while it cools down or has `pressed_waiters` waiting for it. A head whose
    first request goes there is passed over for a peer that needs the same broadest resource, fits,
    and whose provider is not pressed, and such a peer need not keep to its share for a pressed
    one's sake; where there is none the head is admitted as usual. It is looked at again
    when the cooldown ends and, in turn with the others that were passed over, at each release of
    the broadest resource it needs, so none is passed over for ever.
    """

    def __init__(
        self,
        shares: FairSharePolicy,
        pressure: RequestPressureSnapshotProvider,
        pressed_waiters: int = 1,
    ) -> None:
        if pressed_waiters < 1:
            raise ValueError(f"at least 1 waiter makes pressure, not {pressed_waiters}")
        self._shares = shares
        self._pressure = pressure
        self._pressed_waiters = pressed_waiters
        self.on_acquire, self.on_release = shares.on_acquire, shares.on_release
        self._seen: dict[RequestResourceKey, PressureSnapshot | None] = {}
        """Within one evaluation."""

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision:
        if self._seen:
            self._seen.clear()
        decision = self._shares.evaluate_among(item, queue_view, admission_view, self._is_free)
        if not decision.allowed or item.request_resource_key is None:
            return decision
        pressed = self._pressed(item)
        if pressed is None:
            return decision
        broadest = next(iter(item.resource_request.amounts), None)
        if broadest is None or not any_contender(
            item,
            broadest,
            queue_view,
            lambda peer: fits(peer, admission_view) and self._is_free(peer),
        ):
            return decision
        cooling = pressed.cooldown_remaining_seconds > 0
        advisory: dict[str, object] = {
            "request_resource": pressed.resource.label,
            "waiters": pressed.waiters,
            "limit": pressed.current_limit,
        }
        if cooling:
            advisory["blocked_until"] = pressed.blocked_until_monotonic
        return TaskAdmissionPolicyDecision(
            False,
            "policy_denial",
            (),
            pressed.blocked_until_monotonic if cooling else None,
            re_evaluate_on=broadest,
            diagnostics={"advisory": advisory},
        )

    def _is_free(self, peer: SchedulableTask) -> bool:
        return self._pressed(peer) is None

    def _pressed(self, item: SchedulableTask) -> PressureSnapshot | None:
        """The pressure on where its first request goes; None where there is none to speak of."""
        resource = item.request_resource_key
        if resource is None:
            return None
        seen = self._seen
        if resource not in seen:
            seen[resource] = self._pressure.snapshot(resource)
        snapshot = seen[resource]
        if snapshot is None:
            return None
        waiting = snapshot.waiters >= self._pressed_waiters
        return snapshot if waiting or snapshot.cooldown_remaining_seconds > 0 else None
