"""One run under a cursor: the same instant however it is reached, live or recorded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from engine.events import Event, JournalEnd, JournalHeader, RunInfo, encode_lines
from replay.playback import frame_builder
from replay.playback.focus import CallFocus, TaskFocus, TasksFocus
from replay.playback.frame import Frame, LeaseBar, Segment, Want
from replay.playback.frame_builder import bar_waits
from replay.playback.session import Session
from replay.projections.fold import Fold
from replay.runs.recorder import finish_import
from replay.sources.base import SourceError
from replay.state.model import State
from replay.state.reducer import begin, reduce
from replay.state.waits import Waits, waits
from tests.fixtures.data_designer_format import generate, lines
from tests.replay.producer import Producer
from tests.replay.random_engine import Play

WANT = Want(samples=12, span=3.0, bars=200, events=5, events_after=3)
LITTLE = Want(samples=12, span=3.0)


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Session]]:
    """Opens sessions and closes them after the test."""
    sessions: list[Session] = []

    def open_one(path: Path) -> Session:
        sessions.append(Session.open(path))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()


Open = Callable[[Path], Session]


def read_all(session: Session) -> Frame:
    while session.refresh():
        pass
    return session.frame(WANT)


def test_no_time_has_passed_before_the_first_event_is_handed_out(tmp_path: Path) -> None:
    """The first lines of a growing file wait for earlier ones; what clock they have is known."""
    path = tmp_path / "scheduler_events.jsonl"
    head = [line for line in lines(storm=False) if "request_attempt_id" not in line][:3]
    path.write_text("".join(json.dumps(line) + "\n" for line in head))
    session = Session.open(path, growing=True)
    try:
        frame = read_all(session)
        assert (frame.last_ordinal, session.holds_back) == (0, True)
        assert frame.t0 == frame.t1 == frame.at
    finally:
        session.close()


def states(run: RunInfo, events: list[Event]) -> Iterator[tuple[int, State]]:
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
        yield ordinal, state


def lines_file(path: Path, run: RunInfo, events: list[Event]) -> Path:
    file = path / "events.jsonl"
    end = JournalEnd("success", events[-1].captured_at_monotonic, 0, 0)
    file.write_bytes(encode_lines([JournalHeader(run, 1, 1), *events, end]))
    return file


def recorded(path: Path, run: RunInfo, events: list[Event]) -> Path:
    producer = Producer(path, run)
    producer.write(events)
    producer.end(events[-1].captured_at_monotonic)
    finish_import(producer.folder)
    return producer.folder.recording


@pytest.fixture(params=["recording", "loaded"])
def finished(
    request: pytest.FixtureRequest, tmp_path: Path, play: Play, opened: Open
) -> tuple[Session, RunInfo, list[Event]]:
    """A finished run, asked where it lies or folded into memory."""
    run, events = play(17, row_groups=1)
    make = recorded if request.param == "recording" else lines_file
    session = opened(make(tmp_path, run, events))
    read_all(session)
    return session, run, events


Finished = tuple[Session, RunInfo, list[Event]]


def test_every_instant_is_the_fold_however_it_is_reached(finished: Finished) -> None:
    session, run, events = finished
    forward: dict[int, Frame] = {}
    session.seek_ordinal(1)
    for ordinal, state in states(run, events):
        frame = forward[ordinal] = session.frame(WANT)
        assert (frame.ordinal, frame.at) == (ordinal, state.time)
        assert frame.groups == frame_builder.group_rows(run, state, state.time)
        assert frame.limits == frame_builder.limits(state)
        assert [row.ceiling for row in frame.ceilings] == [
            state.ceilings[key] for key in sorted(state.ceilings)
        ]
        assert frame.progress == state.progress
        assert frame.row_groups == state.row_groups
        assert frame.block == state.block
        session.step(1)
    for ordinal in range(len(events), 0, -1):
        assert session.frame(WANT) == forward[ordinal]
        session.step(-1)
    order = list(forward)
    random.Random(1).shuffle(order)
    for ordinal in order:
        session.seek_ordinal(ordinal)
        there = forward[ordinal]
        assert session.frame(LITTLE) == replace(there, bars=(), events=())


def test_bars_end_only_where_the_cursor_has_seen_them_end(finished: Finished) -> None:
    session, run, events = finished
    everything = Want(samples=2, span=1e6, bars=10_000)
    for ordinal, state in states(run, events):
        session.seek_ordinal(ordinal)
        bars = session.frame(everything).bars
        held = {task.lease_id for task in state.tasks.values() if task.lease_id is not None}
        assert {bar.lease_id for bar in bars if bar.end is None} == held
        acquired = [e for e in events[:ordinal] if e.event_kind == "task_lease_acquired"]
        assert len(bars) == len(acquired)
        waiting = [
            segment.attempt_id for bar in bars for segment in bar.segments if segment.end is None
        ]
        assert sorted(waiting) == sorted(state.attempts)
        assert all(bar.result != "unknown" for bar in bars)


def test_the_waits_of_a_bar_are_those_of_its_lease(finished: Finished) -> None:
    session, run, events = finished
    fold = Fold(run)
    fold.apply(events, 1)
    rows = fold.finish(None, lost=False)
    by_lease = {row.lease_id: row for row in rows.leases}
    session.seek_ordinal(len(events))
    frame = session.frame(Want(samples=2, span=1e6, bars=10_000))
    assert len(frame.bars) == len(by_lease)
    for bar in frame.bars:
        lease = by_lease[bar.lease_id]
        attempts = [row for row in rows.attempts if row.execution_id == lease.execution_id]
        expected = waits(lease, attempts, frame.at)
        assert astuple(bar_waits(bar, frame.at)) == pytest.approx(astuple(expected))


def test_the_time_of_two_calls_at_once_is_not_taken_from_the_worker_twice() -> None:
    calls = [Segment("in_provider", 11.0, 13.0, "success", f"a{n}", "r") for n in (1, 2)]
    bar = LeaseBar("t1", "q/1", "q", "g", 0, 10.0, 13.0, None, tuple(calls), None, 8.0, 9.5, 10.0)
    assert bar_waits(bar, 30.0) == Waits(1.5, 0.5, 2.0, 0.0, 4.0, 1.0)
    unknown = bar_waits(replace(bar, enqueued_at=None, spawned_at=None), 30.0)
    assert (unknown.ready_queue_wait, unknown.own_time) == (None, None)


def test_a_bar_tells_where_its_time_went(finished: Finished) -> None:
    session, _, _ = finished
    bars = session.frame(Want(samples=2, span=1e6, bars=10_000)).bars
    bar = next(bar for bar in bars if bar.column == "question" and bar.result == "completed")
    assert [segment.kind for segment in bar.segments][-1] in ("in_provider", "leased", "waiting")
    assert all(bar.start <= segment.start for segment in bar.segments)
    assert bar.enqueued_at is not None
    assert bar.selected_at is not None
    assert bar.ready_at is not None
    assert bar.ready_at <= bar.enqueued_at <= bar.selected_at <= bar.start
    newest = session.frame(Want(samples=2, span=1e6, bars=3)).bars
    assert newest == bars[-3:]


def test_events_around_the_cursor(finished: Finished) -> None:
    session, _, events = finished
    session.seek_ordinal(10)
    rows = session.frame(Want(events=4, events_after=2)).events
    assert [row.ordinal for row in rows] == [7, 8, 9, 10, 11, 12]
    assert [row.event for row in rows] == events[6:12]
    assert session.frame(Want()).events == ()


def test_the_cursor_stays_within_the_run(finished: Finished) -> None:
    session, _, events = finished
    session.seek_ordinal(10_000_000)
    assert session.frame(WANT).ordinal == len(events)
    session.step(5)
    assert session.frame(WANT).ordinal == len(events)
    session.seek_ordinal(-3)
    session.step(-1)
    assert session.frame(WANT).ordinal == 1
    session.seek_time(1e9)
    frame = session.frame(WANT)
    assert (frame.ordinal, frame.at) == (len(events), frame.t1)
    session.seek_time(-1e9)
    assert session.frame(WANT).at == frame.t0


def test_playing_goes_by_the_time_of_the_run(finished: Finished) -> None:
    session, _, events = finished
    session.seek_ordinal(1)
    t0 = session.frame(WANT).t0
    for _ in range(40):
        session.advance(0.13)
        frame = session.frame(WANT)
        if frame.at == frame.t1:
            break
        passed = [n for n, e in enumerate(events, 1) if e.captured_at_monotonic <= frame.at]
        assert frame.ordinal == passed[-1]
    session.seek_time(t0 + 1.5)
    assert session.frame(WANT).at == t0 + 1.5


def test_series_have_as_many_samples_as_wanted_and_end_in_the_present(finished: Finished) -> None:
    session, _, events = finished
    for ordinal in range(1, len(events) + 1, 9):
        session.seek_ordinal(ordinal)
        for samples, span in ((12, 3.0), (1, 60.0), (40, 4.0), (7, 600.0)):
            frame = session.frame(Want(samples=samples, span=span))
            assert len(frame.sample_times) == samples
            assert frame.sample_times[-1] == frame.at
            assert list(frame.sample_times) == sorted(frame.sample_times)
            assert frame.at - frame.sample_times[0] <= span
            assert [depth[-1] for depth in frame.queue_depth] == [g.queued for g in frame.groups]
            assert all(len(depth) == samples for depth in frame.queue_depth)
            for row in frame.ceilings:
                assert len(row.limits) == len(row.waiters) == len(row.cooling) == samples
                assert row.limits[-1] == row.ceiling.limit
                assert row.in_flight[-1] == row.ceiling.in_flight
            assert frame.blame_series == ()


def test_blame_over_time_adds_up_to_the_blame_of_the_span(finished: Finished) -> None:
    session, run, _ = finished
    session.seek_time(run.monotonic_start + 5.0)
    frame = session.frame(Want(samples=4, span=4.0, blame=True))
    assert all(len(values) == 4 for _, values in frame.blame_series)
    for values in zip(*(values for _, values in frame.blame_series), strict=True):
        assert sum(values) == pytest.approx(1.0) or sum(values) == 0.0
    bins: dict[int, dict[str, float]] = {}
    for row in session.reader.blame(1, 4, "run"):
        for number in range(row.bin, row.bin + row.bins):
            of = bins.setdefault(number, {})
            of[row.verdict] = of.get(row.verdict, 0.0) + row.per_bin
    assert bins
    for verdict, values in frame.blame_series:
        for number, value in enumerate(values, 1):
            whole = sum(bins.get(number, {}).values())
            part = bins.get(number, {}).get(verdict, 0.0)
            assert value == pytest.approx(part / whole if whole else 0.0)


def test_series_and_bars_may_end_behind_the_cursor(finished: Finished) -> None:
    session, run, _ = finished
    start = run.monotonic_start
    session.seek_time(start + 2.0)
    frame = session.frame(Want(samples=4, span=4.0, until=start + 5.0, bars=500))
    assert (frame.at, frame.edge) == (start + 2.0, start + 5.0)
    assert frame.sample_times == pytest.approx([start + n for n in range(2, 6)])
    session.seek_time(start + 5.0)
    later = session.frame(Want(samples=5, span=5.0, bars=500))
    for now, then in zip(frame.queue_depth, later.queue_depth, strict=True):
        known = dict(zip(map(round, later.sample_times[:-1]), then, strict=False))
        both = [(at, value) for at, value in zip(map(round, frame.sample_times), now, strict=True)]
        shared = [(value, known[at]) for at, value in both if at in known]
        assert len(shared) >= 3
        assert [value for value, _ in shared] == pytest.approx([value for _, value in shared])
    behind = [bar for bar in frame.bars if bar.start > start + 2.0]
    assert behind
    assert {bar.lease_id for bar in behind} <= {bar.lease_id for bar in later.bars}


def test_a_stretch_has_its_own_blame_and_counts(finished: Finished) -> None:
    session, run, _ = finished
    start = run.monotonic_start
    session.seek_time(start + 2.0)
    frame = session.frame(Want(stretch=(start + 4.9, start + 1.9)))
    stretch = frame.stretch
    assert stretch is not None
    assert (stretch.start, stretch.end) == (start + 2, start + 5)
    rows = session.reader.blame(2, 4, "run")
    assert stretch.demand == pytest.approx(sum(row.seconds for row in rows))
    assert sum(share.fraction for share in stretch.shares) == pytest.approx(1.0)
    done = sum(
        row.mean * row.bins for row in session.reader.rollup(2, 4) if row.series == "tasks_done"
    )
    assert stretch.tasks_done == pytest.approx(done)
    assert stretch.answer.text


def test_a_task_a_call_and_the_tasks_of_a_row_or_group(finished: Finished) -> None:
    session, _, events = finished
    session.seek_ordinal(len(events) // 2)
    lease = session.reader.leases_that('"row" IS NOT NULL')[-1]
    calls = session.reader.life(lease.task_id)[1]
    assert calls
    focused = session.frame(Want(focus=TaskFocus(lease.task_id))).focused
    assert focused is not None
    assert focused.history is not None
    assert focused.history.column == lease.column
    assert [call.attempt_id for call in focused.calls] == [call.attempt_id for call in calls]
    ids = {event.event.task_id for event in focused.events if hasattr(event.event, "task_id")}
    assert lease.task_id in ids
    assert [line.ordinal for line in focused.events] == sorted(
        line.ordinal for line in focused.events
    )
    call = session.frame(Want(focus=CallFocus(calls[0].attempt_id))).focused
    assert call is not None
    assert call.owner is not None
    assert call.owner.task_id == lease.task_id
    assert {event.event.request_attempt_id for event in call.events} == {calls[0].attempt_id}  # type: ignore[union-attr]
    row = session.frame(Want(focus=TasksFocus(row=lease.row))).focused
    assert row is not None
    assert lease.task_id in {line.task_id for line in row.tasks}
    assert {line.row for line in row.tasks} <= {lease.row, None}
    groups = session.frame(Want()).groups
    for group in groups:
        listed = session.frame(Want(focus=TasksFocus(group=group.key))).focused
        assert listed is not None
        queued = sum(line.phase == "queued" for line in listed.tasks)
        assert queued == group.queued
    nothing = session.frame(Want(focus=TaskFocus("no such task"))).focused
    assert nothing is not None
    assert nothing.history is None


def test_samples_of_whole_seconds_are_the_rollup_itself(finished: Finished) -> None:
    session, run, _ = finished
    session.seek_time(run.monotonic_start + 4.5)
    frame = session.frame(Want(samples=5, span=5.0))
    assert frame.sample_times[:-1] == tuple(run.monotonic_start + n for n in (1, 2, 3, 4))
    rows = {(row.bin, row.series, row.key): row for row in session.reader.rollup(0, 3)}
    for group, depth in zip(frame.groups, frame.queue_depth, strict=True):
        expected = [
            rows[n, "queue_depth", group.key].mean if (n, "queue_depth", group.key) in rows else 0
            for n in range(4)
        ]
        assert list(depth[:-1]) == pytest.approx(expected)


def test_the_blame_adds_up_to_one(finished: Finished) -> None:
    session, _, _ = finished
    session.follow()
    frame = session.frame(Want(span=1e4))
    assert sum(share.fraction for share in frame.blame) == pytest.approx(1.0)
    assert frame.bottleneck is not None
    assert (frame.outcome, frame.liveness, frame.recorded) == ("success", "ended", True)
    assert frame.rows_total == frame.progress.rows_done + frame.progress.rows_dropped
    assert frame.eta_seconds is None


def test_a_live_run_is_followed_held_and_followed_again(
    tmp_path: Path, play: Play, opened: Open
) -> None:
    run, events = play(23)
    producer = Producer(tmp_path, run)
    session = opened(producer.folder.path)
    session.refresh()
    waiting = session.frame(WANT)
    assert (waiting.liveness, waiting.ordinal, waiting.events) == ("waiting", 0, ())
    producer.write(events[:40])
    assert session.refresh()
    frame = session.frame(WANT)
    assert (frame.liveness, frame.ordinal, frame.last_ordinal) == ("live", 40, 40)
    assert (frame.following, frame.recorded) == (True, False)
    assert not session.refresh()
    before = repr(frame)
    session.hold()
    producer.write(events[40:90])
    assert session.refresh()
    held = session.frame(WANT)
    assert (held.ordinal, held.last_ordinal, held.following) == (40, 90, False)
    later = replace(held, following=True, t1=frame.t1, last_ordinal=40, events=(), lag=0.0)
    assert later == replace(frame, events=(), lag=0.0)
    assert held.t1 == events[89].captured_at_monotonic
    session.follow()
    newest = session.frame(WANT)
    assert (newest.ordinal, newest.at) == (90, held.t1)
    assert repr(frame) == before
    producer.write(events[90:])
    producer.end(events[-1].captured_at_monotonic)
    last = read_all(session)
    assert (last.liveness, last.outcome, last.recorded) == ("ended", "success", True)
    assert last.ordinal == len(events)
    assert not session.refresh()


def test_a_dead_producer_leaves_what_is_open_unknown(
    tmp_path: Path, play: Play, opened: Open
) -> None:
    run, events = play(4)
    cut = next(i for i, e in enumerate(events) if e.event_kind == "model_request_started") + 1
    producer = Producer(tmp_path, run)
    session = opened(producer.folder.path)
    producer.write(events[:cut])
    live = read_all(session)
    assert {bar.result for bar in live.bars if bar.end is None} == {None}
    producer.lock.release()
    frame = read_all(session)
    assert (frame.liveness, frame.outcome, frame.recorded) == ("lost", None, True)
    unknown = [bar for bar in frame.bars if bar.result == "unknown"]
    assert len(unknown) == sum(g.leased for g in frame.groups) > 0
    assert all(bar.end is None for bar in unknown)
    assert "The producer is gone: no end was written. What was open then is unknown." in frame.notes
    session.seek_ordinal(cut - 1)
    assert all(bar.result != "unknown" for bar in session.frame(WANT).bars)


@pytest.mark.parametrize("held", [True, False])
def test_the_recorder_may_finish_and_remove_the_journal_under_an_open_session(
    tmp_path: Path, play: Play, opened: Open, held: bool
) -> None:
    run, events = play(31)
    producer = Producer(tmp_path, run)
    session = opened(producer.folder.path)
    producer.write(events[:60])
    read_all(session)
    if held:
        session.seek_ordinal(33)
    at = session.frame(WANT)
    producer.begin_segment()
    producer.write(events[60:])
    producer.end(events[-1].captured_at_monotonic)
    finish_import(producer.folder)
    assert not producer.folder.journal.exists()
    frame = read_all(session)
    assert (frame.liveness, frame.last_ordinal, frame.recorded) == ("ended", len(events), True)
    if held:
        assert (frame.ordinal, frame.at, frame.groups) == (33, at.at, at.groups)
        session.follow()
    assert session.frame(WANT).ordinal == len(events)
    session.step(-40)
    there = session.frame(WANT)
    state = next(s for n, s in states(run, events) if n == len(events) - 40)
    assert there.groups == frame_builder.group_rows(run, state, state.time)


def test_damage_is_said_in_the_frame(tmp_path: Path, play: Play, opened: Open) -> None:
    run, events = play(8)
    del events[30:37]
    file = lines_file(tmp_path, run, events)
    lines = file.read_bytes().splitlines(keepends=True)
    lines.insert(20, b"{torn\n")
    file.write_bytes(b"".join(lines))
    frame = read_all(opened(file))
    assert frame.broken_lines == 1
    assert frame.lost_events == 7
    assert any(note.startswith("7 events are missing") for note in frame.notes)
    assert "1 line could not be read and left out." in frame.notes


def test_what_is_no_source_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere"):
        Session.open(tmp_path / "nowhere")


def test_stalls_are_reached_one_after_another(tmp_path: Path) -> None:
    generate(tmp_path / "storm.jsonl", storm=True, rows=20)
    session = Session.open(tmp_path / "storm.jsonl", growing=False)
    try:
        while session.refresh() or session.behind:
            pass
        verdicts = session.frame(Want(verdicts=100)).verdicts
        starts = sorted({row.start for row in verdicts})
        assert len(starts) > 1
        assert [row.start for row in verdicts] == sorted((r.start for r in verdicts), reverse=True)
        session.hold()
        session.seek_time(starts[0] - 1.0)
        assert session.frame(Want(standing=True)).standing == ()
        for start in starts:
            session.seek_stall(1)
            frame = session.frame(Want(standing=True))
            assert frame.at == start
            here = [row for row in reversed(verdicts) if row.start <= start <= row.end]
            assert list(frame.standing) == here
            assert session.frame(Want()).standing == ()
        session.seek_stall(1)
        assert session.frame(Want()).at == starts[-1]
        session.seek_stall(-1)
        assert session.frame(Want()).at == starts[-2]
    finally:
        session.close()
