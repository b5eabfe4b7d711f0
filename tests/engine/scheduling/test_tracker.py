from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from engine.rows.admission import RowGroupSpec
from engine.scheduling.tracker import CompletionTracker
from engine.scheduling.types import TaskType


@dataclass(frozen=True)
class Column:
    name: str
    task_type: TaskType
    depends_on: tuple[str, ...] = ()


def hand_out(tracker: CompletionTracker) -> set[str]:
    ids = {payload.task_id for payload in tracker.ready_frontier()}
    tracker.mark_enqueued(ids)
    return ids


def test_a_ready_task_is_reported_until_it_is_acknowledged() -> None:
    tracker = CompletionTracker([Column("a", "cell")])
    ready = tracker.add_row_group(RowGroupSpec(0, 10, 2))
    assert [payload.task_id for payload in ready] == ["a/10", "a/11"]
    assert tracker.ready_frontier() == ready
    assert tracker.ready_frontier() == ready
    tracker.mark_enqueued(["a/10"])
    assert [payload.task_id for payload in tracker.ready_frontier()] == ["a/11"]


@pytest.mark.parametrize(
    ("upper", "lower", "after_first", "after_all"),
    [
        ("cell", "cell", {"b/0"}, {"b/0", "b/1", "b/2"}),
        ("cell", "batch", set(), {"b/rg0"}),
        ("batch", "cell", {"b/0", "b/1", "b/2"}, {"b/0", "b/1", "b/2"}),
        ("batch", "batch", {"b/rg0"}, {"b/rg0"}),
    ],
)
def test_cells_and_batches_unlock_each_other(
    upper: TaskType, lower: TaskType, after_first: set[str], after_all: set[str]
) -> None:
    tracker = CompletionTracker([Column("a", upper), Column("b", lower, ("a",))])
    tracker.add_row_group(RowGroupSpec(0, 0, 3))
    above = sorted(hand_out(tracker))
    unlocked = {payload.task_id for payload in tracker.mark_complete(above[0])}
    assert unlocked == after_first
    for task_id in above[1:]:
        unlocked |= {payload.task_id for payload in tracker.mark_complete(task_id)}
    assert unlocked == after_all
    assert not tracker.is_complete(0)
    for task_id in hand_out(tracker):
        tracker.mark_complete(task_id)
    assert tracker.is_complete(0)


def test_a_dropped_row_cancels_what_has_not_ended_and_frees_the_batch() -> None:
    tracker = CompletionTracker(
        [
            Column("a", "cell"),
            Column("side", "cell"),
            Column("b", "cell", ("a",)),
            Column("all", "batch", ("a",)),
            Column("end", "cell", ("all", "b")),
        ]
    )
    tracker.add_row_group(RowGroupSpec(0, 0, 2))
    tracker.mark_enqueued(["a/0", "a/1"])
    tracker.mark_complete("a/0")
    dropped = tracker.drop_rows(0, [1])
    assert set(dropped.cancelled) == {"a/1", "side/1"}
    assert [payload.task_id for payload in dropped.ready] == ["all/rg0"]
    assert tracker.mark_complete("a/1") == ()
    assert tracker.mark_ready_again("a/1") is None
    assert {payload.task_id for payload in tracker.ready_frontier()} == {"side/0", "b/0", "all/rg0"}
    for task_id in hand_out(tracker):
        tracker.mark_complete(task_id)
    assert hand_out(tracker) == {"end/0"}
    tracker.mark_complete("end/0")
    assert tracker.is_complete(0)
    assert tracker.dropped_rows(0) == {1}


def test_without_any_row_the_batches_end_too() -> None:
    tracker = CompletionTracker([Column("a", "cell"), Column("all", "batch", ("a",))])
    tracker.add_row_group(RowGroupSpec(0, 0, 2))
    hand_out(tracker)
    assert tracker.drop_rows(0, [0]).ready == ()
    dropped = tracker.drop_rows(0, [1])
    assert dropped.ready == ()
    assert dropped.cancelled == ("a/1",)
    assert tracker.ready_frontier() == ()
    assert tracker.is_complete(0)


def test_a_batch_that_waits_in_the_queue_is_named_when_the_last_row_goes() -> None:
    tracker = CompletionTracker([Column("all", "batch"), Column("a", "cell")])
    tracker.add_row_group(RowGroupSpec(0, 0, 1))
    hand_out(tracker)
    assert set(tracker.drop_rows(0, [0]).cancelled) == {"all/rg0", "a/0"}
    assert tracker.is_complete(0)


def test_a_retry_comes_back_through_the_frontier() -> None:
    tracker = CompletionTracker([Column("a", "cell")])
    tracker.add_row_group(RowGroupSpec(0, 0, 1))
    assert hand_out(tracker) == {"a/0"}
    assert tracker.ready_frontier() == ()
    assert tracker.mark_ready_again("a/0") is not None
    assert hand_out(tracker) == {"a/0"}
    tracker.mark_complete("a/0")
    assert tracker.is_complete(0)


def test_row_groups_do_not_touch_each_other() -> None:
    tracker = CompletionTracker([Column("a", "cell"), Column("all", "batch", ("a",))])
    tracker.add_row_group(RowGroupSpec(0, 0, 1))
    tracker.add_row_group(RowGroupSpec(1, 1, 1))
    hand_out(tracker)
    assert [payload.task_id for payload in tracker.mark_complete("a/1")] == ["all/rg1"]
    tracker.mark_enqueued(["all/rg1"])
    tracker.mark_complete("all/rg1")
    assert tracker.is_complete(1)
    assert not tracker.is_complete(0)
    tracker.forget_row_group(1)


def test_an_unknown_dependency_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown 'x'"):
        CompletionTracker([Column("a", "cell", ("x",))])


@st.composite
def dags(draw: st.DrawFn) -> list[Column]:
    columns: list[Column] = []
    for number in range(draw(st.integers(1, 6))):
        above = [column.name for column in columns]
        depends_on = draw(st.lists(st.sampled_from(above), unique=True)) if above else []
        task_type: TaskType = draw(st.sampled_from(["cell", "batch"]))
        columns.append(Column(f"c{number}", task_type, tuple(depends_on)))
    return columns
