"""What a silence costs: rows follow what has changed, not the seconds in which nothing did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import duckdb
import msgspec
import pytest

from engine.events import Event, RunInfo, SchedulerEvent
from engine.events.run_folder import RunFolder
from replay.playback.frame import Want
from replay.playback.session import Session
from replay.projections.fold import Fold, FoldOutput
from replay.recording.ingest import Ingest
from replay.recording.query import RecordingQuery
from replay.recording.reader import open_recording
from replay.sources.feed import open_journal
from replay.state.bins import FARTHEST_BIN, LONGEST_STRETCH, BlameStretches, within
from replay.state.rows import BlameRow
from tests.effort import effort
from tests.replay.stretches import bin_by_bin

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]
ROWS_PER_EVENT = 30
"""Of series and blame together: as many as there are series in these runs, about."""


def slowed(run: RunInfo, events: Sequence[Event], factor: float) -> list[Event]:
    """The same run, everything in it so many times as long."""
    start = run.monotonic_start
    return [
        msgspec.structs.replace(
            event, captured_at_monotonic=start + factor * (event.captured_at_monotonic - start)
        )
        for event in events
    ]


def with_a_tick_a_second(run: RunInfo, events: Sequence[Event]) -> list[Event]:
    """The same events, and between them a fact that changes nothing at the end of each second."""
    ticking: list[Event] = [events[0]]
    for before, event in pairwise(events):
        first = int(before.captured_at_monotonic - run.monotonic_start) + 1
        last = int(event.captured_at_monotonic - run.monotonic_start)
        ticking += [
            SchedulerEvent("metadata_diagnostic", run.monotonic_start + second, 0)
            for second in range(first, last + 1)
            if before.captured_at_monotonic < run.monotonic_start + second
        ]
        ticking.append(event)
    return numbered(ticking)


def numbered(events: Sequence[Event]) -> list[Event]:
    numbers = iter(range(1, len(events) + 1))
    return [
        msgspec.structs.replace(event, sequence=next(numbers))
        if isinstance(event, SchedulerEvent)
        else event
        for event in events
    ]


def folded(run: RunInfo, events: Sequence[Event]) -> FoldOutput:
    fold = Fold(run)
    fold.apply(events, 1)
    return fold.finish("success", False)


def series_of(output: FoldOutput) -> dict[tuple[int, str, str], tuple[float, ...]]:
    return {
        (row.bin, row.series, row.key): (row.mean, row.last, row.peak)
        for row in bin_by_bin(output.rollup)
        if row.series != "events"
    }


def blame_of(output: FoldOutput) -> dict[tuple[object, ...], float]:
    return {
        (row.bin, row.scope, row.column, row.row_group, row.resource, row.verdict): row.per_bin
        for row in bin_by_bin(output.blame)
    }


@pytest.mark.parametrize("seed", range(effort(4, 40)))
def test_silence_comes_to_the_same_as_a_fold_of_every_second(play: Play, seed: int) -> None:
    run, events = play(seed, row_groups=2)
    # Where ticks come a late heartbeat is no lag of the loop.
    reported = [event for event in events if event.event_kind != "scheduler_loop_heartbeat"]
    events = numbered(slowed(run, reported, 20.0))
    quiet, ticking = folded(run, events), folded(run, with_a_tick_a_second(run, events))
    assert series_of(quiet) == pytest.approx(series_of(ticking), abs=1e-6)
    once, each = blame_of(quiet), blame_of(ticking)
    pending = {"queue_order", "request_waiters_ahead", "lost_wakeup"}
    """A tick shows the loop alive, which proves more of these."""
    for place in once.keys() | each.keys():
        if place[-1] not in pending:
            assert once.get(place, 0.0) == pytest.approx(each.get(place, 0.0), abs=1e-6), place


@pytest.mark.parametrize("factor", [1.0, 300.0, 5_000.0])
def test_rows_follow_the_events_and_not_the_time(play: Play, factor: float) -> None:
    run, events = play(3, row_groups=3)
    output = folded(run, slowed(run, events, factor))
    assert len(output.rollup) + len(output.blame) < ROWS_PER_EVENT * len(events)


@pytest.mark.parametrize("leap", [10.0**9, 10.0**15, 1e300])
@pytest.mark.parametrize("start", [0.0, 1e9, 1e17])
def test_no_leap_of_the_clock_takes_a_step_a_second(play: Play, leap: float, start: float) -> None:
    run, events = play(5)
    run = msgspec.structs.replace(run, monotonic_start=start)
    half = len(events) // 2
    events = [
        msgspec.structs.replace(
            event,
            captured_at_monotonic=start + event.captured_at_monotonic + (leap if n > half else 0.0),
        )
        for n, event in enumerate(events)
    ]
    output = folded(run, events)
    assert len(output.rollup) + len(output.blame) < ROWS_PER_EVENT * len(events)
    bins = [row.bin for row in output.rollup] + [row.bin for row in output.blame]
    assert max(map(abs, bins)) <= FARTHEST_BIN


def test_what_stands_still_is_written_now_and_then() -> None:
    stretches = BlameStretches()
    row = BlameRow(0, "run", "", None, "a/b/chat", "working", 2.0)
    ended = []
    for number in range(3 * LONGEST_STRETCH):
        ended += stretches.add(number, [msgspec.structs.replace(row, bin=number)])
    assert [(row.bin, row.bins) for row in ended] == [
        (0, LONGEST_STRETCH),
        (LONGEST_STRETCH, LONGEST_STRETCH),
    ]
    ended += stretches.end()
    assert sum(row.seconds for row in ended) == 2.0 * 3 * LONGEST_STRETCH
    assert [row.bins for row in within(ended, 10, LONGEST_STRETCH + 4)] == [
        LONGEST_STRETCH - 10,
        5,
    ]


def test_a_recording_gives_a_row_for_each_second(
    play: Play, write_journal: WriteJournal, tmp_path: Path
) -> None:
    """The views stay by the second; a reader cuts stretches at what it was asked for."""
    run, events = play(7)
    events = slowed(run, events, 100.0)
    ingest = Ingest(open_journal(write_journal(run, events)), tmp_path / "long.duckdb")
    while ingest.step():
        pass
    ingest.finish()
    ingest.close()
    expected = folded(run, events)
    reader = open_recording(tmp_path / "long.duckdb")
    last = int(events[-1].captured_at_monotonic - run.monotonic_start)
    low, high = last // 3, last // 2
    series, blame = reader.rollup(low, high), reader.blame(low, high, "cell")
    assert any(row.bins > 1 for row in series)
    assert set(within(expected.rollup, low, high)) == set(series)
    cells = [row for row in expected.blame if row.scope == "cell"]
    assert set(within(cells, low, high)) == set(blame)
    reader.close()
    query = RecordingQuery(tmp_path / "long.duckdb")
    answer = query.run("SELECT count(*), count(DISTINCT (t, series, key)) FROM series")[1]
    seconds = len(bin_by_bin(expected.rollup))
    assert next(answer) == (seconds, seconds)
    answer = query.run("SELECT count(*), sum(seconds) FROM blame")[1]
    count, total = next(answer)
    assert count == len(bin_by_bin(expected.blame))
    assert total == pytest.approx(sum(row.seconds for row in expected.blame))
    query.close()


def test_a_recording_without_stretches_is_read_as_before(
    play: Play, write_journal: WriteJournal, tmp_path: Path
) -> None:
    """As older versions wrote them: a row for every second, full keyframes only."""
    run, events = play(9)
    path = tmp_path / "old.duckdb"
    ingest = Ingest(open_journal(write_journal(run, events)), path, keyframe_every=20)
    while ingest.step():
        pass
    ingest.finish()
    ingest.close()
    expected = folded(run, events)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "INSERT INTO rollup SELECT unnest(range(bin, bin + bins)), series, key, mean, last,"
            " peak FROM rollup_stretches"
        )
        connection.execute(
            'INSERT INTO blame SELECT unnest(range(bin, bin + bins)), scope, "column", row_group,'
            " resource, verdict, seconds FROM blame_stretches"
        )
        for table in ("rollup_stretches", "blame_stretches", "keyframe_changes"):
            connection.execute(f"DROP TABLE {table}")
    reader = open_recording(path)
    assert set(reader.rollup(-1, 10**6)) == set(bin_by_bin(expected.rollup))
    assert reader.state_at(len(events)).outcome == "success"
    reader.close()
    session = Session.open(path)
    assert session.frame(Want(samples=10, span=10.0)).sample_times
    session.close()
    query = RecordingQuery(path)
    assert next(query.run("SELECT count(*) FROM series")[1]) == (len(bin_by_bin(expected.rollup)),)
    query.close()


def test_a_fold_of_another_version_is_made_anew_and_writes_no_second_twice(
    play: Play, write_journal: WriteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = play(4, row_groups=3)
    events = slowed(run, events, 5.0)
    folder = write_journal(run, events)
    ingest = Ingest(open_journal(folder), folder.recording)
    ingest.step(len(events) // 2)
    ingest.keep_fold()
    ingest.close()
    monkeypatch.setattr("replay.projections.series.MEMORY_VERSION", 10**6)
    ingest = Ingest(open_journal(folder), folder.recording)
    while ingest.step():
        pass
    ingest.finish()
    rows = bin_by_bin(ingest.reader.rollup(-1, 10**6))
    places = [(row.bin, row.series, row.key) for row in rows]
    assert len(set(places)) == len(places)
    ingest.close()
