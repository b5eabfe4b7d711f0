"""The structs of the `why` report. Times are seconds of run time: 0 is the first event."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from replay.diagnosis.verdicts import AnyVerdict, Holder, Waiter
from replay.diagnosis.verdicts.base import fact

REPORT_VERSION = 4

_RUN_TIME = "s of run time"


class RunFacts(msgspec.Struct, frozen=True):
    """Which run the report is about, and how it ended."""

    run_id: Annotated[str, fact("Id of the run")]
    name: Annotated[str, fact("Name of the workflow")]
    producer: Annotated[str, fact("Which engine made the run")]
    producer_version: Annotated[str, fact("Its version; empty where it is not told")]
    outcome: Annotated[
        str | None,
        fact(
            "`success`, `incomplete` (rows were lost), `failed`, `cancelled` or `stopped`; null"
            " where no end is known"
        ),
    ]
    complete: Annotated[bool, fact("Whether nothing more will come")]
    producer_lost: Annotated[bool, fact("Whether the producer is gone without an end of the run")]
    records: Annotated[int | None, fact("Records that were to be made; null where not told")]
    events: Annotated[int, fact("Events in the recording")]
    lost_events: Annotated[int, fact("Events that are missing, within the window")]
    broken_lines: Annotated[int, fact("Lines that could not be read")]
    seconds: Annotated[float, fact("Length of the run as far as it is recorded", "s")]
    began_monotonic: Annotated[
        float, fact("What the producer's monotonic clock said at time 0", "s")
    ] = 0.0
    began_at: Annotated[
        float | None, fact("Unix time of time 0; null where the producer does not tell", "s")
    ] = None
    mended_lines: Annotated[
        int, fact("Lines that were read but for a value that is no JSON or no text")
    ] = 0
    ending: Annotated[
        str | None,
        fact("How it ended and what it cost, in words; null where no end is known or shown"),
    ] = None


class BlameLine(msgspec.Struct, frozen=True):
    """The share of the time that went to one verdict."""

    verdict: Annotated[str, fact("`working`, or the verdict that the time went to")]
    phrase: Annotated[str, fact("The verdict in a few words")]
    resource: Annotated[str | None, fact("What the verdict is about; null for the run")]
    fraction: Annotated[float, fact("Share of the whole, from 0 to 1")]
    advice: Annotated[str, fact("What can be changed; empty where nothing needs changing")]


class ColumnBlame(msgspec.Struct, frozen=True):
    """Where the time of the cells of one column went."""

    column: Annotated[str, fact("Column of the cells")]
    seconds: Annotated[float, fact("Time of cells from dependency-ready to released", "cell-s")]
    blame: Annotated[tuple[BlameLine, ...], fact("Where it went, the largest share first")]


class PartBlame(msgspec.Struct, frozen=True):
    """The blame of one part: of slots by provider, of cells by provider, group or row group."""

    part: Annotated[str, fact("Name of the provider or group, or number of the row group")]
    seconds: Annotated[
        float,
        fact("Slots in demand times seconds, or time of cells", "slot-s or cell-s"),
    ]
    blame: Annotated[tuple[BlameLine, ...], fact("Where it went, the largest share first")]


class HistorySpan(msgspec.Struct, frozen=True):
    """A stretch in the life of a task."""

    start: Annotated[float, fact("Its begin", _RUN_TIME)]
    end: Annotated[
        float | None, fact("Its end; null while it goes on or where it is not known", _RUN_TIME)
    ]
    what: Annotated[str, fact("What the task did or waited for")]
    resource: Annotated[str | None, fact("Group or request resource of a wait or call")] = None
    verdicts: Annotated[
        dict[str, float],
        fact(
            "Time by the verdict that kept it: by the second, as the cells of its column and row"
            " group that waited in the same way",
            "s",
        ),
    ] = {}


class TaskHistory(msgspec.Struct, frozen=True):
    """The joined timeline of one task."""

    task_id: Annotated[str, fact("The task")]
    column: Annotated[str, fact("Its column")]
    row_group: Annotated[int | None, fact("Its row group, from 0")]
    row: Annotated[int | None, fact("Its row, from 0; null for a batch")]
    state: Annotated[
        str, fact("`completed`, `dropped`, `cancelled`, `deferred`, or what it does at the end")
    ]
    position: Annotated[
        int | None,
        fact(
            "Tasks of its group before it in the queue, or calls before its own at their resource,"
            " at the end of the window; null unless it waited there then"
        ),
    ]
    steps: Annotated[tuple[HistorySpan, ...], fact("Its life, in order")]


class VerdictLine(msgspec.Struct, frozen=True):
    """One verdict with its proof: what held up what, from when to when."""

    verdict: Annotated[str, fact("What held it up")]
    tier: Annotated[str, fact("`A` (must never happen) to `F`; `-` where nothing is proved")]
    resource: Annotated[str | None, fact("What it is about; null for the run")]
    start: Annotated[float, fact("Begin", _RUN_TIME)]
    end: Annotated[float, fact("End", _RUN_TIME)]
    seconds: Annotated[float, fact("Length", "s")]
    sentence: Annotated[str, fact("What happened, for people")]
    advice: Annotated[str, fact("What can be changed; empty where nothing needs changing")]
    evidence: Annotated[tuple[int, ...], fact("Ordinals of the events that prove it")]
    also: Annotated[
        dict[str, float],
        fact("Share of the stall's time by each other verdict that it was under, from 0 to 1"),
    ]
    holders: Annotated[
        list[Holder], fact("Who holds what is missing: the largest or the oldest first")
    ]
    expected_release: Annotated[
        float | None, fact("When it frees itself; null where not known", _RUN_TIME)
    ]
    detail: Annotated[AnyVerdict, fact("Facts of this verdict; those not known are left out")]
    waiting: Annotated[int | None, fact("Tasks and calls in line for it")] = None
    longest_waiter: Annotated[Waiter | None, fact("Who had waited longest for it")] = None


class BoundFacts(msgspec.Struct, frozen=True):
    """The endpoint that was saturated longest."""

    model: Annotated[str, fact("Provider and model")]
    cap: Annotated[int, fact("Calls that it may have at a time")]
    source: Annotated[str, fact("Where that number comes from")]
    saturated: Annotated[float, fact("Part of the time in which its slots were in use, to 1")]
    waiting: Annotated[float, fact("Part of all waiting of cells that was for it, to 1")]
    sets_the_pace: Annotated[bool, fact("Whether it was saturated for most of the time")]
    sentence: Annotated[str, fact("The same, for people")]
    advice: Annotated[str, fact("What can be changed; empty where nothing needs changing")]


class LossLine(msgspec.Struct, frozen=True):
    """What one cause took, summed up over all resources."""

    verdict: Annotated[str, fact("The cause")]
    phrase: Annotated[str, fact("The cause in a few words")]
    fraction: Annotated[float, fact("Share of the capacity that was wanted, from 0 to 1")]
    resources: Annotated[tuple[str, ...], fact("Whose slots it left unused, the most first")]
    intervals: Annotated[
        tuple[tuple[float, float], ...], fact("Begin and end of each of its stalls", _RUN_TIME)
    ]
    sentence: Annotated[str, fact("The same, for people")]


class ErrorLine(msgspec.Struct, frozen=True):
    """What failed in one way."""

    provider: Annotated[str | None, fact("Whose call failed; null where none did")]
    resource: Annotated[str | None, fact("Its request resource")]
    column: Annotated[str | None, fact("Column that it happened to")]
    error: Annotated[str, fact("The error as the producer names it")]
    error_class: Annotated[str, fact("Its class: `authentication`, `server`, `code`, …")]
    times: Annotated[int, fact("How often it happened")]
    rows_dropped: Annotated[int, fact("Rows that were lost with it")]
    first: Annotated[float, fact("When first in the run", _RUN_TIME)]
    last: Annotated[float, fact("When last", _RUN_TIME)]
    evidence: Annotated[int, fact("Ordinal of the first event that tells of it")]


class SpendingLine(msgspec.Struct, frozen=True):
    """Calls, tokens and cost of one column at one model."""

    column: Annotated[str | None, fact("Column of the workflow; null for checks of health")]
    model: Annotated[str, fact("Provider and model")]
    calls: Annotated[int, fact("Answered calls")]
    prompt_tokens: Annotated[int, fact("Tokens in")]
    completion_tokens: Annotated[int, fact("Tokens out")]
    cached_tokens: Annotated[int, fact("Of those in, from the provider's cache")]
    reasoning_tokens: Annotated[int, fact("Of those out, for reasoning")]
    cost: Annotated[float | None, fact("Of calls whose cost is known; null for none", "USD")]
    unpriced_calls: Annotated[int, fact("Calls whose cost is not known")]
    wasted_tokens: Annotated[
        int, fact("Tokens of rejected answers, of executions that failed and of dropped rows")
    ]
    wasted_cost: Annotated[float | None, fact("Cost of those, where known", "USD")]


class WhyReport(msgspec.Struct, frozen=True):
    """The whole report: the answer, the blame it rests on, and the verdicts with their proof."""

    version: Annotated[int, fact("Version of this report's form")]
    diagnosis_version: Annotated[int, fact("Version of the diagnosis that found the verdicts")]
    answer: Annotated[str, fact("The most important of it in one or two sentences")]
    run: Annotated[RunFacts, fact("What ran, and how it ended")]
    start: Annotated[float, fact("Begin of the window that was asked for", _RUN_TIME)]
    end: Annotated[float, fact("Its end", _RUN_TIME)]
    blame_start: Annotated[
        float, fact("Begin of the whole seconds that stand for the window in the blame", _RUN_TIME)
    ]
    blame_end: Annotated[float, fact("Their end", _RUN_TIME)]
    run_blame: Annotated[
        tuple[BlameLine, ...],
        fact("Shares of the slots of request resources in demand; together 1, or empty"),
    ]
    cell_blame: Annotated[
        tuple[BlameLine, ...],
        fact("Shares of the cells' time from dependency-ready to released; together 1, or empty"),
    ]
    cell_blame_by_column: Annotated[
        tuple[ColumnBlame, ...], fact("The same for the cells of each column")
    ]
    verdicts: Annotated[
        tuple[VerdictLine, ...], fact("What must never happen first, then the longest")
    ]
    lacks: Annotated[tuple[str, ...], fact("What the producer's stream does not carry")]
    run_seconds: Annotated[
        float, fact("Slots in demand times seconds: the whole of `run_blame`", "slot-s")
    ] = 0.0
    cell_seconds: Annotated[float, fact("Time of cells: the whole of `cell_blame`", "cell-s")] = 0.0
    bound: Annotated[BoundFacts | None, fact("What bounds the run; null where unknown")] = None
    losses: Annotated[
        tuple[LossLine, ...], fact("Losses by cause over all resources, the largest first")
    ] = ()
    errors: Annotated[
        tuple[ErrorLine, ...], fact("What failed, that which cost most rows first")
    ] = ()
    spending: Annotated[
        tuple[SpendingLine, ...],
        fact("Tokens and money of the whole run, by column and model; empty where none is told"),
    ] = ()
    not_provable: Annotated[
        tuple[str, ...],
        fact("Verdicts that this stream could not prove: that they are absent says nothing"),
    ] = ()
    run_blame_by_provider: Annotated[
        tuple[PartBlame, ...], fact("Shares of the slots of each provider")
    ] = ()
    cell_blame_by_row_group: Annotated[
        tuple[PartBlame, ...], fact("Shares of the time of the cells of each row group")
    ] = ()
    cell_blame_by_group: Annotated[
        tuple[PartBlame, ...], fact("By scheduling group, of the columns whose group is known")
    ] = ()
    cell_blame_by_provider: Annotated[
        tuple[PartBlame, ...],
        fact("By the provider of a column's first call; columns without one are left out"),
    ] = ()
    task: Annotated[TaskHistory | None, fact("The life of the task that was asked for")] = None


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `WhyReport`; a property's `unit` is that of its numbers."""
    template = "#/$defs/{name}"
    (top,), definitions = msgspec.json.schema_components([WhyReport], ref_template=template)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "headgate why",
        "description": "Times are seconds of run time, 0 is the first event; fractions are of 1.",
        **top,
        "$defs": definitions,
    }
