"""`FrameReader`: reads what a frame shows of one moment of a run."""

from __future__ import annotations

import msgspec

from engine.events import RunInfo
from replay.diagnosis.verdicts import VerdictRow
from replay.playback import chart_series, frame_builder
from replay.playback.capacity import capacity_plan
from replay.playback.frame import EventRow, Frame, LeaseBar, Want
from replay.playback.lives import Lives
from replay.playback.queue_rows import queue_rows
from replay.playback.run_rows import RunRows
from replay.playback.series_sampler import Sampler, Samples
from replay.playback.span_report import Span, SpanReport
from replay.playback.stretch import Stretch
from replay.recording.reader import Bounds
from replay.sources.base import Liveness
from replay.state.ending import ending_of
from replay.state.model import State


class Moment(msgspec.Struct, frozen=True, gc=False):
    """Where the cursor of a session stands, and what is known of its source."""

    run: RunInfo
    state: State
    """After the event at the cursor. Only to be read."""
    at: float
    """Monotonic time of the cursor."""
    following: bool
    bounds: Bounds
    """Of the run as far as it is read; its last ordinal is 0 before the first event."""
    reach: int
    """The last event that rows exist for."""
    derived_until: float
    """Derived rows reach so far; infinite where they are complete."""
    newest: State | None
    """After the last event that was read; None where it is to be read from the recording."""
    finished: bool
    """Nothing more will come."""
    liveness: Liveness
    outcome: str | None
    """Of the run, as its source says."""
    complete: bool
    """The recording holds the whole run."""
    broken_lines: int
    mended_lines: int
    late_events: int
    feed_notes: tuple[str, ...]
    awaited: str
    resumptions: tuple[tuple[float, float], ...]
    lag_seconds: float

    @property
    def at_end(self) -> bool:
        return self.state.ordinal == self.bounds.last_ordinal


class FrameReader:
    """Keeps what was read for the last frame, as most of it is the same in the next one."""

    def __init__(self) -> None:
        self._sampler = Sampler(0.0)
        self._span = SpanReport()
        self._lives = Lives()
        self._end: State | None = None
        self._stretch: tuple[Span, Stretch] | None = None

    def forget_rows(self) -> None:
        """They come from another recording from now on."""
        self._span.forget()

    def read(self, moment: Moment, rows: RunRows, want: Want) -> Frame:
        """Read the frame of a moment, with what `want` requires."""
        run, state, at, t0 = moment.run, moment.state, moment.at, moment.bounds.t0
        last, at_end = moment.bounds.last_ordinal, moment.at_end
        rows_at, edge = _edges(moment, want)
        # Of a live run some rows come late: what was pending is named once it is proved.
        events = 0 if moment.finished else last
        window = min(want.span, max(edge - t0, 0.0))
        if last:
            self._read_spans(moment, rows, want, events)
        ended = ending_of(state, moment.outcome if at_end else None, run.records)
        quiet = frame_builder.quiet_seconds(state, at, t0)
        present = want.until is None or edge == at
        past = self._past(moment, rows, want, edge, present)
        groups = frame_builder.group_rows(run, state, at)
        rate_rows, seconds = self._span.rate_rows(run, t0, rows_at)
        speed = frame_builder.rates(run, state, rate_rows, seconds, quiet is not None)
        return Frame(
            run=run,
            resumptions=moment.resumptions,
            liveness=moment.liveness,
            recorded=moment.finished,
            following=moment.following,
            ordinal=state.ordinal,
            at=at,
            t0=t0,
            t1=moment.bounds.t1,
            last_ordinal=last,
            outcome=state.outcome or (moment.outcome if at_end else None),
            lost_events=state.lost_events,
            gaps=tuple(msgspec.structs.replace(gap) for gap in state.gaps),
            broken_lines=moment.broken_lines,
            late_events=moment.late_events,
            progress=frame_builder.progress_copy(state.progress),
            rows_total=run.records,
            rows_per_second=speed.rows_per_second,
            tokens_per_second=speed.tokens_per_second,
            eta_seconds=speed.eta_seconds,
            eta_error_seconds=speed.eta_error_seconds,
            row_groups=frame_builder.row_groups_copy(state.row_groups),
            bottleneck=self._span.bottleneck(run, state, window) if last else None,
            blame=self._span.shares() if last else (),
            groups=groups,
            block=state.block,
            limits=frame_builder.limits(state),
            ceilings=chart_series.ceiling_rows(state, past, at, present, want.calls),
            sample_times=(*past.times, *[at] * present),
            queue_depth=chart_series.queue_series(groups, past, present),
            lag=moment.lag_seconds,
            edge=None if present else edge,
            blame_series=chart_series.blame_series(
                run, self._span.run_rows, edge, want.samples, want.span
            )
            if want.blame
            else (),
            stretch=self._read_stretch(moment, rows, want, events),
            focused=self._lives.read(
                want.focus, rows, run, moment.bounds, state, lambda: self._newest(moment, rows)
            ),
            bars=self._bars(moment, rows, want),
            events=_events(moment, rows, want),
            notes=_notes(moment, rows_at),
            awaited=moment.awaited,
            capacity=capacity_plan(run, state, rows.peaks()) if want.capacity else {},
            verdicts=_newest_verdicts(rows, want.verdicts) if last else (),
            standing=tuple(rows.verdicts_at(rows_at)) if want.standing and last else (),
            stop_reason=state.stop_reason,
            queue=queue_rows(run, state) if want.queue else (),
            aggregates=tuple(map(msgspec.structs.replace, state.aggregates.values())),
            errors=frame_builder.errors(state),
            quiet_seconds=quiet,
            answer=self._span.answer(run, state, ended, t0) if want.standing and last else None,
        )

    def _read_spans(self, moment: Moment, rows: RunRows, want: Want, events: int) -> None:
        """Read the blame of the window, and of the last seconds for the rates."""
        rows_at, edge = _edges(moment, want)
        window = min(want.span, max(edge - moment.bounds.t0, 0.0))
        whole = moment.at_end if want.until is None else edge >= moment.bounds.t1
        length = max(1, round(min(want.span, window + 2)))
        bins = _bins(moment, edge, length, moment.finished and whole)
        self._span.read(moment.run, Span(*bins, events), rows)
        ended = moment.finished and moment.at_end
        bins = _bins(moment, rows_at, frame_builder.RATE_SECONDS, ended)
        self._span.read_rates(Span(*bins, events), rows)

    def _past(
        self, moment: Moment, rows: RunRows, want: Want, edge: float, present: bool
    ) -> Samples:
        """Samples of the series up to `edge`; with `present` the frame adds the last one itself."""
        if self._sampler.start != moment.run.monotonic_start:
            self._sampler = Sampler(moment.run.monotonic_start)
        number = want.samples - present
        # The sampler divides the span into one sample more, for the present.
        span = want.span if present else want.span * (number + 1) / max(1, number)
        return self._sampler.past(rows.series, edge, moment.bounds.t0, number, span)

    def _bars(self, moment: Moment, rows: RunRows, want: Want) -> tuple[LeaseBar, ...]:
        bounds = moment.bounds
        if want.bars <= 0 or bounds.last_ordinal == 0:
            return ()
        edge = moment.at if want.until is None else min(want.until, bounds.t1)
        state, at_end = moment.state, moment.at_end
        if edge > moment.at:
            state, at_end = self._newest(moment, rows), True
        ordinal = bounds.last_ordinal if at_end else state.ordinal
        window = (edge - want.span, edge)
        leases, attempts = rows.reader.bars(*window, want.bars, ordinal)
        ended = at_end and moment.finished
        return frame_builder.lease_bars(state, leases, attempts, ordinal, ended, window, want.bars)

    def _newest(self, moment: Moment, rows: RunRows) -> State:
        """The state after the last event; nobody changes it."""
        if moment.newest is not None:
            return moment.newest
        if moment.at_end:
            return moment.state
        last = moment.bounds.last_ordinal
        if self._end is None or self._end.ordinal != last:
            self._end = rows.reader.state_at(last)
        return self._end

    def _read_stretch(
        self, moment: Moment, rows: RunRows, want: Want, events: int
    ) -> Stretch | None:
        """The seconds of the run that the stretch covers for the most part, at least one."""
        run, bounds = moment.run, moment.bounds
        if want.stretch is None or not bounds.last_ordinal:
            return None
        low, high = sorted(want.stretch)
        first = round(max(low, bounds.t0) - run.monotonic_start)
        last = round(min(high, bounds.t1) - run.monotonic_start) - 1
        first = min(first, int((bounds.t1 - run.monotonic_start) // 1))
        span = Span(first, max(first, last), events)
        if self._stretch is None or self._stretch[0] != span:
            report = self._span.stretch(run, moment.state, span, rows, bounds.t0)
            self._stretch = (span, report)
        return self._stretch[1]


def _edges(moment: Moment, want: Want) -> tuple[float, float]:
    """The instant up to which rows exist, and the end of the window that is shown."""
    t0 = moment.bounds.t0
    rows_at = min(moment.at, max(t0, moment.derived_until))
    edge = rows_at if want.until is None else max(t0, min(want.until, moment.bounds.t1))
    return rows_at, edge


def _notes(moment: Moment, rows_at: float) -> tuple[str, ...]:
    return (
        *frame_builder.notes(
            moment.run,
            moment.state,
            moment.liveness,
            moment.complete,
            moment.broken_lines,
            moment.late_events,
        ),
        *frame_builder.mended(moment.mended_lines),
        *frame_builder.late_rows(moment.at - rows_at, rows_at - moment.bounds.t0),
        *moment.feed_notes,
    )


def _newest_verdicts(rows: RunRows, limit: int) -> tuple[VerdictRow, ...]:
    return tuple(reversed(rows.verdicts()[-limit:])) if limit > 0 else ()


def _bins(moment: Moment, at: float, number: int, ended: bool) -> tuple[int, int]:
    """So many bins that lie wholly before an instant; where the run `ended`, the last bins."""
    start = moment.run.monotonic_start
    last = int((at - start) // 1) - (0 if ended else 1)
    return max(int((moment.bounds.t0 - start) // 1), last + 1 - number), last


def _events(moment: Moment, rows: RunRows, want: Want) -> tuple[EventRow, ...]:
    if moment.bounds.last_ordinal == 0 or want.events + want.events_after <= 0:
        return ()
    current = min(moment.state.ordinal, moment.reach)
    first, last = current - want.events + 1, current + want.events_after
    return tuple(EventRow(ordinal, event) for ordinal, event in rows.reader.events(first, last))
