"""Waiting tasks are kept packed: nobody sees a difference but in memory."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import msgspec
import pytest

from engine.events import Event, RunInfo, SchedulerEvent
from replay.playback.frame_builder import group_rows
from replay.projections.fold import Fold
from replay.state.live_tasks import PackedTasks
from replay.state.model import State
from replay.state.reducer import begin, reduce
from replay.state.wire import copy_state, decode_state, encode_state
from tests.effort import effort
from tests.replay.random_engine import Play

LIMIT = "replay.state.live_tasks.MOST_UNPACKED"
WIDE = "replay.state.id_table.WIDE"
MOST_UNPACKED = "replay.state.live_tasks.MOST_UNPACKED"
NEVER = 10**9
SEEDS = range(effort(6, 100))
WAITING = effort(20_000, 40_000)


def waiting_events(count: int) -> list[Event]:
    """So many tasks become ready, and then enter the queue, a hundred in each of their groups."""
    events: list[Event] = []
    for kind in ("dependency_ready", "ready_enqueued"):
        for number in range(count):
            column, row = divmod(number, 100)
            events.append(
                SchedulerEvent(
                    kind,
                    len(events) / 1000,
                    len(events) + 1,
                    task_id=f"c{column}/{row + 300}",
                    diagnostics={
                        "group": f"g{column}",
                        "row": row + 300,
                        "resources": {"submission": 1},
                    },
                )
            )
    return events


def oldest_by_walk(state: State) -> dict[str, float]:
    oldest: dict[str, float] = {}
    for task in state.tasks.values():
        if task.phase in ("queued", "selected"):
            at = task.since if task.enqueued_at is None else task.enqueued_at
            oldest[task.group] = min(at, oldest.get(task.group, at))
    return oldest


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wide", [NEVER, 3])
def test_every_state_is_the_one_with_all_tasks_unpacked(
    play: Play, monkeypatch: pytest.MonkeyPatch, seed: int, wide: int
) -> None:
    run, events = play(seed)
    monkeypatch.setattr(WIDE, wide)
    monkeypatch.setattr(LIMIT, 2)
    packed = begin(run)
    monkeypatch.setattr(LIMIT, NEVER)
    unpacked = begin(run)
    were_packed = 0
    for ordinal, event in enumerate(events, 1):
        reduce(packed, event, ordinal, run)
        reduce(unpacked, event, ordinal, run)
        assert dict(packed.tasks) == dict(unpacked.tasks), ordinal
        if wide == NEVER:
            assert list(packed.tasks) == list(unpacked.tasks), ordinal
        assert list(decode_state(encode_state(packed)).tasks) == list(packed.tasks), ordinal
        were_packed += sum(waiting.number for waiting in packed.tasks.packed_tasks())
        for phase in ("ready", "deferred", "queued"):
            walked = Counter(task.group for task in packed.tasks.values() if task.phase == phase)
            assert packed.tasks.count_by_group(phase) == walked
        assert packed.tasks.oldest_queued_by_group() == oldest_by_walk(packed)
    assert packed == unpacked
    assert were_packed


@pytest.mark.parametrize("seed", SEEDS)
def test_all_that_is_derived_is_the_same(
    play: Play, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    run, events = play(seed)
    outputs = []
    for limit, wide in ((2, NEVER), (2, 3), (NEVER, NEVER)):
        monkeypatch.setattr(LIMIT, limit)
        monkeypatch.setattr(WIDE, wide)
        fold = Fold(run)
        fold.apply(events[: len(events) // 2], 1)
        fold = Fold.load(fold.dump())
        fold.apply(events[len(events) // 2 :], len(events) // 2 + 1)
        outputs.append(msgspec.json.encode(fold.finish(None, False)))
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize("wide", [NEVER, 3])
def test_a_copy_is_left_alone_and_leaves_the_other_alone(
    play: Play, monkeypatch: pytest.MonkeyPatch, wide: int
) -> None:
    monkeypatch.setattr(LIMIT, 2)
    monkeypatch.setattr(WIDE, wide)
    run, events = play(3)
    half = len(events) // 2
    state = begin(run)
    for ordinal, event in enumerate(events[:half], 1):
        reduce(state, event, ordinal, run)
    copy, before = copy_state(state), encode_state(state)
    assert copy == state == decode_state(before)
    for ordinal, event in enumerate(events[half:], half + 1):
        reduce(state, event, ordinal, run)
    assert encode_state(copy) == before
    for ordinal, event in enumerate(events[half:], half + 1):
        reduce(copy, event, ordinal, run)
    assert copy == state


def bytes_for_each(count: int) -> float:
    """Memory of a fold by the number of tasks that wait in it."""
    events = waiting_events(count)
    fold = Fold(RunInfo("r", "wide"))
    tracemalloc.start()
    try:
        fold.apply(events, 1)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(fold.state.tasks) == count
    return size / count


def test_a_waiting_task_takes_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In all of the fold, its id included. With a `Task` and an index entry each it is over 500."""
    monkeypatch.setattr(MOST_UNPACKED, WAITING // 40)
    assert bytes_for_each(WAITING) < 300


def test_in_a_wide_run_it_takes_hardly_more_than_its_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MOST_UNPACKED, WAITING // 40)
    monkeypatch.setattr(WIDE, WAITING // 4)
    assert bytes_for_each(WAITING) < 160


def test_a_frame_does_not_walk_over_all_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    events = waiting_events(20_000)
    state = begin(RunInfo("r", "wide"))
    for ordinal, event in enumerate(events[:30_000], 1):
        reduce(state, event, ordinal, RunInfo("r", "wide"))

    def walk(self: PackedTasks) -> None:
        raise AssertionError("a walk over all tasks")

    monkeypatch.setattr(PackedTasks, "__iter__", walk)
    rows = {row.key: row for row in group_rows(RunInfo("r", "wide"), state, state.time)}
    assert (rows["g0"].queued, rows["g0"].ready) == (100, 0)
    assert (rows["g150"].queued, rows["g150"].ready) == (0, 100)
    assert rows["g0"].oldest_wait == state.time - events[20_000].captured_at_monotonic
    assert rows["g150"].oldest_wait is None
