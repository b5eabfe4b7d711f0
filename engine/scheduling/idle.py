"""`IdleReport`: is the queue empty, and if not, why is nothing admitted from it?"""

from __future__ import annotations

from typing import Literal

from engine.clock import Clock
from engine.events import EventStream
from engine.scheduling.admission import BlockedHeads, TaskAdmissionController
from engine.scheduling.queue import FairTaskQueue

HOLDERS_INTERVAL_SECONDS = 1.0
"""Least time between two reports that differ in the holders alone. With more groups than slots the
holders change with every lease, and the stream has an event for every lease anyway."""


class IdleReport:
    """Emits `queue_empty` only while nothing is queued, and `admission_blocked` or `group_capped`
    only while work is queued; each when its state begins and when its explanation changes.

    The state is the one between two dispatch passes: a pass that admits a task and is then blocked
    for the same reasons has not left it. The explanation consists of the denied groups with their
    reasons, the resources that are short and, at most every `HOLDERS_INTERVAL_SECONDS`, the groups
    that hold those. Amounts and ages are those at the time of the report.

    Explaining costs O(groups). To do that in every pass would dominate a dispatch with many groups,
    so a `BlockedFingerprint`, which costs O(different needs), shows first whether the explanation
    can have changed.
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
        self._reported: BlockedHeads | Literal["queue_empty"] | None = None
        self._reported_at = self._checked_at = 0.0
        self._blocked_fingerprint: object = None
        """The fingerprint under which `_reported` was last compared with the heads."""
        self._had_work = False

    def reset(self) -> None:
        """Report the present state again, for a reader that begins here."""
        self._reported = self._blocked_fingerprint = None

    def note_work(self) -> None:
        """A task was queued."""
        self._had_work = True

    def note_drained(self) -> None:
        """Emit `queue_drained` if the last queued task has gone, which ends a blocked state."""
        if self._had_work and not len(self._queue):
            self._had_work = False
            if self._reported != "queue_empty":
                self.reset()
            self._stream.scheduler("queue_drained")

    def report(self, in_flight: int, deferred: int) -> None:
        """Report why nothing can be selected now.

        Args:
            in_flight: Number of running tasks.
            deferred: Number of tasks that wait for their next attempt.
        """
        if not self._stream.scheduler_enabled:
            return
        if len(self._queue):
            self._report_blocked()
        elif self._reported != "queue_empty":
            self._reported, self._blocked_fingerprint = "queue_empty", None
            self._stream.scheduler(
                "queue_empty",
                diagnostics={"ready": 0, "in_flight": in_flight, "deferred": deferred},
            )

    def _report_blocked(self) -> None:
        view, now = self._queue.view(), self._clock.monotonic()
        fingerprint = self._admission.blocked_fingerprint(view)
        recent = now < self._checked_at + HOLDERS_INTERVAL_SECONDS
        if fingerprint is not None and fingerprint == self._blocked_fingerprint and recent:
            return
        self._blocked_fingerprint, self._checked_at = fingerprint, now
        heads, reported = self._admission.blocked_heads(view), self._reported
        if not heads.denials:
            return
        if isinstance(reported, BlockedHeads) and heads.denied_alike(reported):
            recent = now < self._reported_at + HOLDERS_INTERVAL_SECONDS
            if recent or heads.holders == reported.holders:
                return
        self._reported, self._reported_at = heads, now
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
