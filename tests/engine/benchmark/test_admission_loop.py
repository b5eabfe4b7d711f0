from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from engine.benchmark.admission_loop import AdmissionParts, time_steps
from tests.bench.peer.common import cpu_per_task


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
