from __future__ import annotations

from pathlib import Path

import pytest

from engine.benchmark.admission_loop import STEPS, time_steps
from tests.bench.peer.headgate import HeadgateSide
from tests.bench.peer.worker import answer


@pytest.mark.parametrize("model_work", [False, True])
@pytest.mark.parametrize("capacity", [4, 1000])
def test_headgates_queue_and_controller_are_driven_to_the_end(
    capacity: int, model_work: bool
) -> None:
    made = HeadgateSide().admission(3, capacity, 60, model_work)
    times = time_steps(made.parts, made.tasks)
    assert times.tasks == 60
    assert tuple(times.steps) == STEPS
    assert 0 < times.p50 <= times.p95


def test_a_worker_answers_what_it_is_asked() -> None:
    side = HeadgateSide()
    cost = answer(
        side,
        {
            "measure": "admission",
            "groups": 2,
            "capacity": 4,
            "tasks": 20,
            "model_work": True,
            "most": 20,
        },
    )
    assert cost > 0
    assert answer(side, {"measure": "requests", "earlier": 3, "measured": 5}) > 0
    assert answer(side, {"measure": "waiters", "waiters": 40, "seconds": 0.0}) > 0
    assert answer(side, {"measure": "semaphore", "waiters": 40, "seconds": 0.0}) > 0


def test_a_whole_run_is_counted_with_its_journal(tmp_path: Path) -> None:
    request = {"measure": "run", "records": 3, "recorded": True, "base_url": None}
    cost = answer(HeadgateSide(), {**request, "keep": str(tmp_path / "run")})
    journal = b"".join(path.read_bytes() for path in sorted((tmp_path / "run/journal").iterdir()))
    lines = journal.splitlines()
    assert cost["rows"] == 3
    assert cost["bytes"] == len(journal)
    assert cost["events"] == len(lines) - 2  # the header and the end
    assert list((tmp_path / "run" / "dataset").glob("*.parquet"))
