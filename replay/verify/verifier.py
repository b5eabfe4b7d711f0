"""`Verifier`: one pass over the events of a run, checking what must hold at each.

Streaming, with memory bounded by what is live. It folds with the one reducer and looks at the
state on both sides of each event, so it costs little more than a fold.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.events import ALL_REQUEST_KINDS, Event, RunInfo, SchedulerEvent
from replay.state.model import State
from replay.state.reducer import begin, reduce
from replay.verify.fairness_checks import FairnessChecks
from replay.verify.keyframe_checks import KeyframeChecks
from replay.verify.request_checks import ENDS_AN_EXECUTION, RequestChecks
from replay.verify.rules import NEED_ALL_EVENTS, RuleBook
from replay.verify.stream_checks import StreamChecks, semantics
from replay.verify.task_checks import TaskChecks

NEEDS_REQUESTS = ("request_leases", "limits", "cooldowns", "attempts")


class Verifier:
    """Takes events in order of their ordinals, then `finish`; results are in `book`."""

    def __init__(self, run: RunInfo) -> None:
        self.book = RuleBook()
        self.book.foreign = run.producer != "headgate"
        self.state: State = begin(run)
        self._run = run
        self._streams = StreamChecks(self.book)
        self._tasks = TaskChecks(self.book, run)
        self._requests = RequestChecks(self.book, run)
        self._keyframes = KeyframeChecks(self.book, run)
        self._fairness = FairnessChecks(self.book)
        self._seen_at: dict[str, int] = {}
        self.events = 0
        self.unproved = 0
        """Events between a loss and the keyframe that put the fold right."""

    @property
    def run(self) -> RunInfo:
        return self._run

    @run.setter
    def run(self, run: RunInfo) -> None:
        """A feed may learn more about its run."""
        self._run = self._tasks.run = self._requests.run = self._keyframes.run = run

    @property
    def counts(self) -> dict[str, int]:
        """Events by kind."""
        return self._streams.kinds

    @property
    def hidden_waiters(self) -> int:
        """Spawns without their lease, and waits for a scheduler resource after a spawn."""
        return self._tasks.hidden_waiters

    def apply(self, events: Sequence[Event], first_ordinal: int) -> None:
        state, run, streams, book = self.state, self._run, self._streams, self.book
        before_task, before_request = self._tasks.checks, self._requests.before
        after_request = self._requests.after
        for ordinal, event in enumerate(events, first_ordinal):
            if self._lost_before(event, ordinal):
                book.withdraw()
                self._fairness.forget()
                self._skip(event, ordinal)
                continue
            streams.look(event, ordinal, run)
            kind = event.event_kind
            if isinstance(event, SchedulerEvent):
                check = before_task.get(kind)
                if check is not None:
                    check(state, event, ordinal)
                if kind == "task_lease_acquired":
                    self._fairness.dispatched(state, event, ordinal)
                elif kind == "scheduler_health_snapshot":
                    self._keyframes.look(state, event, ordinal)
                    self._fairness.keyframe(event)
                    if event.diagnostics.get("reason") == "segment":
                        self._tasks.forget()
                elif kind == "request_pressure_advisory_skipped":
                    self._fairness.passed_over(state, event)
                reduce(state, event, ordinal, run)
                self._follow(event, ordinal)
                if "debt" in event.diagnostics:
                    self._keyframes.debt(state, event, ordinal, event.diagnostics["debt"])
            else:
                look = before_request.get(kind)
                if look is not None:
                    look(state, event, ordinal)
                reduce(state, event, ordinal, run)
                look = after_request.get(kind)
                if look is not None:
                    look(state, event, ordinal)
        self.events += len(events)

    def _lost_before(self, event: Event, ordinal: int) -> bool:
        """Are events missing, so that the fold can't be trusted at this one?

        What is found counts once the next event of each stream shows that none was missing.
        """
        stream = "scheduler" if isinstance(event, SchedulerEvent) else "request"
        if self.state.out_of_step:
            return True
        gapless = semantics(self._run, stream) == "gapless"
        lost = gapless and event.sequence > self.state.last_sequence.get(stream, 0) + 1
        if lost or event.event_kind == "recording_gap":
            return True
        seen = self._seen_at
        seen[stream] = ordinal
        if self.book.doubtful:
            self.book.settle(min(seen.values()))
        return False

    def _skip(self, event: Event, ordinal: int) -> None:
        """Fold only, until a full keyframe puts the fold right."""
        self.unproved += 1
        self._streams.look(event, ordinal, self._run)
        reduce(self.state, event, ordinal, self._run)
        if event.event_kind == "ready_enqueued":
            self._fairness.enqueued(event)  # type: ignore[arg-type]
        if not self.state.out_of_step:
            self._tasks.forget()
            self._requests.resume(self.state)

    def _follow(self, event: SchedulerEvent, ordinal: int) -> None:
        """Which executions run, and what groups need."""
        kind = event.event_kind
        if kind == "worker_spawned":
            self._requests.spawned(event.task_execution_id)
        elif kind in ENDS_AN_EXECUTION:
            self._requests.ended(event.task_execution_id, ordinal, event.captured_at_monotonic)
        elif kind == "ready_enqueued":
            self._fairness.enqueued(event)

    def finish(self, over: bool = True) -> None:
        """No event will follow here. `over`: none will ever, the run has ended or was lost."""
        book, state = self.book, self.state
        book.settle(state.ordinal + 1)
        self._streams.finish(state, self._run, over)
        if book.foreign and book.found["time"]:
            book.doubt_late()
        kinds = self._streams.kinds
        looked = book.looked_at
        looked["task_leases"] = self._tasks.acquired
        looked["hidden_waiters"] = self._tasks.spawned
        looked["request_leases"] = looked["attempts"] = self._requests.acquired
        looked["caps"] = self._tasks.acquired + self._requests.acquired
        looked["keyframes"] = self._keyframes.compared
        looked["limits"] = sum(
            kinds.get(f"request_{what}", 0)
            for what in ("resource_registered", "limit_decreased", "limit_increased")
        )
        looked["cooldowns"] = self._requests.acquired
        looked["empty_blocked"] = sum(
            kinds.get(kind, 0)
            for kind in ("queue_empty", "queue_drained", "admission_blocked", "group_capped")
        )
        looked["order"] = sum(kinds.get(kind, 0) for kind in self._tasks.checks) + sum(
            kinds.get(kind, 0) for kind in self._requests.before
        )
        looked["numbers"] = 0 if book.foreign else kinds.get("request_wait_started", 0)
        looked["numbers"] += kinds.get("admission_blocked", 0) + kinds.get("group_capped", 0)
        looked["rows"] = kinds.get("row_group_checkpointed", 0)
        self._name_what_is_missing(over)

    def _name_what_is_missing(self, over: bool) -> None:
        book, run = self.book, self._run
        if self._streams.completed_at is None:
            book.leave_out(
                "end_state",
                "the run has no end here: what was open then is unknown"
                if over
                else "the run goes on",
            )
        else:
            book.looked_at["end_state"] = 1
        if self.unproved:
            book.leave_out(
                NEED_ALL_EVENTS,
                f"{self.unproved} events lie between a loss and the next full keyframe",
            )
        if book.withdrawn:
            book.leave_out(
                NEED_ALL_EVENTS,
                f"{book.withdrawn} deviations may come from events that are missing there",
            )
        if not any(kind in ALL_REQUEST_KINDS for kind in self.counts):
            book.leave_out(NEEDS_REQUESTS, "there are no request events")
        if run.producer != "headgate":
            book.leave_out("keyframes", "tasks and attempts are not in this producer's keyframes")
            book.leave_out("numbers", "this producer's request events tell pressure, not the fold")
        if not book.looked_at["fairness"]:
            book.leave_out(
                "fairness", "no two groups could be shown to be backlogged and eligible together"
            )
