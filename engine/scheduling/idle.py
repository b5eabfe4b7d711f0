"""`IdleReport`: tells once why the queue admits nothing, and again when the reason changes."""

from __future__ import annotations

from engine.events import EventStream
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.queue import FairTaskQueue


class IdleReport:
    """Emits `queue_empty` only with nothing queued, `admission_blocked` or `group_capped` only
    with work queued; each on entering its state and when its explanation changes.

    The state is that between two dispatch passes: a pass that admits something and is blocked again
    for the same reasons has not left it. The explanation is who is denied and why, and which
    groups hold what is short; amounts and ages are told as they are at that moment.
    """

    def __init__(
        self, stream: EventStream, queue: FairTaskQueue, admission: TaskAdmissionController
    ) -> None:
        self._stream = stream
        self._queue = queue
        self._admission = admission
        self._told: object = None

    def forget(self) -> None:
        """A reader begins here: what holds is told again."""
        self._told = None

    def tell(self, in_flight: int, deferred: int) -> None:
        """Nothing can be selected now."""
        if not self._stream.enabled:
            return
        if len(self._queue):
            self._tell_blocked()
        elif self._told != "queue_empty":
            self._told = "queue_empty"
            self._stream.scheduler(
                "queue_empty",
                diagnostics={"ready": 0, "in_flight": in_flight, "deferred": deferred},
            )

    def _tell_blocked(self) -> None:
        view = self._queue.view()
        signature = self._admission.blocked_signature(view)
        if signature == self._told:
            return
        summary = self._admission.explain_blocked(view)
        if not summary.dominant_reasons:
            return
        self._told = signature
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
