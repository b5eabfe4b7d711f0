"""A run that is stopped or fails releases everything and keeps what is complete."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import RetryableTaskError
from engine.scheduling.plan import RunResult
from engine.scheduling.types import (
    TaskPayload,
)
from engine.virtual_time import run_virtual
from tests.engine.scheduling.harness import Run, Setting, column, run, takes


def totals(item: Run) -> tuple[str, int, int, int]:
    """Outcome, and rows that are written, dropped and unfinished."""
    result = item.result
    assert result is not None
    return result.outcome, result.rows_done, result.rows_dropped, result.rows_unfinished


def test_a_failing_checkpoint_fails_the_run_and_releases_everything() -> None:
    async def checkpoint(row_group: int, dropped: frozenset[int]) -> None:
        if row_group == 1:
            raise OSError(28, "No space left on device")

    ran = run(
        Setting(
            (column("a"),),
            records=60,
            buffer_size=10,
            row_groups=3,
            slots=5,
            execute=takes(1.0),
            checkpoint=checkpoint,
        )
    )
    assert ran.result is not None
    assert ran.result.outcome == "failed"
    assert ran.result.message == (
        "row group 1 could not be written: No space left on device; "
        "row group 4 ended unfinished; the 25 rows of all others are kept"
    )
    assert (ran.result.rows_done, ran.result.rows_unfinished) == (25, 15 + 10)
    retried = [
        event.diagnostics["try"] for event in ran.scheduler_events("row_group_write_retried")
    ]
    assert retried == [1, 2, 3]
    assert {event.reason_or_result for event in ran.scheduler_events("cancelled")} == {"run_failed"}
    assert ran.scheduler_events()[-1].diagnostics["message"] == ran.result.message


def test_row_groups_that_fail_one_after_the_other_end_the_run() -> None:
    async def checkpoint(row_group: int, dropped: frozenset[int]) -> None:
        await asyncio.sleep(10.0 + row_group)
        raise OSError(28, "No space left on device")

    ran = run(
        Setting(
            (column("a"),),
            records=60,
            buffer_size=10,
            row_groups=2,
            slots=20,
            execute=takes(1.0),
            checkpoint=checkpoint,
        )
    )
    assert ran.result is not None
    assert ran.result.outcome == "failed"
    assert ran.result.message == (
        "row groups 0, 1 could not be written: No space left on device; "
        "the 0 rows of all others are kept"
    )


def test_drain_lets_end_what_runs_and_starts_nothing() -> None:
    ran = run(
        Setting(
            (column("a"), column("b", ("a",))),
            records=20,
            buffer_size=10,
            slots=4,
            execute=takes(1.0),
            at={2.5: lambda run: run.scheduler.drain()},
        )
    )
    assert totals(ran) == ("cancelled", 4, 0, 16)
    assert ran.ended_at == 3.0
    assert not [
        event
        for event in ran.scheduler_events("worker_spawned")
        if event.captured_at_monotonic > 2.5
    ]
    assert {event.reason_or_result for event in ran.scheduler_events("cancelled")} == {"drain"}
    assert len(ran.scheduler_events("task_completed")) == 12


def test_drain_keeps_row_groups_that_are_complete() -> None:
    ran = run(
        Setting(
            (column("a"),),
            records=12,
            buffer_size=4,
            slots=4,
            execute=takes(1.0),
            at={0.5: lambda run: run.scheduler.drain()},
        )
    )
    assert totals(ran) == ("cancelled", 4, 0, 4)


def test_drain_takes_no_retry_any_more() -> None:
    async def execute(payload: TaskPayload) -> None:
        await asyncio.sleep(1.0)
        raise RetryableTaskError("Hiccup", "again please")

    ran = run(
        Setting(
            (column("a"),),
            records=1,
            execute=execute,
            at={0.5: lambda run: run.scheduler.drain()},
        )
    )
    assert totals(ran) == ("cancelled", 0, 0, 1)
    assert ran.ended_at == 1.0


def test_drain_cancels_what_is_deferred() -> None:
    async def execute(payload: TaskPayload) -> None:
        raise RetryableTaskError("Hiccup", "again please", 1000.0)

    ran = run(
        Setting(
            (column("a"),), records=3, execute=execute, at={5.0: lambda run: run.scheduler.drain()}
        )
    )
    assert ran.ended_at == 5.0
    assert len(ran.scheduler_events("cancelled")) == 3


@pytest.mark.parametrize("stops", [("abort",), ("drain", "abort"), ("abort", "drain", "abort")])
def test_abort_cancels_what_runs(stops: tuple[str, ...]) -> None:
    def stop(run: Run) -> None:
        for name in stops:
            getattr(run.scheduler, name)()

    ran = run(Setting((column("a"),), records=10, execute=takes(50.0), at={3.0: stop}))
    assert totals(ran) == ("cancelled", 0, 0, 10)
    assert ran.ended_at == 3.0
    ended = [
        event for event in ran.scheduler_events("cancelled") if event.task_lease_id is not None
    ]
    assert len(ended) == 4
    assert {event.reason_or_result for event in ended} == {"abort"}


def test_stopping_before_the_start_runs_nothing() -> None:
    ran = Run(Setting((column("a"),)))

    async def main() -> None:
        going = asyncio.ensure_future(ran.go())
        await asyncio.sleep(0)
        ran.scheduler.drain()
        await going

    run_virtual(main())
    assert totals(ran) == ("cancelled", 0, 0, 0)
    assert ran.executed == []


def test_a_cancelled_run_cleans_up_and_passes_the_cancellation_on() -> None:
    ran = run(
        Setting(
            (column("a"),),
            records=10,
            execute=takes(50.0),
            at={3.0: lambda item: item.task.cancel()},
        )
    )
    assert isinstance(ran.error, asyncio.CancelledError)
    assert ran.ended_at == 3.0


def test_a_worker_that_cancels_itself_drops_its_row() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.row == 0:
            raise asyncio.CancelledError

    ran = run(Setting((column("a"),), records=2, execute=execute))
    assert ran.result == RunResult("success", 1, 1)
    assert ran.scheduler_events("non_retryable_dropped")[0].reason_or_result == "CancelledError"


def test_a_spawn_that_fails_releases_the_lease_and_raises() -> None:
    ran = run(Setting((column("a"),), records=10, execute=takes(5.0), spawn_fails_at=2))
    assert isinstance(ran.error, OSError)
    assert ran.kinds_of("a/2")[-3:] == [
        "task_lease_acquired",
        "task_lease_released",
        "worker_spawn_failed",
    ]
    assert ran.scheduler_events()[-1].reason_or_result == "failed"
