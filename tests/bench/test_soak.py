from __future__ import annotations

import pytest

from tests.bench.soak import FLAT, Look, Soaked, soak_groups, soak_tasks


@pytest.fixture(autouse=True)
def _few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.soak.LOOKS", 4)


def test_groups_that_come_and_go_leave_nothing_behind() -> None:
    looks: list[Look] = []
    soaked = soak_groups(4000, looks.append)
    assert [look.done for look in soaked.looks] == [1000, 2000, 3000, 4000]
    assert list(soaked.looks) == looks
    # Nothing that grows by even one object with each group.
    assert soaked.looks[-1].blocks - soaked.looks[1].blocks < 1000


def test_a_run_is_looked_at_as_its_tasks_complete() -> None:
    looks: list[Look] = []
    soaked = soak_tasks(800, looks.append)
    assert len(soaked.looks) == len(looks) >= 4
    assert [look.done for look in looks][:2] == [200, 400]
    assert all(look.resident > 0 for look in looks)


def test_growth_counts_from_where_caches_are_full() -> None:
    def soaked(*blocks: int) -> Soaked:
        return Soaked(tuple(Look(n, item, 1) for n, item in enumerate(blocks, 1)))

    assert soaked(100, 900, 1000, 1000, 1000, 1000, 1000, 1010).growth == 1010 / 900
    assert soaked(1000, 1000, 1100, 1200, 1300, 1400, 1500, 1600).growth > FLAT
