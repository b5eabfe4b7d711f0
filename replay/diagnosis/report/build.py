"""The `why` report: what a recording's blame and verdicts say, as data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from engine.events import RunInfo
from replay.diagnosis.diagnosis_state import DIAGNOSIS_VERSION
from replay.diagnosis.report.answer import compose
from replay.diagnosis.report.blame_lines import (
    blame_by_column,
    blame_by_part,
    blame_lines,
    seconds_of,
)
from replay.diagnosis.report.losses import Loss, losses
from replay.diagnosis.report.markdown import render_markdown
from replay.diagnosis.report.pace import Bound, find_bound, find_slowest
from replay.diagnosis.report.provability import called_models, not_provable, tells_of_calls
from replay.diagnosis.report.readers import EventBounds, ReportReader
from replay.diagnosis.report.schema import (
    REPORT_VERSION,
    BoundFacts,
    ErrorLine,
    LossLine,
    RunFacts,
    SpendingLine,
    VerdictLine,
    WhyReport,
)
from replay.diagnosis.report.shares import cell_shares, run_shares
from replay.diagnosis.report.task_history import build_history
from replay.diagnosis.report.text import render_text
from replay.diagnosis.verdicts import VerdictRow, phrase, provider_of
from replay.diagnosis.verdicts.broken import Unknown
from replay.state.ending import Ending, ending_of
from replay.state.failures import class_of_failure, since
from replay.state.model import Failure
from replay.state.rows import BlameRow

LOST = "The producer ended without a word: it was killed, or its machine stopped."

__all__ = [
    "REPORT_VERSION",
    "WhyReport",
    "build_report",
    "render_markdown",
    "render_text",
    "verdict_line",
]


CLOCK_SECONDS = 0.1
"""Times are written to this, so that an instant is reached by the time that is shown for it."""


class _Window(NamedTuple):
    """What is reported on, in monotonic seconds, and the bins whose blame stands for it."""

    start: float
    end: float
    bin0: int
    bin1: int
    """The last bin, included."""
    blame_start: float
    blame_end: float


def build_report(
    reader: ReportReader, window: tuple[float, float] | None = None, task: str | None = None
) -> WhyReport:
    """Why the run did not go faster, over `window` (monotonic seconds) or all of it.

    Blame is kept by the second: a window takes in the seconds that lie in it for the most part, at
    least one. With `task` also the story of that task; raises `LookupError` where the recording has
    no such task.
    """
    run, status, bounds = reader.run(), reader.status(), reader.bounds()
    t0 = bounds.t0
    span = _whole_run(run, bounds) if window is None else _window(run, bounds, *window)
    run_rows = reader.blame(span.bin0, span.bin1, "run")
    cell_rows = reader.blame(span.bin0, span.bin1, "cell")
    shown = CLOCK_SECONDS / 2
    verdicts = sorted(reader.verdicts(span.start - shown, span.end + shown), key=_urgency)
    in_demand = run_shares(run_rows)
    last = bounds.last_ordinal if window is None else reader.ordinal_at(span.end)
    state = reader.state_at(last)
    failures = list(state.failures.values())
    if window is not None and span.start > t0:
        failures = since(reader.state_at(reader.ordinal_at(span.start)), state)
    at_end = window is None or span.end >= bounds.t1
    ended = ending_of(state, status.outcome, run.records) if at_end else None
    bound = find_bound(run, state, run_rows, cell_rows)
    gone = LOST if status.lost and at_end else ""
    answer = compose(
        gone if ended is None or ended.good else ended.sentence,
        bound,
        find_slowest(run, state),
        in_demand,
        verdicts,
        t0,
        tells_of_calls(run),
        called_models(run),
    )
    groups = {column.name: column.group for column in run.columns}
    providers = {column.name: provider_of(column.request_resource or "") for column in run.columns}
    return WhyReport(
        version=REPORT_VERSION,
        diagnosis_version=DIAGNOSIS_VERSION,
        answer=answer.text,
        run=_run_facts(reader, ended, verdicts),
        start=span.start - t0,
        end=span.end - t0,
        blame_start=span.blame_start - t0,
        blame_end=span.blame_end - t0,
        run_blame=blame_lines(run, in_demand),
        cell_blame=blame_lines(run, cell_shares(cell_rows)),
        cell_blame_by_column=blame_by_column(run, cell_rows),
        verdicts=tuple(verdict_line(row, t0) for row in verdicts),
        run_seconds=seconds_of(run_rows),
        cell_seconds=seconds_of(cell_rows),
        lacks=run.lacks,
        bound=None if bound is None else _bound_facts(bound),
        losses=tuple(_loss_line(loss, t0) for loss in losses(in_demand, verdicts)),
        spending=tuple(
            SpendingLine(**msgspec.structs.asdict(row))
            for row in reader.spending()
            if row.prompt_tokens or row.completion_tokens or row.cost is not None
        ),
        errors=tuple(_error_line(failure, t0) for failure in _worst_first(failures)),
        run_blame_by_provider=blame_by_part(
            run, run_rows, run_shares, lambda row: provider_of(row.resource)
        ),
        cell_blame_by_row_group=blame_by_part(run, cell_rows, cell_shares, _row_group),
        cell_blame_by_group=blame_by_part(
            run, cell_rows, cell_shares, lambda row: groups.get(row.column, "")
        ),
        cell_blame_by_provider=blame_by_part(
            run, cell_rows, cell_shares, lambda row: providers.get(row.column, "")
        ),
        not_provable=not_provable(run),
        task=None
        if task is None
        else build_history(reader, task, reader.verdicts(), None if window is None else span.end),
    )


def _whole_run(run: RunInfo, bounds: EventBounds) -> _Window:
    t0, t1 = bounds.t0, bounds.t1
    return _Window(t0, t1, 0, math.ceil(t1 - run.monotonic_start), t0, t1)


def _window(run: RunInfo, bounds: EventBounds, start: float, end: float) -> _Window:
    """The seconds that lie in it for the most part, at least one; at an end of the run all there
    are."""
    origin = run.monotonic_start
    bin0, bin1 = round(start - origin), round(end - origin) - 1
    if bin1 < bin0:
        bin0 = bin1 = math.floor((start + end) / 2 - origin)
    if start <= bounds.t0 + CLOCK_SECONDS / 2:
        bin0 = min(bin0, math.floor(bounds.t0 - origin))
    if end >= bounds.t1 - CLOCK_SECONDS / 2:
        bin1 = max(bin1, math.ceil(bounds.t1 - origin) - 1)
    blame_start, blame_end = max(origin + bin0, bounds.t0), min(origin + bin1 + 1, bounds.t1)
    return _Window(start, end, bin0, bin1, blame_start, blame_end)


def _run_facts(
    reader: ReportReader, ended: Ending | None, verdicts: Iterable[VerdictRow]
) -> RunFacts:
    run, status, bounds, lines = (
        reader.run(),
        reader.status(),
        reader.bounds(),
        reader.broken_lines(),
    )
    events = max(0, bounds.last_ordinal - bounds.first_ordinal + 1) if bounds.last_ordinal else 0
    wall = run.wall_start
    return RunFacts(
        run_id=run.run_id,
        name=run.name,
        producer=run.producer,
        producer_version=run.producer_version,
        outcome=_outcome(status.outcome, ended),
        ending=None if ended is None else ended.words,
        complete=status.complete,
        producer_lost=status.lost,
        records=run.records,
        events=events,
        lost_events=sum(
            row.detail.lost_events or 0 for row in verdicts if isinstance(row.detail, Unknown)
        ),
        broken_lines=sum(line.skipped for line in lines),
        mended_lines=sum(not line.skipped for line in lines),
        seconds=bounds.t1 - bounds.t0,
        began_monotonic=bounds.t0,
        began_at=None if wall is None else wall + bounds.t0 - run.monotonic_start,
    )


def _row_group(row: BlameRow) -> str:
    return "" if row.row_group is None else str(row.row_group)


def _outcome(outcome: str | None, ended: Ending | None) -> str | None:
    """The producer's word, unless it calls a success what lost rows."""
    if outcome != "success" or ended is None or ended.good:
        return outcome
    return "failed" if ended.nothing_made else "incomplete"


def _bound_facts(bound: Bound) -> BoundFacts:
    return BoundFacts(
        bound.model,
        bound.cap,
        bound.source,
        bound.saturated,
        bound.waiting,
        bound.sets_the_pace,
        bound.sentence(),
        bound.advice,
    )


def _loss_line(loss: Loss, t0: float) -> LossLine:
    spans = loss.intervals(t0)
    return LossLine(
        loss.verdict, phrase(loss.verdict), loss.fraction, loss.resources, spans, loss.sentence(t0)
    )


def _worst_first(failures: Iterable[Failure]) -> list[Failure]:
    return sorted(
        failures, key=lambda failure: (-failure.rows_dropped, -failure.times, failure.first_at)
    )


def _error_line(failure: Failure, t0: float) -> ErrorLine:
    return ErrorLine(
        provider_of(failure.resource) if failure.resource else None,
        failure.resource or None,
        failure.column or None,
        failure.error,
        class_of_failure(failure),
        failure.times,
        failure.rows_dropped,
        failure.first_at - t0,
        failure.last_at - t0,
        failure.first_ordinal,
    )


def verdict_line(row: VerdictRow, t0: float) -> VerdictLine:
    """As the report has it, in run time."""
    context = row.context
    release = context.expected_release
    return VerdictLine(
        row.verdict,
        row.tier,
        row.resource,
        row.start - t0,
        row.end - t0,
        row.end - row.start,
        row.sentence,
        row.advice,
        row.evidence,
        context.also,
        context.holders,
        release - t0 if release is not None else None,
        row.detail,
        context.waiting,
        context.longest_waiter,
    )


def _urgency(row: VerdictRow) -> tuple[bool, float, float]:
    """What must never happen first, then the longest."""
    return (row.tier not in ("A", "B"), row.start - row.end, row.start)
