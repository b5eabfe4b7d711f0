from __future__ import annotations

import pytest

from engine.events import RunInfo
from replay.state.wall_clock import UnbrokenStretch, WallClock

RUN = RunInfo("r", "run", wall_start=1000.0, monotonic_start=50.0)
PAUSES = ((60.0, 2000.0), (70.0, 5000.0))


@pytest.mark.parametrize(
    ("seconds", "wall"),
    [(45.0, 995.0), (50.0, 1000.0), (59.5, 1009.5), (60.0, 2000.0), (69.0, 2009.0), (71.5, 5001.5)],
)
def test_each_part_of_a_run_has_its_own_time(seconds: float, wall: float) -> None:
    assert WallClock(RUN, PAUSES).at(seconds) == wall


def test_a_producer_that_does_not_say_what_time_it_was() -> None:
    clock = WallClock(RunInfo("r", "run"), PAUSES)
    assert clock.at(55.0) is None
    assert list(clock.stretches(50.0, 80.0)) == []


def test_the_parts_between_two_instants() -> None:
    assert list(WallClock(RUN, PAUSES).stretches(55.0, 80.0)) == [
        UnbrokenStretch(55.0, 60.0, 1005.0),
        UnbrokenStretch(60.0, 70.0, 2000.0),
        UnbrokenStretch(70.0, 80.0, 5000.0),
    ]
    assert list(WallClock(RUN, PAUSES).stretches(52.0, 58.0)) == [
        UnbrokenStretch(52.0, 58.0, 1002.0)
    ]
