"""`preview_run`: a few rows of a workflow, made for real, of which nothing is kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.clock import LoopClock
from engine.events import Event, EventStream, SchedulerEvent
from engine.run.execute import RunControl, execute_run
from engine.run.plan import plan_run
from engine.scheduling.plan import RunResult
from engine.workflow.load import LoadedWorkflow


@dataclass(frozen=True)
class LostRow:
    """A row that was dropped: which column failed, and why."""

    row: int | None
    """None for a whole row group."""
    column: str
    error_type: str
    message: str


@dataclass
class Preview:
    """What a preview made."""

    result: RunResult
    rows: list[dict[str, Any]]
    lost: list[LostRow] = field(default_factory=list)
    calls: int = 0


async def preview_run(loaded: LoadedWorkflow, rows: int) -> Preview:
    """The first rows of the run, with the values that it would give them.

    Raises `UserError` for what keeps a run from its start.
    """
    import pyarrow.parquet as pq

    plan = plan_run(loaded.override(records=rows))
    loop = asyncio.get_running_loop()
    clock, seen = LoopClock(loop), _Seen()
    stream = EventStream(clock, "preview", [seen], loop.call_soon)
    with tempfile.TemporaryDirectory(prefix="headgate-preview-") as folder:
        dataset = Path(folder) / "dataset"
        result = await execute_run(plan, stream, clock, dataset=dataset, control=RunControl())
        stream.flush()
        made = [
            row
            for file in sorted(dataset.glob("*.parquet"))
            for row in pq.read_table(file).to_pylist()
        ]
    return Preview(result, made, seen.lost, seen.calls)


class _Seen:
    """Keeps of the events what a preview shows."""

    def __init__(self) -> None:
        self.lost: list[LostRow] = []
        self.calls = 0

    def write_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.event_kind == "model_request_started":
                self.calls += 1
            if isinstance(event, SchedulerEvent) and event.event_kind == "non_retryable_dropped":
                facts = event.diagnostics
                self.lost.append(
                    LostRow(
                        _row_of(event.task_id),
                        event.task_id.rpartition("/")[0] if event.task_id else "",
                        event.reason_or_result or "",
                        str(facts.get("message", "")),
                    )
                )


def _row_of(task_id: str | None) -> int | None:
    last = (task_id or "").rpartition("/")[2]
    return int(last) if last.isdecimal() else None
