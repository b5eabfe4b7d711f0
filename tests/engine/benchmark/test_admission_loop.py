from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.benchmark.admission_loop import STEPS, AdmissionParts, cpu_per_task, time_steps
from engine.benchmark.peer.headgate import HeadgateSide
from engine.benchmark.peer.worker import answer


class Counted:
    """A queue and a controller of the simplest kind, which count what is asked of them."""

    def __init__(self, capacity: int) -> None:
        self.waiting: list[int] = []
        self.leased: set[int] = set()
        self.most = 0
        self.capacity = capacity
        self.released: list[int] = []

    def parts(self) -> AdmissionParts:
        return AdmissionParts(
            enqueue=self.waiting.extend,
            select=self.select,
            acquire=self.acquire,
            commit=self.commit,
            release=self.release,
            is_lease=lambda lease: lease is not None,
        )

    def select(self) -> int | None:
        return self.waiting[0] if self.waiting and len(self.leased) < self.capacity else None

    def acquire(self, item: int) -> int:
        self.leased.add(item)
        self.most = max(self.most, len(self.leased))
        return item

    def commit(self, item: int) -> bool:
        self.waiting.remove(item)
        return True

    def release(self, item: int) -> None:
        self.leased.remove(item)
        self.released.append(item)


@pytest.mark.parametrize("measure", [partial(cpu_per_task, most=20), time_steps])
@pytest.mark.parametrize(("capacity", "most"), [(3, 3), (1000, 20)])
def test_every_task_goes_through_once_and_capacity_binds(
    measure: Any, capacity: int, most: int
) -> None:
    counted = Counted(capacity)
    measure(counted.parts(), list(range(20)))
    assert counted.released == list(range(20))
    assert (counted.waiting, counted.leased, counted.most) == ([], set(), most)


def test_a_part_of_the_tasks_is_admitted_and_released() -> None:
    counted = Counted(3)
    assert cpu_per_task(counted.parts(), list(range(20)), most=7) > 0
    assert counted.released == list(range(7))
    assert len(counted.waiting) == 13


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
    journal = b"".join(one.read_bytes() for one in sorted((tmp_path / "run/journal").iterdir()))
    lines = journal.splitlines()
    assert cost["rows"] == 3
    assert cost["bytes"] == len(journal)
    assert cost["events"] == len(lines) - 2  # the header and the end
    assert list((tmp_path / "run" / "dataset").glob("*.parquet"))
