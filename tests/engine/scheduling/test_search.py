"""Random workflows, latencies, failures and stops under shuffled virtual time.

The harness checks after each: no lease, task or worker is left, limits held, exactly one release
per lease, blocked and empty told truly, every keyframe equal to the fold, and that the run was not
stuck.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RetryableTaskError
from engine.rows.admission import RowGroups
from engine.scheduling.plan import ColumnPlan, RetryPolicy
from engine.scheduling.types import TaskPayload
from tests.engine.scheduling.harness import Execute, Run, Setting, column, run
from tests.simulation.conservation import Promises, check_conservation

SEEDS = st.integers(0, 2**32)


def random_setting(seed: int) -> Setting:
    source = random.Random(seed)
    local = {"x": source.randint(1, 3), "y": source.randint(1, 4)}
    columns: list[ColumnPlan] = []
    for number in range(source.randint(1, 6)):
        above = [column.name for column in columns]
        needs = {name: 1 for name in local if source.random() < 0.3}
        if "y" in needs and source.random() < 0.3:
            needs["y"] = source.randint(1, local["y"])
        columns.append(
            column(
                f"c{number}",
                tuple(source.sample(above, source.randint(0, len(above)))),
                source.choice(["cell", "cell", "batch"]),
                weight=source.choice([0.5, 1.0, 3.0]),
                needs=needs,
                limit=source.choice([None, None, None, 1, 2]),
            )
        )
    return Setting(
        columns,
        records=source.randint(1, 40),
        buffer_size=source.randint(1, 12),
        row_groups=source.randint(1, 3),
        slots=source.randint(1, 8),
        local=local,
        execute=random_work(seed, source.choice([0.0, 0.1, 0.5])),
        retry=RetryPolicy(3, 0.5, 4.0),
        seed=seed,
        keyframe_seconds=source.choice([0.5, 1.0]),
        keyframe_events=source.choice([50, 5000]),
    )


def random_work(seed: int, trouble: float) -> Execute:
    """Latency and fate depend on the seed, the task and its attempt, not on the order of tasks."""
    attempts: dict[str, int] = {}

    async def execute(payload: TaskPayload) -> None:
        attempt = attempts[payload.task_id] = attempts.get(payload.task_id, 0) + 1
        fate = random.Random(f"{seed} {payload.task_id} {attempt}")
        if fate.random() < 0.8:
            await asyncio.sleep(fate.choice([0.0, 0.1, 0.1, 0.25, fate.random()]))
        if fate.random() < trouble:
            if fate.random() < 0.7:
                delay = fate.choice([None, 0.0, 2.0])
                raise RetryableTaskError("Hiccup", "again please", delay)
            raise fate.choice([ValueError, KeyError, asyncio.CancelledError])
        await asyncio.sleep(0)

    return execute


def order_of(seed: int, shuffled: bool) -> random.Random | None:
    return random.Random(seed + 1) if shuffled else None


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans())
def test_every_run_ends_with_every_row_done_or_dropped(seed: int, shuffled: bool) -> None:
    ran = run(random_setting(seed), order_of(seed, shuffled))
    assert ran.error is None
    assert ran.result is not None
    assert ran.result.outcome == "success"
    assert ran.result.rows_done + ran.result.rows_dropped == ran.setting.records
    assert ran.result.rows_dropped == sum(len(rows) for rows in ran.checkpoints.values())
    dropped = {event.task_id for event in ran.scheduler_events("non_retryable_dropped")}
    assert bool(dropped) == bool(ran.result.rows_dropped)
    groups = len(RowGroups(ran.setting.records, ran.setting.buffer_size))
    check_conservation(ran.events, Promises(groups))


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans(), st.sampled_from(["drain", "abort", "cancel", "disk"]), st.floats(0, 6))
def test_every_stop_releases_everything(seed: int, shuffled: bool, how: str, when: float) -> None:
    setting = random_setting(seed)
    stops: dict[str, Callable[[Run], object]] = {
        "drain": lambda run: run.scheduler.drain(),
        "abort": lambda run: run.scheduler.abort(),
        "cancel": lambda item: item.task.cancel(),
    }

    async def full_disk(row_group: int, dropped: frozenset[int]) -> None:
        await asyncio.sleep(0.2)
        if row_group == 1:
            raise OSError(28, "No space left on device")

    if how == "disk":
        setting.checkpoint = full_disk
    else:
        setting.at = {when: stops[how]}
    ran = run(setting, order_of(seed, shuffled))
    if ran.result is None:
        assert isinstance(ran.error, asyncio.CancelledError)
    else:
        assert ran.result.outcome in ("success", "failed" if how == "disk" else "cancelled")
        kept = ran.result.rows_done + ran.result.rows_dropped
        assert (kept == setting.records) == (ran.result.outcome == "success")


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.booleans())
def test_one_seed_gives_one_stream(seed: int, shuffled: bool) -> None:
    first, second = (run(random_setting(seed), order_of(seed, shuffled)) for _ in range(2))
    assert first.lines() == second.lines()
