"""`Story`: events written by hand, each folded at once; the runs they are of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.events import Event, RequestResource, RunInfo, RuntimeCorrelation
from replay.state.model import State
from replay.state.reducer import begin, reduce
from tests.event_writer import EventWriter

RUN = RunInfo("run-1", "test", resource_limits={"submission": 2})
FOREIGN = RunInfo(
    "run-1",
    "test",
    producer="data_designer",
    request_sequence_semantics="per_producer",
)
ALPHA = RequestResource("alpha", "gen", "chat")


class Story(EventWriter):
    """Writes events a quarter of a second apart and folds each; returns the state after it."""

    def __init__(self, run: RunInfo = RUN) -> None:
        super().__init__(10.0)
        self.run = run
        self.state = begin(run)

    def _fold(self, event: Event) -> State:
        reduce(self.state, event, len(self.events), self.run)
        return self.state

    def task(
        self,
        kind: str,
        task: str | None = "question/0",
        lease: str | None = None,
        execution: str | None = None,
        reason: str | None = None,
        snapshot: dict[str, Any] | None = None,
        **diagnostics: Any,
    ) -> State:
        self.now += 0.25
        column = task.partition("/")[0] if task else None
        event = self.write_scheduler(
            kind,
            RuntimeCorrelation("run-1", 0, column, "cell", None, None, execution),
            diagnostics,
            task_id=task,
            execution_id=execution,
            lease_id=lease,
            reason=reason,
            snapshot=snapshot,
        )
        return self._fold(event)

    def request(
        self,
        kind: str,
        attempt: str | None = "a1",
        lease: str | None = None,
        outcome: str | None = None,
        pressure: dict[str, Any] | None = None,
        **diagnostics: Any,
    ) -> State:
        self.now += 0.25
        event = self.write_request(
            kind,
            ALPHA,
            RuntimeCorrelation("run-1", 0, "question", "cell", None, None, "e1"),
            diagnostics,
            attempt_id=attempt,
            lease_id=lease,
            outcome=outcome,
            pressure=pressure,
        )
        return self._fold(event)

    def queued(self) -> State:
        self.task("dependency_ready", group="g", row=0, attempt=1)
        return self.task(
            "ready_enqueued", group="g", weight=2.0, resources={"submission": 1}, attempt=1
        )

    def running(self) -> State:
        self.queued()
        self.task("selected")
        self.task("task_lease_acquired", lease="t1", resources={"submission": 1})
        return self.task("worker_spawned", lease="t1", execution="e1")


def fold_all(run: RunInfo, events: Iterable[Event]) -> State:
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
    return state
