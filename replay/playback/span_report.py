"""What there is to say of the past that a screen shows, in the words of a report."""

from __future__ import annotations

from typing import NamedTuple

from engine.events import RunInfo
from replay.diagnosis.report.answer import Answer, compose
from replay.diagnosis.report.bottleneck import Bottleneck, bottleneck
from replay.diagnosis.report.pace import find_bound, find_slowest
from replay.diagnosis.report.provability import called_models, tells_of_calls
from replay.diagnosis.report.shares import Share, run_shares
from replay.diagnosis.verdicts import VerdictRow
from replay.playback.run_rows import RunRows
from replay.playback.stretch import Stretch, demand_of, total, traffic
from replay.state.ending import Ending
from replay.state.model import State
from replay.state.rows import BlameRow, RollupRow


class Span(NamedTuple):
    """Bins `first` to `last` as they stood after `events` events; 0 once the stream has ended."""

    first: int
    last: int
    events: int


class SpanReport:
    """Blame, limit and first paragraph of the last span that was asked for, read once."""

    def __init__(self) -> None:
        self._of: Span | None = None
        self._run_rows: list[BlameRow] = []
        self._cell_rows: list[BlameRow] = []
        self._verdicts: list[VerdictRow] = []
        self._rates_of: Span | None = None
        self._rate_rows: list[RollupRow] = []

    def forget(self) -> None:
        """Discard the cached rows."""
        self._of = self._rates_of = None

    def read(self, run: RunInfo, span: Span, rows: RunRows) -> None:
        """Read what lies in the span, unless that is what was read last."""
        if span == self._of:
            return
        self._of = span
        self._run_rows, self._cell_rows, self._verdicts = [], [], []
        if span.last >= span.first:
            self._run_rows = rows.blame(span.first, span.last, "run")
            self._cell_rows = rows.blame(span.first, span.last, "cell")
            start = run.monotonic_start + span.first
            self._verdicts = rows.verdicts_between(start, run.monotonic_start + span.last + 1)

    def read_rates(self, span: Span, rows: RunRows) -> None:
        """Read the series that rates are of."""
        if span != self._rates_of:
            self._rates_of = span
            known = span.last >= span.first
            self._rate_rows = rows.series(span.first, span.last) if known else []

    @property
    def run_rows(self) -> list[BlameRow]:
        """The blame of the run's capacity that was read last."""
        return self._run_rows

    def rate_rows(self, run: RunInfo, t0: float, at: float) -> tuple[list[RollupRow], float]:
        """The series read for rates, and how much of the run from `t0` to `at` they cover."""
        span = self._rates_of
        if span is None:
            return [], 0.0
        end = min(at, run.monotonic_start + span.last + 1)
        return self._rate_rows, max(0.0, end - max(t0, run.monotonic_start + span.first))

    def shares(self) -> tuple[Share, ...]:
        return run_shares(self._run_rows)

    def bottleneck(self, run: RunInfo, state: State, window: float) -> Bottleneck | None:
        bound = find_bound(run, state, self._run_rows, self._cell_rows)
        failures = list(state.failures.values())
        return bottleneck(self.shares(), bound, failures, window)

    def answer(self, run: RunInfo, state: State, ending: Ending | None, t0: float) -> Answer:
        bound = find_bound(run, state, self._run_rows, self._cell_rows)
        ended = "" if ending is None or ending.good else ending.sentence
        return compose(
            ended,
            bound,
            find_slowest(run, state),
            self.shares(),
            self._verdicts,
            t0,
            tells_of_calls(run),
            called_models(run),
        )

    def stretch(self, run: RunInfo, state: State, span: Span, rows: RunRows, t0: float) -> Stretch:
        """All there is to say of a stretch; what is read of it is kept apart from the span."""
        of = SpanReport()
        of.read(run, span, rows)
        of.read_rates(span, rows)
        start = run.monotonic_start + span.first
        end = run.monotonic_start + span.last + 1
        return Stretch(
            start,
            end,
            of.shares(),
            demand_of(of._run_rows),
            total(of._rate_rows, "tasks_done"),
            total(of._rate_rows, "rows_done"),
            total(of._rate_rows, "tokens"),
            traffic(of._rate_rows, end - start),
            of.bottleneck(run, state, end - start),
            of.answer(run, state, None, t0),
        )
