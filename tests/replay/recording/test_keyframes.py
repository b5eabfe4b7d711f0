"""Keyframes of changes: every state comes back, and large ones cost no more than their events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from engine.events import Event, RunInfo, SchedulerEvent
from engine.events.run_folder import RunFolder
from replay.recording.batch import FoldedBatch
from replay.recording.ingest import Ingest
from replay.recording.keyframes import Keyframe, pack_state, unpack_state
from replay.recording.opening import IN_MEMORY, WRITER_LIMIT_BYTES, connect_for_writing
from replay.recording.writer import RecordingWriter
from replay.sources.feed import open_journal
from replay.state.reducer import begin, reduce
from tests.effort import effort

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]


def many_ready(tasks: int, after: int) -> tuple[RunInfo, list[Event]]:
    """So many tasks become ready at once; then one after the other is leased and released."""
    events: list[Event] = []

    def tell(kind: str, n: int, **facts: Any) -> None:
        number = len(events) + 1
        task = f"a/0/{n}"
        events.append(
            SchedulerEvent(
                kind,
                number / 1000,
                number,
                task_id=task,
                diagnostics={"group": "g", "resources": {"submission": 1}},
                **facts,
            )
        )

    for n in range(tasks):
        tell("dependency_ready", n)
        tell("ready_enqueued", n)
    for n in range(after):
        tell("task_lease_acquired", n, task_lease_id=f"l{n}")
        tell("worker_spawned", n, task_lease_id=f"l{n}", task_execution_id=f"e{n}")
        tell("task_completed", n, task_execution_id=f"e{n}")
        tell("task_lease_released", n, task_lease_id=f"l{n}")
    return RunInfo("r", "many", resource_limits={"submission": 4}), events


@pytest.mark.parametrize("seed", range(effort(6, 60)))
@pytest.mark.parametrize("interval", [1, 7, 40])
def test_every_state_comes_back(
    play: Play,
    write_journal: WriteJournal,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    interval: int,
) -> None:
    monkeypatch.setattr("replay.recording.keyframes.SMALL_STATE_BYTES", 0)
    run, events = play(seed)
    ingest = Ingest(open_journal(write_journal(run, events)), ":memory:", interval)
    while ingest.step():
        pass
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
        if ordinal % 11 == 0 or ordinal % interval == 0:
            assert ingest.reader.state_at(ordinal) == state
    ingest.finish()
    assert ingest.reader.keyframe_bounds() == (0, len(events))
    ingest.close()


def test_a_state_packed_piece_by_piece_is_the_same(play: Play) -> None:
    run, events = play(3)
    events = events[: len(events) // 2]
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
    assert state.tasks
    assert unpack_state(pack_state(state)) == state


def test_what_is_kept_follows_what_has_changed(write_journal: WriteJournal) -> None:
    """20,000 live tasks: their keyframes and kept folds take less than the events themselves."""
    run, events = many_ready(20_000, 6_000)
    folder = write_journal(run, events)
    ingest = Ingest(open_journal(folder), folder.recording)
    kept = folds = 0
    append = ingest._writer.append

    def count(batch: FoldedBatch) -> None:
        nonlocal kept, folds
        kept += sum(len(frame.state) for frame in (*batch.keyframes, *batch.changes))
        if batch.fold is not None:
            folds += 1
        append(batch)

    ingest._writer.append = count  # type: ignore[method-assign]
    while ingest.step():
        pass
    assert kept < 30 * len(events)
    assert 2 <= folds <= 5
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
        if ordinal == 50_000:
            assert ingest.reader.state_at(ordinal) == state
    ingest.finish()
    ingest.close()


def test_an_import_without_a_kept_fold_goes_on(
    play: Play, write_journal: WriteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold of very many tasks is not kept: all is folded again, nothing is lost or twice."""
    monkeypatch.setattr("replay.recording.ingest.MOST_LIVE_TASKS_KEPT", -1)
    run, events = play(8, row_groups=4)
    folder = write_journal(run, events)
    taken = 0
    while taken < len(events):
        ingest = Ingest(open_journal(folder), folder.recording, 15)
        assert ingest.last_ordinal == taken
        taken += ingest.step(50)
        ingest.close()
    ingest = Ingest(open_journal(folder), folder.recording, 15)
    assert ingest.step() == 0
    ingest.finish()
    assert [event for _, event in ingest.reader.events(1, 10**9)] == events
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
    assert ingest.reader.state_at(len(events)).tasks == state.tasks
    ingest.close()


def test_rows_of_any_size_go_through_little_memory(tmp_path: Path) -> None:
    """The write-ahead log of large rows goes into the file before it fills what memory there is."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{WRITER_LIMIT_BYTES}B",
        "temp_directory": str(tmp_path / "spill"),
    }
    with duckdb.connect(str(tmp_path / "small.duckdb"), config=config) as connection:
        writer = RecordingWriter(connection)
        connection.execute("SET checkpoint_threshold = '1GB'")
        data = bytes(range(256)) * 32_768
        for ordinal in range(40):
            batch = FoldedBatch([], ordinal + 1, {})
            batch.keyframes = [Keyframe(ordinal, 0.0, ordinal.to_bytes(2, "big") + data)]
            writer.append(batch)
            writer.commit()
        assert connection.execute("SELECT count(*) FROM keyframes").fetchone() == (40,)


@pytest.mark.parametrize(("name", "mebibytes"), [("run.duckdb", 128), (IN_MEMORY, 64)])
def test_a_writer_leaves_memory_to_the_fold_beside_it(
    tmp_path: Path, name: str, mebibytes: int
) -> None:
    connection = connect_for_writing(name if name == IN_MEMORY else tmp_path / name)
    row = connection.execute("SELECT current_setting('memory_limit')").fetchone()
    connection.close()
    assert row is not None
    assert float(row[0].removesuffix(" MiB")) == pytest.approx(mebibytes, abs=1)
