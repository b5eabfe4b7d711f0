"""The `why` report: what a recording's blame and verdicts say, as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec

from engine.events import RunInfo
from replay.diagnosis.diagnosis_state import DIAGNOSIS_VERSION
from replay.diagnosis.report.answer import compose
from replay.diagnosis.report.losses import Loss, losses
from replay.diagnosis.report.markdown import render_markdown
from replay.diagnosis.report.pace import Bound, find_bound, find_slowest
from replay.diagnosis.report.provability import called_models, not_provable, tells_of_calls
from replay.diagnosis.report.readers import ReportReader
from replay.diagnosis.report.schema import (
    REPORT_VERSION,
    BlameLine,
    BoundFacts,
    ColumnBlame,
    ErrorLine,
    LossLine,
    PartBlame,
    RunFacts,
    SpendingLine,
    VerdictLine,
    WhyReport,
)
from replay.diagnosis.report.shares import Share, cell_shares, run_shares
from replay.diagnosis.report.task_history import build_history
from replay.diagnosis.report.text import render_text
from replay.diagnosis.verdicts import (
    WORKING,
    VerdictRow,
    advice,
    phrase,
    provider_of,
)
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


def build_report(
    reader: ReportReader, window: tuple[float, float] | None = None, task: str | None = None
) -> WhyReport:
    """Why the run did not go faster, over `window` (monotonic seconds) or all of it.

    Blame is kept by the second: a window takes in the seconds that lie in it for the most part, at
    least one. With `task` also the story of that task; raises `LookupError` where the recording has
    no such task.
    """
    run, status, bounds = reader.run(), reader.status(), reader.bounds()
    lines = reader.broken_lines()
    start, end = window if window is not None else (bounds.t0, bounds.t1)
    if window is None:
        bin0, bin1 = 0, math.ceil(end - run.monotonic_start)
    else:
        bin0, bin1 = _seconds_of(start - run.monotonic_start, end - run.monotonic_start)
        if start <= bounds.t0 + CLOCK_SECONDS / 2:
            bin0 = min(bin0, math.floor(bounds.t0 - run.monotonic_start))
        if end >= bounds.t1 - CLOCK_SECONDS / 2:
            bin1 = max(bin1, math.ceil(bounds.t1 - run.monotonic_start) - 1)
    begin = run.monotonic_start + bin0
    run_rows = reader.blame(bin0, bin1, "run")
    cell_rows = reader.blame(bin0, bin1, "cell")
    shown = CLOCK_SECONDS / 2
    verdicts = sorted(reader.verdicts(start - shown, end + shown), key=_urgency)
    in_demand = run_shares(run_rows)
    state = reader.state_at(reader.ordinal_at(end) if window is not None else bounds.last_ordinal)
    failures = list(state.failures.values())
    if window is not None and start > bounds.t0:
        failures = since(reader.state_at(reader.ordinal_at(start)), state)
    at_end = window is None or end >= bounds.t1
    ended = ending_of(state, status.outcome, run.records) if at_end else None
    bound = find_bound(run, state, run_rows, cell_rows)
    gone = LOST if status.lost and at_end else ""
    answer = compose(
        gone if ended is None or ended.good else ended.sentence,
        bound,
        find_slowest(run, state),
        in_demand,
        verdicts,
        bounds.t0,
        tells_of_calls(run),
        called_models(run),
    )
    groups = {column.name: column.group for column in run.columns}
    providers = {column.name: provider_of(column.request_resource or "") for column in run.columns}
    lost = sum(row.detail.lost_events or 0 for row in verdicts if isinstance(row.detail, Unknown))
    return WhyReport(
        version=REPORT_VERSION,
        diagnosis_version=DIAGNOSIS_VERSION,
        answer=answer.text,
        run=RunFacts(
            run_id=run.run_id,
            name=run.name,
            producer=run.producer,
            producer_version=run.producer_version,
            outcome=_outcome(status.outcome, ended),
            ending=None if ended is None else ended.words,
            complete=status.complete,
            producer_lost=status.lost,
            records=run.records,
            events=max(0, bounds.last_ordinal - bounds.first_ordinal + 1)
            if bounds.last_ordinal
            else 0,
            lost_events=lost,
            broken_lines=sum(line.skipped for line in lines),
            mended_lines=sum(not line.skipped for line in lines),
            seconds=bounds.t1 - bounds.t0,
            began_monotonic=bounds.t0,
            began_at=run.wall_start + bounds.t0 - run.monotonic_start
            if run.wall_start is not None
            else None,
        ),
        start=start - bounds.t0,
        end=end - bounds.t0,
        blame_start=max(start if window is None else begin, bounds.t0) - bounds.t0,
        blame_end=min(end if window is None else begin + bin1 + 1 - bin0, bounds.t1) - bounds.t0,
        run_blame=_lines(run, in_demand),
        cell_blame=_lines(run, cell_shares(cell_rows)),
        cell_blame_by_column=_by_column(run, cell_rows),
        verdicts=tuple(verdict_line(row, bounds.t0) for row in verdicts),
        run_seconds=math.fsum(row.seconds for row in run_rows),
        cell_seconds=math.fsum(row.seconds for row in cell_rows),
        lacks=run.lacks,
        bound=None if bound is None else _bound_facts(bound),
        losses=tuple(_loss_line(loss, bounds.t0) for loss in losses(in_demand, verdicts)),
        spending=tuple(
            SpendingLine(**msgspec.structs.asdict(row))
            for row in reader.spending()
            if row.prompt_tokens or row.completion_tokens or row.cost is not None
        ),
        errors=tuple(_error_line(failure, bounds.t0) for failure in _worst_first(failures)),
        run_blame_by_provider=_by_part(
            run,
            (provider_of(row.resource) for row in run_rows),
            run_rows,
            run_shares,
        ),
        cell_blame_by_row_group=_by_part(
            run,
            ("" if row.row_group is None else str(row.row_group) for row in cell_rows),
            cell_rows,
            cell_shares,
        ),
        cell_blame_by_group=_by_part(
            run,
            (groups.get(row.column, "") for row in cell_rows),
            cell_rows,
            cell_shares,
        ),
        cell_blame_by_provider=_by_part(
            run,
            (providers.get(row.column, "") for row in cell_rows),
            cell_rows,
            cell_shares,
        ),
        not_provable=not_provable(run),
        task=None
        if task is None
        else build_history(reader, task, reader.verdicts(), None if window is None else end),
    )


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
    return sorted(failures, key=lambda one: (-one.rows_dropped, -one.times, one.first_at))


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


def _seconds_of(start: float, end: float) -> tuple[int, int]:
    """The first and the last second of a window, both included."""
    first, last = round(start), round(end) - 1
    return (first, last) if last >= first else (math.floor((start + end) / 2),) * 2


def _by_part(
    run: RunInfo,
    parts: Iterable[str],
    rows: list[BlameRow],
    shares: Callable[[list[BlameRow]], Sequence[Share]],
) -> tuple[PartBlame, ...]:
    """Blame by part, those with numbers for a name in the order of these."""
    by_part: dict[str, list[BlameRow]] = {}
    for part, row in zip(parts, rows, strict=True):
        if part:
            by_part.setdefault(part, []).append(row)
    names = sorted(by_part, key=lambda name: (int(name) if name.isdecimal() else 0, name))
    return tuple(
        PartBlame(
            name,
            math.fsum(row.seconds for row in by_part[name]),
            _lines(run, shares(by_part[name])),
        )
        for name in names
    )


def _lines(run: RunInfo, shares: Sequence[Share]) -> tuple[BlameLine, ...]:
    return tuple(
        BlameLine(
            share.verdict,
            phrase(share.verdict),
            share.resource,
            share.fraction,
            advice(share.verdict, share.resource or "", run) if share.verdict != WORKING else "",
        )
        for share in shares
    )


def _by_column(run: RunInfo, rows: list[BlameRow]) -> tuple[ColumnBlame, ...]:
    by_name: dict[str, list[BlameRow]] = {}
    for row in rows:
        by_name.setdefault(row.column, []).append(row)
    order = {column.name: place for place, column in enumerate(run.columns)}
    names = sorted(by_name, key=lambda name: (order.get(name, len(order)), name))
    return tuple(
        ColumnBlame(
            name,
            math.fsum(row.seconds for row in by_name[name]),
            _lines(run, cell_shares(by_name[name])),
        )
        for name in names
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
