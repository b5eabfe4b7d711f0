"""`IdleReport`: why does the queue admit nothing, and is there anything in it at all?"""

from __future__ import annotations

from typing import Literal

from engine.clock import Clock
from engine.events import EventStream
from engine.scheduling.admission import BlockedHeads, TaskAdmissionController
from engine.scheduling.queue import FairTaskQueue

HOLDERS_SECONDS = 1.0
"""Other holders alone are told no sooner than this after the last time: with more groups than slots
they change with every lease, and every lease is told."""


class IdleReport:
    """Emits `queue_empty` only with nothing queued, `admission_blocked` or `group_capped` only
    with work queued; each on entering its state and when its explanation changes.

    The state is that between two dispatch passes: a pass that admits something and is blocked again
    for the same reasons has not left it. The explanation is who is denied and why, what is short,
    and, at most every `HOLDERS_SECONDS`, which groups hold that; amounts and ages are told as they
    are at that moment. A pass without a change costs O(different needs), not O(groups).
    """

    def __init__(
        self,
        stream: EventStream,
        queue: FairTaskQueue,
        admission: TaskAdmissionController,
        clock: Clock,
    ) -> None:
        self._stream = stream
        self._queue = queue
        self._admission = admission
        self._clock = clock
        self._told: BlockedHeads | Literal["queue_empty"] | None = None
        self._told_at = self._looked_at = 0.0
        self._standstill: object = None
        """As it was at the last look, when `_told` was found to hold or was told."""
        self._had_work = False

    def forget(self) -> None:
        """A reader begins here: what holds is told again."""
        self._told = self._standstill = None

    def note_work(self) -> None:
        """Something was queued."""
        self._had_work = True

    def note_drained(self) -> None:
        """Tells `queue_drained` where the queue went from work to none; a blocked state ends so."""
        if self._had_work and not len(self._queue):
            self._had_work = False
            if self._told != "queue_empty":
                self.forget()
            self._stream.scheduler("queue_drained")

    def tell(self, in_flight: int, deferred: int) -> None:
        """Nothing can be selected now."""
        if not self._stream.scheduler_enabled:
            return
        if len(self._queue):
            self._tell_blocked()
        elif self._told != "queue_empty":
            self._told, self._standstill = "queue_empty", None
            self._stream.scheduler(
                "queue_empty",
                diagnostics={"ready": 0, "in_flight": in_flight, "deferred": deferred},
            )

    def _tell_blocked(self) -> None:
        view, now = self._queue.view(), self._clock.monotonic()
        blocked_fingerprint = self._admission.blocked_fingerprint(view)
        recent = now < self._looked_at + HOLDERS_SECONDS
        if blocked_fingerprint is not None and blocked_fingerprint == self._standstill and recent:
            return
        self._standstill, self._looked_at = blocked_fingerprint, now
        heads, told = self._admission.blocked_heads(view), self._told
        if not heads.denials:
            return
        if isinstance(told, BlockedHeads) and heads.denied_alike(told):
            recent = now < self._told_at + HOLDERS_SECONDS
            if recent or heads.holders == told.holders:
                return
        self._told, self._told_at = heads, now
        summary = self._admission.explain_blocked(view, heads)
        dominant = next(iter(summary.dominant_reasons))
        diagnostics = {
            "queued_count": summary.queued_count,
            "reasons": dict(summary.dominant_reasons),
            **summary.diagnostics,
        }
        if summary.available_after is not None:
            diagnostics["available_after"] = summary.available_after
        capped = dominant in ("group_cap", "borrow_debt")
        self._stream.scheduler(
            "group_capped" if capped else "admission_blocked",
            reason=dominant,
            diagnostics=diagnostics,
        )
