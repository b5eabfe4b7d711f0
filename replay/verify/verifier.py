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
from replay.verify.rules import NEED_ALL_EVENTS, Position, RuleBook
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
            book.position = Position(ordinal, event.captured_at_monotonic)
            if self._is_behind_a_loss(event, ordinal):
                book.withdraw()
                self._fairness.forget()
                self._skip(event, ordinal)
                continue
            streams.check(event, run)
            kind = event.event_kind
            if isinstance(event, SchedulerEvent):
                if kind == "run_resumed":
                    self._go_on()
                check = before_task.get(kind)
                if check is not None:
                    check(state, event)
                if kind == "task_lease_acquired":
                    self._fairness.dispatched(state, event)
                elif kind == "scheduler_health_snapshot":
                    self._keyframes.check(state, event)
                    self._fairness.keyframe(event)
                    if event.diagnostics.get("reason") == "segment":
                        self._tasks.forget()
                elif kind == "request_pressure_advisory_skipped":
                    self._fairness.passed_over(state, event)
                reduce(state, event, ordinal, run)
                self._follow(event)
                if "debt" in event.diagnostics:
                    self._keyframes.debt(state, event, event.diagnostics["debt"])
            else:
                before = before_request.get(kind)
                if before is not None:
                    before(state, event)
                reduce(state, event, ordinal, run)
                after = after_request.get(kind)
                if after is not None:
                    after(state, event)
        book.position = None
        self.events += len(events)

    def _go_on(self) -> None:
        """The run goes on after an interruption, with nothing open."""
        self._tasks.forget()
        self._fairness.forget()
        self._requests.forget()

    def _is_behind_a_loss(self, event: Event, ordinal: int) -> bool:
        """Whether events are missing, so that the fold can't be trusted at this one.

        A deviation counts once the next event of each stream shows that none was missing.
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
        if self.book.unsettled:
            self.book.settle(min(seen.values()))
        return False

    def _skip(self, event: Event, ordinal: int) -> None:
        """Fold only, until a full keyframe puts the fold right."""
        self.unproved += 1
        self._streams.check(event, self._run)
        reduce(self.state, event, ordinal, self._run)
        if event.event_kind == "ready_enqueued":
            self._fairness.enqueued(event)  # type: ignore[arg-type]
        if not self.state.out_of_step:
            self._tasks.forget()
            self._requests.resume(self.state)

    def _follow(self, event: SchedulerEvent) -> None:
        """Which executions run, and what groups need."""
        kind = event.event_kind
        if kind == "worker_spawned":
            self._requests.spawned(event.task_execution_id)
        elif kind in ENDS_AN_EXECUTION:
            self._requests.ended(event.task_execution_id)
        elif kind == "ready_enqueued":
            self._fairness.enqueued(event)

    def finish(self, ended: bool = True) -> None:
        """Conclude, as no event follows. `ended`: the run has ended or was lost."""
        book, state = self.book, self.state
        book.settle(state.ordinal + 1)
        self._streams.finish(state, self._run, ended)
        if book.foreign and book.deviations["time"]:
            book.downgrade_out_of_order()
        kinds = self._streams.kinds
        looked_at = book.looked_at
        looked_at["task_leases"] = self._tasks.acquired
        looked_at["hidden_waiters"] = self._tasks.spawned
        looked_at["request_leases"] = looked_at["attempts"] = self._requests.acquired
        looked_at["caps"] = self._tasks.acquired + self._requests.acquired
        looked_at["keyframes"] = self._keyframes.compared
        looked_at["limits"] = sum(
            kinds.get(f"request_{what}", 0)
            for what in ("resource_registered", "limit_decreased", "limit_increased")
        )
        looked_at["cooldowns"] = self._requests.acquired
        looked_at["empty_blocked"] = sum(
            kinds.get(kind, 0)
            for kind in ("queue_empty", "queue_drained", "admission_blocked", "group_capped")
        )
        looked_at["order"] = sum(kinds.get(kind, 0) for kind in self._tasks.checks) + sum(
            kinds.get(kind, 0) for kind in self._requests.before
        )
        looked_at["numbers"] = 0 if book.foreign else kinds.get("request_wait_started", 0)
        looked_at["numbers"] += kinds.get("admission_blocked", 0) + kinds.get("group_capped", 0)
        looked_at["rows"] = kinds.get("row_group_checkpointed", 0)
        self._mark_unchecked(ended)

    def _mark_unchecked(self, ended: bool) -> None:
        book, run = self.book, self._run
        if self._streams.completed_at is None:
            book.mark_unchecked(
                "end_state",
                "the run has no end here: what was open then is unknown"
                if ended
                else "the run goes on",
            )
        else:
            book.looked_at["end_state"] = 1
        if self.unproved:
            book.mark_unchecked(
                NEED_ALL_EVENTS,
                f"{self.unproved} events lie between a loss and the next full keyframe",
            )
        if book.withdrawn:
            book.mark_unchecked(
                NEED_ALL_EVENTS,
                f"{book.withdrawn} deviations may come from events that are missing there",
            )
        if not any(kind in ALL_REQUEST_KINDS for kind in self.counts):
            book.mark_unchecked(NEEDS_REQUESTS, "there are no request events")
        if run.producer != "headgate":
            book.mark_unchecked(
                "keyframes", "tasks and attempts are not in this producer's keyframes"
            )
            book.mark_unchecked(
                "numbers", "this producer's request events tell pressure, not the fold"
            )
        if not book.looked_at["fairness"]:
            book.mark_unchecked(
                "fairness", "no two groups could be shown to be backlogged and eligible together"
            )
