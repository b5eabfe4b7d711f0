"""Rates and remaining time at one instant, from the state and the rollup alone."""

from __future__ import annotations

import pytest

from engine.events import RunInfo
from replay.playback import frame_builder
from replay.state.model import State
from replay.state.reducer import begin, reduce
from replay.state.rows import RollupRow
from tests.replay.random_engine import Play


def test_rates_follow_tasks_where_rows_come_in_jumps(play: Play) -> None:
    run, _ = play(1)
    run_of_100 = RunInfo("r", "n", records=100, row_groups=2, columns=run.columns)
    state = State()
    state.progress.completed_by_column = {"topic": 2, "question": 60, "verdict": 20}
    rows = [
        RollupRow(0, "tasks_done", "question", 4.0, 0.0, 0.0, bins=5),
        RollupRow(0, "tasks_done", "verdict", 2.0, 0.0, 0.0, bins=5),
    ]
    rates = frame_builder.rates(run_of_100, state, rows, 5.0, quiet=False)
    assert rates.rows_per_second == pytest.approx((0.20 + 0.10) / 2 * 100 / 5)
    assert rates.eta_seconds == pytest.approx(60 / 3.0)
    assert rates.tokens_per_second is None
    standing = frame_builder.rates(run_of_100, state, rows, 5.0, quiet=True)
    assert (standing.rows_per_second, standing.eta_seconds) == (None, None)
    state.outcome, state.time = "failed", 20.0
    state.progress.rows_done, state.progress.rows_dropped = 10, 90
    assert frame_builder.rates(run_of_100, state, rows, 5.0, quiet=False).rows_per_second == 0.5
    state.outcome = None
    done = [RollupRow(0, "rows_done", "", 2.0, 0.0, 0.0, bins=5)]
    unsized = frame_builder.rates(RunInfo("r", "n"), state, done, 5.0, quiet=False)
    assert (unsized.rows_per_second, unsized.eta_seconds) == (2.0, None)
    assert frame_builder.rates(run_of_100, state, [], 0.0, quiet=False).rows_per_second is None


def test_how_sure_the_remaining_time_is_follows_from_how_steady_the_run_is() -> None:
    def tasks(amounts: list[float]) -> list[RollupRow]:
        return [RollupRow(5 * n, "tasks_done", "a", x, x, x, bins=5) for n, x in enumerate(amounts)]

    steady = frame_builder.relative_error(tasks([2.0] * 6), {"a": 100}, 30.0)
    uneven = frame_builder.relative_error(tasks([1.0, 3.0] * 3), {"a": 100}, 30.0)
    assert steady == 0.0
    assert uneven == pytest.approx(2.571 * (6 / 5) ** 0.5 / 2 / 6**0.5)
    assert frame_builder.relative_error(tasks([2.0]), {"a": 100}, 5.0) is None
    assert frame_builder.relative_error(tasks([0.0] * 6), {"a": 100}, 30.0) is None


def test_a_standstanding_counts_up_instead_of_a_rate(play: Play) -> None:
    """Nothing was done for 4.9 s, then for 51 s; and a run that is over stands still for ever."""
    run, events = play(8)
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
        if state.progress.last_done_at:
            break
    last = state.progress.last_done_at
    assert last is not None
    assert frame_builder.quiet_seconds(state, last + 4.9, 0.0) is None
    assert frame_builder.quiet_seconds(state, last + 51.0, 0.0) == pytest.approx(51.0)
    state.progress.last_done_at = None
    assert frame_builder.quiet_seconds(state, 9.0, 2.0) == pytest.approx(7.0)
    state.outcome = "success"
    assert frame_builder.quiet_seconds(state, 99.0, 2.0) is None
