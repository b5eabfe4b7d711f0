"""Courses of runs, aligned at the start or by progress, and the settings that differ."""

from __future__ import annotations

import pytest

from replay.metrics.overlay import POINTS, QUEUE, Course, Setting, differing


def course(seconds: float, progress: list[float]) -> Course:
    values = [float(point) for point in range(POINTS)]
    return Course(seconds, 10, 0, {QUEUE: values}, progress)


EVEN = [(point + 1) / POINTS for point in range(POINTS)]


def test_aligned_at_the_start_a_shorter_run_ends_earlier() -> None:
    over = course(10.0, EVEN).over(QUEUE, 20.0)
    assert over[: POINTS // 2] == [float(2 * point + 1) for point in range(POINTS // 2)]
    assert set(over[POINTS // 2 :]) == {0.0}


def test_by_progress_slow_stretches_take_no_more_room_than_quick_ones() -> None:
    """Nothing is done in the first half of the time."""
    late = [0.0] * (POINTS // 2) + [2 * (point + 1) / POINTS for point in range(POINTS // 2)]
    by_progress = course(10.0, late).by_progress(QUEUE)
    assert min(by_progress) >= POINTS // 2
    assert by_progress == sorted(by_progress)


def test_a_run_of_no_length_is_drawn_as_nothing() -> None:
    nothing = Course(0.0, 0, 0, {QUEUE: [0.0] * POINTS}, [0.0] * POINTS)
    assert nothing.rows_per_second is None
    assert nothing.over(QUEUE, 5.0) == [0.0] * POINTS
    assert nothing.by_progress(QUEUE) == [0.0] * POINTS


def test_settings_of_one_side_alone_differ() -> None:
    difference = differing({"cap": "10", "same": "x"}, {"cap": "12", "same": "x", "more": "1"})
    assert difference == [Setting("cap", "10", "12"), Setting("more", None, "1")]
    assert differing({"a": "1"}, {"a": "1"}) == []


@pytest.mark.parametrize("seconds", [0.5, 7.0, 3600.0])
def test_the_same_run_lies_upon_itself(seconds: float) -> None:
    item = course(seconds, EVEN)
    assert item.over(QUEUE, seconds) == item.series[QUEUE]
