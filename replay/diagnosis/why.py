"""The structs of the `why` report. Times are seconds of run time: 0 is the first event."""

from __future__ import annotations

from typing import Any

import msgspec

REPORT_VERSION = 3


class RunFacts(msgspec.Struct, frozen=True):
    run_id: str
    name: str
    producer: str
    producer_version: str
    outcome: str | None
    complete: bool
    producer_lost: bool
    records: int | None
    events: int
    lost_events: int
    broken_lines: int
    seconds: float
    began_monotonic: float = 0.0
    """What the producer's monotonic clock said at time 0."""
    began_at: float | None = None
    """Unix seconds of time 0; None where the producer does not tell."""
    mended_lines: int = 0
    """Lines that were read but for a value that is no JSON or no text."""


class BlameLine(msgspec.Struct, frozen=True):
    verdict: str
    phrase: str
    resource: str | None
    fraction: float
    advice: str


class ColumnBlame(msgspec.Struct, frozen=True):
    column: str
    seconds: float
    """Cell-seconds from dependency-ready to released."""
    blame: tuple[BlameLine, ...]


class PartBlame(msgspec.Struct, frozen=True):
    """The blame of one part: of slots by provider, of cells by provider, group or row group."""

    part: str
    seconds: float
    """Slot-seconds in demand, or cell-seconds from dependency-ready to released."""
    blame: tuple[BlameLine, ...]


class Step(msgspec.Struct, frozen=True):
    """A stretch in the life of a task."""

    start: float
    end: float | None
    """None while it goes on, or where the end is not known."""
    what: str
    resource: str | None = None
    verdicts: dict[str, float] = {}
    """What kept it, with the seconds of each: by the second, as the cells of its column and row
    group that waited in the same way."""


class TaskStory(msgspec.Struct, frozen=True):
    """The joined timeline of one task."""

    task_id: str
    column: str
    row_group: int | None
    row: int | None
    state: str
    """`completed`, `dropped`, `cancelled`, `deferred`, or what it does at the end."""
    position: int | None
    """Tasks of its group before it in the queue, or calls before its own at their resource: at the
    end of the window. None unless it waited there then."""
    steps: tuple[Step, ...]


class Waiter(msgspec.Struct, frozen=True):
    """The task, or the call of a task, that waited longest for what was missing."""

    task_id: str
    column: str
    row: int | None
    age: float
    """Seconds of its wait when the stall was proved to be one."""


class VerdictLine(msgspec.Struct, frozen=True):
    verdict: str
    tier: str
    resource: str | None
    start: float
    end: float
    seconds: float
    sentence: str
    advice: str
    evidence: tuple[int, ...]
    """Ordinals of events."""
    also: dict[str, float]
    holders: list[dict[str, Any]]
    expected_release: float | None
    detail: dict[str, Any]
    waiting: int | None = None
    """How many tasks and calls were in the line for it."""
    longest_waiter: Waiter | None = None


class WhyReport(msgspec.Struct, frozen=True):
    version: int
    diagnosis_version: int
    answer: str
    run: RunFacts
    start: float
    end: float
    """Of the window that was asked for."""
    blame_start: float
    blame_end: float
    """Of the whole seconds that stand for it in the blame."""
    run_blame: tuple[BlameLine, ...]
    """Shares of the slots of request resources in demand; together 1, or empty."""
    cell_blame: tuple[BlameLine, ...]
    """Shares of the cells' time from dependency-ready to released; together 1, or empty."""
    cell_blame_by_column: tuple[ColumnBlame, ...]
    verdicts: tuple[VerdictLine, ...]
    """What must never happen first, then the longest."""
    lacks: tuple[str, ...]
    """What the producer's stream does not carry."""
    not_provable: tuple[str, ...] = ()
    """Verdicts that this stream could not prove: that they are absent says nothing."""
    run_blame_by_provider: tuple[PartBlame, ...] = ()
    cell_blame_by_row_group: tuple[PartBlame, ...] = ()
    cell_blame_by_group: tuple[PartBlame, ...] = ()
    """By scheduling group, of the columns whose group is known."""
    cell_blame_by_provider: tuple[PartBlame, ...] = ()
    """By the provider that a column's first call goes to; columns without one are left out."""
    task: TaskStory | None = None
    """Only where one was asked for."""


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `WhyReport`."""
    template = "#/$defs/{name}"
    (top,), definitions = msgspec.json.schema_components([WhyReport], ref_template=template)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "headgate why",
        "description": "Times are seconds of run time, 0 is the first event; fractions are of 1.",
        **top,
        "$defs": definitions,
    }
