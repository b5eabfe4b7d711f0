"""`ProviderAwareTaskAdmissionPolicy`: would a worker wait while others could work?"""

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
    """Adds advice from request pressure to the decisions of another policy.

    A request resource is pressed while it cools down or has at least `pressed_waiters` waiters. A
    head whose first request goes there is skipped for a peer that needs the same broadest resource,
    fits, and whose provider is not pressed; and a peer does not give way to a pressed head because
    of shares. Without such a peer the head is admitted as usual. A skipped head is re-evaluated
    when the cooldown ends and, in turn with the other skipped heads, at each release of the
    broadest resource that it needs, so that no head is skipped for ever.

    Args:
        shares: Decides about shares.
        pressure: Source of request pressure; it is only read.
        pressed_waiters: Waiters from which on a resource is pressed.

    Raises:
        ValueError: `pressed_waiters` is below 1.
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
        """Snapshots of the present evaluation."""

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
        """Snapshot of the resource of its first request if that is pressed, else None."""
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
