from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from engine.events import (
    Event,
    RequestEvent,
    RequestResource,
    RunInfo,
    RuntimeCorrelation,
    SchedulerEvent,
)
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
from replay.projections.fold import FoldOutput
from replay.recording.ingest import Ingest
from replay.recording.reader import RecordingReader, open_recording
from replay.sources.base import BrokenLine, SourceError
from replay.sources.feed import open_journal, open_lines
from replay.state import reducer
from tests.fixtures.data_designer_format import generate

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]
Derived = Callable[[RunInfo, list[Event]], FoldOutput]
Kept = Callable[[RecordingReader], FoldOutput]

CORRELATION = RuntimeCorrelation("r1", 3, "question", "cell", "model", "0123456789abcdef", "e1")
ODD_EVENTS: list[Event] = [
    SchedulerEvent("selected", 0.1, 1),
    SchedulerEvent(
        "task_lease_acquired",
        0.1 + 0.2,
        2,
        CORRELATION,
        "question/17",
        "e1",
        "t1",
        "submission",
        "released",
        {},
        {"resources": {"submission": 1}, "x": [1.5, None, "é 🦜", {"deep": True}]},
    ),
    SchedulerEvent("not_a_kind_we_know", -5.0, 0, RuntimeCorrelation("r1"), snapshot={"a": 1}),
    RequestEvent("request_queue_formed", 1e-9, 1, None, None, None, RequestResource("p", "m", "")),
    RequestEvent(
        "request_lease_released",
        98.7654321,
        2**53,
        CORRELATION,
        "a1",
        "r1",
        RequestResource("alpha", "gen-8b", "chat"),
        "group",
        "success",
        {"limit": 4},
        {"held_seconds": 0.1},
    ),
]


def take_all(ingest: Ingest, limit: int = 10_000) -> None:
    while ingest.step(limit):
        pass


def test_the_exact_events_come_back(write_journal: WriteJournal, tmp_path: Path) -> None:
    run = RunInfo("r1", "odd", configuration={"key": [1, {"a": None}]})
    folder = write_journal(run, ODD_EVENTS)
    ingest = Ingest(open_journal(folder), folder.recording)
    take_all(ingest)
    ingest.finish()
    ingest.close()
    reader = open_recording(folder.recording)
    assert reader.events(1, 100) == list(enumerate(ODD_EVENTS, 1))
    assert reader.events(2, 3) == list(enumerate(ODD_EVENTS, 1))[1:3]
    assert reader.run() == run
    bounds = reader.bounds()
    assert (bounds.first_ordinal, bounds.last_ordinal) == (1, 5)
    assert (bounds.t0, bounds.t1) == (-5.0, 98.7654321)
    reader.close()


@pytest.mark.parametrize("limit", [7, 10_000])
def test_a_recording_holds_what_one_fold_derives(
    play: Play, write_journal: WriteJournal, derived: Derived, kept: Kept, limit: int
) -> None:
    run, events = play(3, row_groups=6)
    folder = write_journal(run, events, segments=3)
    ingest = Ingest(open_journal(folder), folder.recording, keyframe_every=50)
    take_all(ingest, limit)
    ingest.finish()
    ingest.close()
    reader = open_recording(folder.recording)
    assert [event for _, event in reader.events(1, len(events))] == events
    assert kept(reader) == derived(run, events)
    assert reader.status().complete
    assert (reader.status().outcome, reader.status().lost) == ("success", False)
    reader.close()


def test_the_state_at_any_ordinal_is_the_state_of_the_fold_then(
    play: Play, write_journal: WriteJournal
) -> None:
    run, events = play(5)
    folder = write_journal(run, events)
    ingest = Ingest(open_journal(folder), ":memory:", keyframe_every=37)
    take_all(ingest, 10)
    ingest.finish()
    reader = ingest.reader
    state = reducer.begin(run)
    assert reader.state_at(0) == state
    times = [event.captured_at_monotonic for event in events]
    for ordinal, event in enumerate(events, 1):
        reducer.reduce(state, event, ordinal, run)
        assert reader.state_at(ordinal) == state, ordinal
        at = times[ordinal - 1]
        assert reader.ordinal_at(at) == max(n for n, t in enumerate(times, 1) if t <= at)
    assert reader.ordinal_at(times[0] - 1) == 0
    assert reader.ordinal_at(float("inf")) == len(events)
    assert reader.keyframe_bounds() == (0, len(events))
    ingest.close()


@pytest.mark.parametrize(("fewest", "per_event"), [(20, 1_000), (1, 15)])
def test_keyframes_come_by_count_and_by_their_size(
    play: Play,
    write_journal: WriteJournal,
    monkeypatch: pytest.MonkeyPatch,
    fewest: int,
    per_event: int,
) -> None:
    """Several in one batch; a larger state has them farther apart."""
    monkeypatch.setattr("replay.recording.keyframes.FEWEST_EVENTS", fewest)
    monkeypatch.setattr("replay.recording.keyframes.BYTES_PER_EVENT", per_event)
    run, events = play(5, row_groups=4)
    with duckdb.connect() as connection:
        ingest = Ingest(open_journal(write_journal(run, events)), connection)
        take_all(ingest)
        ingest.finish()
        result = connection.execute("SELECT ordinal, octet_length(state) FROM keyframes").fetchall()
        assert len(result) > 5
        state = reducer.begin(run)
        kept = {ordinal for ordinal, _ in result}
        for ordinal, event in enumerate(events, 1):
            reducer.reduce(state, event, ordinal, run)
            if ordinal in kept:
                assert ingest.reader.state_at(ordinal) == state
        for (ordinal, size), (following, _) in pairwise(result):
            due = ordinal + max(fewest, size // per_event)
            assert following == min(due, len(events))
        ingest.close()


@pytest.mark.parametrize(("limit", "keyframe_every"), [(7, 25), (13, 10), (40, 10_000)])
def test_an_import_that_is_cut_off_anywhere_goes_on_without_a_difference(
    play: Play,
    write_journal: WriteJournal,
    derived: Derived,
    kept: Kept,
    limit: int,
    keyframe_every: int,
) -> None:
    run, events = play(8, row_groups=3, steps=60)
    folder = write_journal(run, events, segments=2)
    done = False
    while not done:
        ingest = Ingest(open_journal(folder), folder.recording, keyframe_every)
        done = ingest.step(limit) == 0
        if ingest.last_ordinal % 3 == 0:
            ingest.keep_fold()
        if done:
            ingest.finish()
        ingest.close()
    reader = open_recording(folder.recording)
    assert reader.events(0, 10**9) == list(enumerate(events, 1))
    assert kept(reader) == derived(run, events)
    reader.close()
    again = Ingest(open_journal(folder), folder.recording)
    assert again.finished
    assert again.step() == 0
    again.finish()
    assert kept(again.reader) == derived(run, events)
    again.close()


def test_what_a_source_tells_of_its_run_later_makes_no_difference_to_who_goes_on(
    tmp_path: Path, kept: Kept
) -> None:
    """Data Designer's lines name no dependencies: those are learnt as its events are read."""
    path = tmp_path / "run.jsonl"
    generate(path, storm=True, rows=100, buffer_size=100, requests=False)

    def read(name: str, cut: bool) -> tuple[RunInfo, FoldOutput]:
        feed = open_lines(path, False)
        ingest = Ingest(feed, tmp_path / name)
        assert ingest.step(100) > 0
        if cut:
            ingest.close()
            feed.close()
            feed = open_lines(path, False)
            ingest = Ingest(feed, tmp_path / name)
        take_all(ingest)
        ingest.finish()
        assert ingest.fold is not None
        assert ingest.fold.run != ingest.run
        read = ingest.fold.run, kept(ingest.reader)
        ingest.close()
        feed.close()
        return read

    assert read("cut", cut=True) == read("whole", cut=False)


def test_dependencies_that_a_whole_file_tells_are_known_from_its_first_event(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.jsonl"
    generate(path, storm=True, rows=100, buffer_size=100, requests=False)
    feed = open_lines(path, False)
    ingest = Ingest(feed, tmp_path / "recording.duckdb")
    ingest.step()
    assert ingest.fold is not None
    assert ingest.run is not None
    assert ingest.fold.run.columns == ingest.run.columns
    assert {column.depends_on for column in ingest.run.columns} > {()}
    ingest.close()
    feed.close()


def test_a_fold_of_another_version_is_folded_again(
    play: Play, write_journal: WriteJournal, derived: Derived, kept: Kept
) -> None:
    run, events = play(8, row_groups=2)
    folder = write_journal(run, events)
    first = Ingest(open_journal(folder), folder.recording, keyframe_every=10)
    for _ in range(5):
        first.step(10)
    first.close()
    with duckdb.connect(str(folder.recording)) as connection:
        connection.execute("UPDATE resume SET fold = ?", [b"of another version"])
    second = Ingest(open_journal(folder), folder.recording)
    take_all(second)
    second.finish()
    assert kept(second.reader) == derived(run, events)
    second.close()


def test_bars_are_those_that_overlap_the_window(play: Play, write_journal: WriteJournal) -> None:
    run, events = play(4, row_groups=5)
    folder = write_journal(run, events)
    ingest = Ingest(open_journal(folder), ":memory:")
    take_all(ingest)
    ingest.finish()
    leases, attempts = ingest.reader.bars(float("-inf"), float("inf"), 10_000)
    assert len(leases) > 30
    middle = leases[len(leases) // 2].acquired_at
    t0, t1 = middle - 0.5, middle + 0.5
    some, calls = ingest.reader.bars(t0, t1, 10_000)
    assert some == [b for b in leases if b.acquired_at <= t1 and (b.released_at or t1) >= t0]
    assert 0 < len(some) < len(leases)
    assert calls == [
        a
        for a in attempts
        if a.wait_started_at is not None and a.wait_started_at <= t1 and (a.released_at or t1) >= t0
    ]
    assert ingest.reader.bars(t0, t1, 3)[0] == some[-3:]
    ingest.close()


def test_broken_lines_are_kept_beside_the_events(play: Play, write_journal: WriteJournal) -> None:
    run, events = play(1, row_groups=1)
    folder = write_journal(run, events)
    whole = folder.segment(1).read_bytes().split(b"\n", 1)
    folder.segment(1).write_bytes(b"{broken\n" + whole[0] + b"\nworse\n" + whole[1])
    ingest = Ingest(open_journal(folder), ":memory:")
    take_all(ingest)
    ingest.finish()
    assert ingest.reader.events(1, len(events)) == list(enumerate(events, 1))
    broken = ingest.reader.broken_lines()
    assert [line.line_number for line in broken] == [1, 3]
    assert all(isinstance(line, BrokenLine) and line.problem for line in broken)
    ingest.close()


def test_a_run_that_wrote_nothing_makes_an_empty_recording(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    write_record(folder, RunRecord("r1", "demo", "ended", "failed"))
    ingest = Ingest(open_journal(folder), folder.recording)
    assert ingest.step() == 0
    ingest.finish()
    ingest.close()
    reader = open_recording(folder.recording)
    assert reader.bounds().last_ordinal == 0
    assert reader.events(0, 100) == []
    assert reader.state_at(0).tasks == {}
    assert reader.status().complete
    reader.close()


def test_readers_in_other_threads_have_cursors_of_their_own(
    play: Play, write_journal: WriteJournal
) -> None:
    run, events = play(2, row_groups=6)
    folder = write_journal(run, events)
    ingest = Ingest(open_journal(folder), ":memory:")
    seen: list[int] = []
    problems: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                last = ingest.reader.bounds().last_ordinal
                state = ingest.reader.state_at(last)
                assert state.ordinal == last
                seen.append(last)
        except BaseException as error:
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    ingest.step(1)
    for reader in readers:
        reader.start()
    take_all(ingest, 25)
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert seen
    ingest.close()


def test_a_reader_of_no_recording_says_so() -> None:
    connection = duckdb.connect(":memory:")
    with pytest.raises(SourceError):
        RecordingReader(connection).run()
    connection.close()
