"""The life of tasks and rows in a run: dependencies, retries, drops, row groups."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from engine.errors import RetryableTaskError
from engine.identity import RequestResourceKey
from engine.scheduling.plan import RetryPolicy, RunResult
from engine.scheduling.types import (
    TaskPayload,
)
from tests.engine.scheduling.harness import WHOLE_LIFE, Run, Setting, column, run, takes

CHAIN = (column("topic", (), "batch"), column("q", ("topic",)), column("a", ("q",)))


def test_a_run_does_every_task_once_and_tells_its_life_in_order() -> None:
    ran = run(Setting(CHAIN, records=25, buffer_size=10, execute=takes(0.5)))
    assert ran.result == RunResult("success", 25, 0)
    assert len(ran.executed) == len({payload.task_id for payload in ran.executed}) == 3 + 50
    for task_id in ("topic/rg2", "q/24", "a/0"):
        assert ran.kinds_of(task_id) == WHOLE_LIFE
    assert ran.checkpoints == {0: frozenset(), 1: frozenset(), 2: frozenset()}


def test_dependencies_are_kept_and_slots_are_never_idle() -> None:
    columns = (column("a"), column("all", ("a",), "batch"), column("z", ("all", "a")))
    ran = run(Setting(columns, records=8, buffer_size=8, slots=4, execute=takes(1.0)))
    order = [payload.task_id for payload in ran.executed]
    assert order[8] == "all/rg0"
    assert ran.ended_at == 2 + 1 + 2


def test_what_a_task_event_carries() -> None:
    columns = (
        column("q", weight=2.0, request_resource=RequestResourceKey("alpha", "gen", "chat")),
    )
    ran = run(Setting(columns, records=1))
    ready, enqueued, selected, acquired, spawned, completed, released = (
        event for event in ran.scheduler_events() if event.task_id == "q/0"
    )
    group = "local/default/q"
    assert ready.diagnostics == {"group": group, "row": 0}
    assert enqueued.diagnostics == {
        "group": group,
        "weight": 2.0,
        "resources": {"submission": 1},
        "request_resource": "alpha/gen/chat",
        "row": 0,
    }
    assert (selected.task_lease_id, acquired.task_lease_id) == (None, "t1")
    assert acquired.diagnostics == {"resources": {"submission": 1}}
    assert (acquired.task_execution_id, spawned.task_execution_id) == (None, "e1")
    assert (completed.task_lease_id, completed.task_execution_id) == ("t1", "e1")
    assert (released.task_lease_id, released.reason_or_result) == ("t1", "released")
    correlation = released.captured_correlation
    assert correlation is not None
    assert correlation == ran.correlations[0]
    assert (correlation.run_id, correlation.row_group, correlation.task_column) == ("run", 0, "q")
    assert (correlation.task_type, correlation.task_execution_id) == ("cell", "e1")
    assert correlation.scheduling_group_kind == "local"
    assert ready.captured_correlation is not None
    assert ready.captured_correlation.task_execution_id is None


def test_a_run_opens_and_closes_with_its_facts() -> None:
    ran = run(Setting((column("a"),), records=25, buffer_size=10, slots=3, local={"cpu": 2}))
    started, start = ran.scheduler_events()[:2]
    assert started.diagnostics == {
        "records": 25,
        "row_groups": 3,
        "buffer_size": 10,
        "limits": {"submission": 3, "local:cpu": 2},
    }
    assert start.diagnostics == {"reason": "start"}
    end, completed = ran.scheduler_events()[-2:]
    assert end.diagnostics == {"reason": "end"}
    assert end.snapshot is not None
    assert end.snapshot["progress"] == {
        "rows_done": 25,
        "rows_dropped": 0,
        "completed_by_column": {"a": 25},
    }
    assert completed.reason_or_result == "success"
    assert completed.diagnostics == {"rows_done": 25, "rows_dropped": 0}


def test_row_groups_are_admitted_up_to_the_target_and_follow_checkpoints() -> None:
    ran = run(Setting((column("a"),), records=40, buffer_size=10, slots=100, execute=takes(1.0)))
    admitted = ran.scheduler_events("row_group_admitted")
    assert [event.diagnostics["row_group"] for event in admitted] == [0, 1, 2, 3]
    assert [event.captured_at_monotonic for event in admitted] == [0.0, 0.0, 1.0, 1.0]
    assert admitted[1].diagnostics == {"row_group": 1, "rows": 10, "in_flight": 2, "target": 2}
    blocked = ran.scheduler_events("row_group_admission_blocked")
    assert [event.diagnostics["next_row_group"] for event in blocked] == [2]
    assert blocked[0].reason_or_result == "target_reached"
    written = ran.scheduler_events("row_group_checkpointed")
    assert written[0].diagnostics == {
        "row_group": 0,
        "rows": 10,
        "surviving_rows": 10,
        "dropped_rows": 0,
    }
    assert len(ran.scheduler_events("row_group_checkpoint_started")) == 4


def test_a_retryable_failure_is_deferred_and_comes_back() -> None:
    failures = Counter[str]()

    async def execute(payload: TaskPayload) -> None:
        failures[payload.task_id] += 1
        if payload.task_id == "a/1" and failures["a/1"] < 3:
            delay = 7.0 if failures["a/1"] == 1 else None
            raise RetryableTaskError("RateLimited", "the provider asked to wait", delay)

    ran = run(Setting((column("a"),), records=2, execute=execute, retry=RetryPolicy(5, 4.0, 30.0)))
    assert ran.result == RunResult("success", 2, 0)
    retry = ["selected", "task_lease_acquired", "worker_spawned"]
    ended = ["retry_deferred", "task_lease_released", "salvage_redispatched"]
    first = [*WHOLE_LIFE[:2], *retry, *ended]
    assert ran.kinds_of("a/1") == [*first, *first, *WHOLE_LIFE]
    deferred = ran.scheduler_events("retry_deferred")
    assert [event.reason_or_result for event in deferred] == ["RateLimited"] * 2
    assert deferred[0].diagnostics == {
        "attempt": 1,
        "delay_seconds": 7.0,
        "retry_at": 7.0,
        "message": "the provider asked to wait",
    }
    salvaged = ran.scheduler_events("salvage_redispatched")
    assert salvaged[0].diagnostics == {"attempt": 2, "deferred_seconds": 7.0}
    back_off = deferred[1].diagnostics["delay_seconds"]
    assert 4.0 <= back_off <= 8.0
    ready = [event for event in ran.scheduler_events("dependency_ready") if event.task_id == "a/1"]
    assert [event.diagnostics.get("attempt", 1) for event in ready] == [1, 2, 3]
    assert [event.captured_at_monotonic for event in ready] == [0.0, 7.0, 7.0 + back_off]


def test_a_back_off_does_not_wait_for_the_rest_of_the_row_group() -> None:
    seen = Counter[str]()

    async def execute(payload: TaskPayload) -> None:
        seen[payload.task_id] += 1
        if payload.task_id == "a/0" and seen["a/0"] == 1:
            raise RetryableTaskError("Hiccup", "again please", 1.0)
        await asyncio.sleep(100.0)

    ran = run(Setting((column("a"),), records=2, execute=execute))
    again = [event for event in ran.scheduler_events("worker_spawned") if event.task_id == "a/0"]
    assert again[1].captured_at_monotonic == 1.0


def test_after_the_last_attempt_the_row_is_dropped() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.row == 1:
            raise RetryableTaskError("RateLimited", "no luck", 1.0)

    ran = run(
        Setting(
            (column("a"), column("b", ("a",))), records=3, execute=execute, retry=RetryPolicy(2)
        )
    )
    assert ran.result == RunResult("success", 2, 1)
    assert ran.checkpoints == {0: frozenset({1})}
    dropped = ran.scheduler_events("non_retryable_dropped")
    assert [event.task_id for event in dropped] == ["a/1"]
    assert dropped[0].reason_or_result == "RateLimited"
    assert dropped[0].diagnostics == {"attempt": 2, "message": "no luck"}
    assert ran.kinds_of("b/1") == []


class Talkative(Exception):
    """As clients of providers raise them: with attributes that look like ours."""

    error_type = "secret type"
    message = "secret row value"


@pytest.mark.parametrize("error", [ValueError("secret row value"), Talkative("secret row value")])
def test_any_other_error_drops_the_row_and_tells_only_its_type(error: Exception) -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.task_id == "a/1":
            raise error
        await asyncio.sleep(1.0 if payload.column == "a" else 5.0)

    columns = (column("a"), column("other"), column("b", ("a", "other")))
    ran = run(Setting(columns, records=2, slots=3, execute=execute))
    assert ran.result == RunResult("success", 1, 1)
    (dropped,) = ran.scheduler_events("non_retryable_dropped")
    assert (dropped.reason_or_result, dropped.diagnostics) == (
        type(error).__name__,
        {"attempt": 1},
    )
    assert b"secret" not in ran.lines()


def test_a_dropped_row_cancels_what_waits_and_lets_end_what_runs() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.task_id == "bad/0":
            await asyncio.sleep(1.0)
            raise ValueError
        await asyncio.sleep(3.0)

    columns = (column("bad"), column("long"), column("late", needs={"one": 1}))
    setting = Setting(columns, records=2, slots=10, local={"one": 1}, execute=execute)
    ran = run(setting)
    assert ran.result == RunResult("success", 1, 1)
    assert ran.kinds_of("long/0") == WHOLE_LIFE
    setting.columns = (column("bad"), column("long"), column("late", needs={"one": 1}, weight=0.1))
    setting.slots = 2
    ran = run(setting)
    (cancelled,) = ran.scheduler_events("cancelled")
    assert (cancelled.task_id, cancelled.reason_or_result) == ("late/0", "row_dropped")
    assert cancelled.task_lease_id is None
    assert ran.result == RunResult("success", 1, 1)


def test_a_retryable_failure_in_a_dropped_row_is_not_retried() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.column == "bad":
            raise ValueError
        await asyncio.sleep(1.0)
        raise RetryableTaskError("Hiccup", "again please", 1.0)

    ran = run(Setting((column("bad"), column("slow")), records=1, execute=execute))
    assert ran.result == RunResult("success", 0, 1)
    assert ran.kinds_of("slow/0")[-2:] == ["cancelled", "task_lease_released"]


@pytest.mark.parametrize(("failures", "dropped"), [(4, 0), (5, 1)])
def test_what_is_no_failure_of_the_task_uses_up_none_of_its_attempts(
    failures: int, dropped: int
) -> None:
    executions = 0

    async def execute(payload: TaskPayload) -> None:
        nonlocal executions
        executions += 1
        if executions <= 20:
            raise RetryableTaskError("RequestQueueTimeout", "no lease", 0.5, uses_attempt=False)
        if executions <= 20 + failures:
            raise RetryableTaskError("Hiccup", "again please", 0.5)

    ran = run(Setting((column("slow"),), records=1, execute=execute))
    assert ran.result == RunResult("success", 1 - dropped, dropped)


def test_a_failed_batch_drops_every_row_of_its_group() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.task_id == "topic/rg1":
            raise ValueError

    ran = run(Setting(CHAIN, records=30, buffer_size=10, execute=execute))
    assert ran.result == RunResult("success", 20, 10)
    assert ran.checkpoints[1] == frozenset(range(10, 20))


def test_a_batch_goes_on_without_the_dropped_rows() -> None:
    known: list[frozenset[int]] = []

    async def execute(payload: TaskPayload) -> None:
        if payload.task_id == "a/3":
            raise ValueError
        if payload.task_type == "batch":
            known.append(runs[0].scheduler.dropped_rows(payload.row_group))

    columns = (column("a"), column("all", ("a",), "batch"), column("b", ("all",)))
    runs: list[Run] = []
    setting = Setting(columns, records=5, execute=execute, at={0.0: runs.append})

    async def later(payload: TaskPayload) -> None:
        await asyncio.sleep(0.1)
        await execute(payload)

    setting.execute = later
    ran = run(setting)
    assert ran.result == RunResult("success", 4, 1)
    assert known == [frozenset({3})]


def test_nobody_listening_changes_nothing_but_the_events() -> None:
    setting = Setting(CHAIN, records=25, execute=takes(0.5))
    heard = run(setting)
    setting.listening = False
    silent = run(setting)
    assert silent.result == heard.result
    assert silent.executed == heard.executed
    assert silent.ended_at == heard.ended_at
    assert silent.stream.scheduler_sequence == 0


def test_a_column_that_can_never_get_its_resources_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' needs 3 of local:gpu, the limit is 2"):
        run(Setting((column("a", needs={"gpu": 3}),), local={"gpu": 2}))


def test_a_cycle_ends_the_run_with_an_error_instead_of_waiting_forever() -> None:
    ran = run(Setting((column("a", ("b",)), column("b", ("a",)))))
    assert isinstance(ran.error, RuntimeError)


def test_a_run_without_rows_succeeds() -> None:
    assert run(Setting((column("a"),), records=0)).result == RunResult("success", 0, 0)


def test_back_off_grows_is_capped_and_spread() -> None:
    policy = RetryPolicy(10, 0.5, 30.0)
    source = random.Random(1)
    for failures, full in ((1, 0.5), (2, 1.5), (4, 13.5), (5, 30.0), (5000, 30.0)):
        delays = [policy.delay(failures, source) for _ in range(50)]
        assert full / 2 <= min(delays) < max(delays) <= full


def test_a_single_failure_is_repeated_within_a_few_hundred_milliseconds() -> None:
    source = random.Random(1)
    delays = [RetryPolicy().delay(1, source) for _ in range(200)]
    assert 0.1 <= min(delays) < max(delays) <= 0.4
