from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import pairwise

import pytest

from engine.errors import RetryableTaskError
from engine.identity import RequestResourceKey
from engine.scheduling.plan import RetryPolicy, RunResult
from engine.scheduling.policy import StrictFairTaskAdmissionPolicy, TaskAdmissionPolicyDecision
from engine.scheduling.types import (
    Eligibility,
    QueueView,
    SchedulableTask,
    TaskAdmissionDecision,
    TaskAdmissionView,
    TaskPayload,
)
from engine.virtual_time import run_virtual
from tests.engine.scheduling.harness import Run, Setting, column, run, takes

WHOLE_LIFE = [
    "dependency_ready",
    "ready_enqueued",
    "selected",
    "task_lease_acquired",
    "worker_spawned",
    "task_completed",
    "task_lease_released",
]
CHAIN = (column("topic", (), "batch"), column("q", ("topic",)), column("a", ("q",)))


def test_a_run_does_every_task_once_and_tells_its_life_in_order() -> None:
    one = run(Setting(CHAIN, records=25, buffer_size=10, execute=takes(0.5)))
    assert one.result == RunResult("success", 25, 0)
    assert len(one.executed) == len({payload.task_id for payload in one.executed}) == 3 + 50
    for task_id in ("topic/rg2", "q/24", "a/0"):
        assert one.kinds_of(task_id) == WHOLE_LIFE
    assert one.checkpoints == {0: frozenset(), 1: frozenset(), 2: frozenset()}


def test_dependencies_are_kept_and_slots_are_never_idle() -> None:
    columns = (column("a"), column("all", ("a",), "batch"), column("z", ("all", "a")))
    one = run(Setting(columns, records=8, buffer_size=8, slots=4, execute=takes(1.0)))
    order = [payload.task_id for payload in one.executed]
    assert order[8] == "all/rg0"
    assert one.ended_at == 2 + 1 + 2


def test_what_a_task_event_carries() -> None:
    columns = (
        column("q", weight=2.0, request_resource=RequestResourceKey("alpha", "gen", "chat")),
    )
    one = run(Setting(columns, records=1))
    ready, enqueued, selected, acquired, spawned, completed, released = (
        event for event in one.told() if event.task_id == "q/0"
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
    assert correlation == one.correlations[0]
    assert (correlation.run_id, correlation.row_group, correlation.task_column) == ("run", 0, "q")
    assert (correlation.task_type, correlation.task_execution_id) == ("cell", "e1")
    assert correlation.scheduling_group_kind == "local"
    assert ready.captured_correlation is not None
    assert ready.captured_correlation.task_execution_id is None


def test_a_run_opens_and_closes_with_its_facts() -> None:
    one = run(Setting((column("a"),), records=25, buffer_size=10, slots=3, local={"cpu": 2}))
    started, start = one.told()[:2]
    assert started.diagnostics == {
        "records": 25,
        "row_groups": 3,
        "buffer_size": 10,
        "limits": {"submission": 3, "local:cpu": 2},
    }
    assert start.diagnostics == {"reason": "start"}
    end, completed = one.told()[-2:]
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
    one = run(Setting((column("a"),), records=40, buffer_size=10, slots=100, execute=takes(1.0)))
    admitted = one.told("row_group_admitted")
    assert [event.diagnostics["row_group"] for event in admitted] == [0, 1, 2, 3]
    assert [event.captured_at_monotonic for event in admitted] == [0.0, 0.0, 1.0, 1.0]
    assert admitted[1].diagnostics == {"row_group": 1, "rows": 10, "in_flight": 2, "target": 2}
    blocked = one.told("row_group_admission_blocked")
    assert [event.diagnostics["next_row_group"] for event in blocked] == [2]
    assert blocked[0].reason_or_result == "target_reached"
    written = one.told("row_group_checkpointed")
    assert written[0].diagnostics == {
        "row_group": 0,
        "rows": 10,
        "surviving_rows": 10,
        "dropped_rows": 0,
    }
    assert len(one.told("row_group_checkpoint_started")) == 4


def test_a_retryable_failure_is_deferred_and_comes_back() -> None:
    failures = Counter[str]()

    async def execute(payload: TaskPayload) -> None:
        failures[payload.task_id] += 1
        if payload.task_id == "a/1" and failures["a/1"] < 3:
            delay = 7.0 if failures["a/1"] == 1 else None
            raise RetryableTaskError("RateLimited", "the provider asked to wait", delay)

    one = run(Setting((column("a"),), records=2, execute=execute, retry=RetryPolicy(5, 4.0, 30.0)))
    assert one.result == RunResult("success", 2, 0)
    retry = ["selected", "task_lease_acquired", "worker_spawned"]
    ended = ["retry_deferred", "task_lease_released", "salvage_redispatched"]
    first = [*WHOLE_LIFE[:2], *retry, *ended]
    assert one.kinds_of("a/1") == [*first, *first, *WHOLE_LIFE]
    deferred = one.told("retry_deferred")
    assert [event.reason_or_result for event in deferred] == ["RateLimited"] * 2
    assert deferred[0].diagnostics == {
        "attempt": 1,
        "delay_seconds": 7.0,
        "retry_at": 7.0,
        "message": "the provider asked to wait",
    }
    salvaged = one.told("salvage_redispatched")
    assert salvaged[0].diagnostics == {"attempt": 2, "deferred_seconds": 7.0}
    back_off = deferred[1].diagnostics["delay_seconds"]
    assert 4.0 <= back_off <= 8.0
    ready = [event for event in one.told("dependency_ready") if event.task_id == "a/1"]
    assert [event.diagnostics.get("attempt", 1) for event in ready] == [1, 2, 3]
    assert [event.captured_at_monotonic for event in ready] == [0.0, 7.0, 7.0 + back_off]


def test_a_back_off_does_not_wait_for_the_rest_of_the_row_group() -> None:
    seen = Counter[str]()

    async def execute(payload: TaskPayload) -> None:
        seen[payload.task_id] += 1
        if payload.task_id == "a/0" and seen["a/0"] == 1:
            raise RetryableTaskError("Hiccup", "again please", 1.0)
        await asyncio.sleep(100.0)

    one = run(Setting((column("a"),), records=2, execute=execute))
    again = [event for event in one.told("worker_spawned") if event.task_id == "a/0"]
    assert again[1].captured_at_monotonic == 1.0


def test_after_the_last_attempt_the_row_is_dropped() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.row == 1:
            raise RetryableTaskError("RateLimited", "no luck", 1.0)

    one = run(
        Setting(
            (column("a"), column("b", ("a",))), records=3, execute=execute, retry=RetryPolicy(2)
        )
    )
    assert one.result == RunResult("success", 2, 1)
    assert one.checkpoints == {0: frozenset({1})}
    dropped = one.told("non_retryable_dropped")
    assert [event.task_id for event in dropped] == ["a/1"]
    assert dropped[0].reason_or_result == "RateLimited"
    assert dropped[0].diagnostics == {"attempt": 2, "message": "no luck"}
    assert one.kinds_of("b/1") == []


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
    one = run(Setting(columns, records=2, slots=3, execute=execute))
    assert one.result == RunResult("success", 1, 1)
    (dropped,) = one.told("non_retryable_dropped")
    assert (dropped.reason_or_result, dropped.diagnostics) == (
        type(error).__name__,
        {"attempt": 1},
    )
    assert b"secret" not in one.lines()


def test_a_dropped_row_cancels_what_waits_and_lets_end_what_runs() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.task_id == "bad/0":
            await asyncio.sleep(1.0)
            raise ValueError
        await asyncio.sleep(3.0)

    columns = (column("bad"), column("long"), column("late", needs={"one": 1}))
    setting = Setting(columns, records=2, slots=10, local={"one": 1}, execute=execute)
    one = run(setting)
    assert one.result == RunResult("success", 1, 1)
    assert one.kinds_of("long/0") == WHOLE_LIFE
    setting.columns = (column("bad"), column("long"), column("late", needs={"one": 1}, weight=0.1))
    setting.slots = 2
    one = run(setting)
    (cancelled,) = one.told("cancelled")
    assert (cancelled.task_id, cancelled.reason_or_result) == ("late/0", "row_dropped")
    assert cancelled.task_lease_id is None
    assert one.result == RunResult("success", 1, 1)


def test_a_retryable_failure_in_a_dropped_row_is_not_retried() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.column == "bad":
            raise ValueError
        await asyncio.sleep(1.0)
        raise RetryableTaskError("Hiccup", "again please", 1.0)

    one = run(Setting((column("bad"), column("slow")), records=1, execute=execute))
    assert one.result == RunResult("success", 0, 1)
    assert one.kinds_of("slow/0")[-2:] == ["cancelled", "task_lease_released"]


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

    one = run(Setting((column("slow"),), records=1, execute=execute))
    assert one.result == RunResult("success", 1 - dropped, dropped)


def test_a_failed_batch_drops_every_row_of_its_group() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.task_id == "topic/rg1":
            raise ValueError

    one = run(Setting(CHAIN, records=30, buffer_size=10, execute=execute))
    assert one.result == RunResult("success", 20, 10)
    assert one.checkpoints[1] == frozenset(range(10, 20))


def test_a_batch_goes_on_without_the_dropped_rows() -> None:
    known: list[frozenset[int]] = []

    async def execute(payload: TaskPayload) -> None:
        if payload.task_id == "a/3":
            raise ValueError
        if payload.task_type == "batch":
            known.append(one_run[0].scheduler.dropped_rows(payload.row_group))

    columns = (column("a"), column("all", ("a",), "batch"), column("b", ("all",)))
    one_run: list[Run] = []
    setting = Setting(columns, records=5, execute=execute, at={0.0: one_run.append})

    async def later(payload: TaskPayload) -> None:
        await asyncio.sleep(0.1)
        await execute(payload)

    setting.execute = later
    one = run(setting)
    assert one.result == RunResult("success", 4, 1)
    assert known == [frozenset({3})]


def test_a_failing_checkpoint_fails_the_run_and_releases_everything() -> None:
    async def checkpoint(row_group: int, dropped: frozenset[int]) -> None:
        if row_group == 1:
            raise OSError(28, "No space left on device")

    one = run(
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
    assert one.result is not None
    assert one.result.outcome == "failed"
    assert one.result.message == (
        "row group 1 could not be written: No space left on device; "
        "row groups 2, 3 ended unfinished; the 10 rows of all others are kept"
    )
    assert one.result.rows_done == 10
    assert {event.reason_or_result for event in one.told("cancelled")} == {"run_failed"}
    assert one.told()[-1].diagnostics["message"] == one.result.message


def test_row_groups_that_fail_one_after_the_other_end_the_run() -> None:
    async def checkpoint(row_group: int, dropped: frozenset[int]) -> None:
        await asyncio.sleep(10.0 + row_group)
        raise OSError(28, "No space left on device")

    one = run(
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
    assert one.result is not None
    assert one.result.outcome == "failed"
    assert one.result.message == (
        "row groups 0, 1 could not be written: No space left on device; "
        "the 0 rows of all others are kept"
    )


def test_drain_lets_end_what_runs_and_starts_nothing() -> None:
    one = run(
        Setting(
            (column("a"), column("b", ("a",))),
            records=20,
            buffer_size=10,
            slots=4,
            execute=takes(1.0),
            at={2.5: lambda one: one.scheduler.drain()},
        )
    )
    assert one.result == RunResult("cancelled", 0, 0)
    assert one.ended_at == 3.0
    assert not [event for event in one.told("worker_spawned") if event.captured_at_monotonic > 2.5]
    assert {event.reason_or_result for event in one.told("cancelled")} == {"drain"}
    assert len(one.told("task_completed")) == 12


def test_drain_keeps_row_groups_that_are_complete() -> None:
    one = run(
        Setting(
            (column("a"),),
            records=12,
            buffer_size=4,
            slots=4,
            execute=takes(1.0),
            at={0.5: lambda one: one.scheduler.drain()},
        )
    )
    assert one.result == RunResult("cancelled", 4, 0)


def test_drain_takes_no_retry_any_more() -> None:
    async def execute(payload: TaskPayload) -> None:
        await asyncio.sleep(1.0)
        raise RetryableTaskError("Hiccup", "again please")

    one = run(
        Setting(
            (column("a"),),
            records=1,
            execute=execute,
            at={0.5: lambda one: one.scheduler.drain()},
        )
    )
    assert one.result == RunResult("cancelled", 0, 0)
    assert one.ended_at == 1.0


def test_drain_cancels_what_is_deferred() -> None:
    async def execute(payload: TaskPayload) -> None:
        raise RetryableTaskError("Hiccup", "again please", 1000.0)

    one = run(
        Setting(
            (column("a"),), records=3, execute=execute, at={5.0: lambda one: one.scheduler.drain()}
        )
    )
    assert one.ended_at == 5.0
    assert len(one.told("cancelled")) == 3


@pytest.mark.parametrize("stops", [("abort",), ("drain", "abort"), ("abort", "drain", "abort")])
def test_abort_cancels_what_runs(stops: tuple[str, ...]) -> None:
    def stop(one: Run) -> None:
        for name in stops:
            getattr(one.scheduler, name)()

    one = run(Setting((column("a"),), records=10, execute=takes(50.0), at={3.0: stop}))
    assert one.result == RunResult("cancelled", 0, 0)
    assert one.ended_at == 3.0
    ended = [event for event in one.told("cancelled") if event.task_lease_id is not None]
    assert len(ended) == 4
    assert {event.reason_or_result for event in ended} == {"abort"}


def test_stopping_before_the_start_runs_nothing() -> None:
    one = Run(Setting((column("a"),)))

    async def main() -> None:
        going = asyncio.ensure_future(one.go())
        await asyncio.sleep(0)
        one.scheduler.drain()
        await going

    run_virtual(main())
    assert one.result == RunResult("cancelled", 0, 0)
    assert one.executed == []


def test_a_cancelled_run_cleans_up_and_passes_the_cancellation_on() -> None:
    one = run(
        Setting(
            (column("a"),),
            records=10,
            execute=takes(50.0),
            at={3.0: lambda one: one.task.cancel()},
        )
    )
    assert isinstance(one.error, asyncio.CancelledError)
    assert one.ended_at == 3.0


def test_a_worker_that_cancels_itself_drops_its_row() -> None:
    async def execute(payload: TaskPayload) -> None:
        if payload.row == 0:
            raise asyncio.CancelledError

    one = run(Setting((column("a"),), records=2, execute=execute))
    assert one.result == RunResult("success", 1, 1)
    assert one.told("non_retryable_dropped")[0].reason_or_result == "CancelledError"


def test_a_spawn_that_fails_releases_the_lease_and_raises() -> None:
    one = run(Setting((column("a"),), records=10, execute=takes(5.0), spawn_fails_at=2))
    assert isinstance(one.error, OSError)
    assert one.kinds_of("a/2")[-3:] == [
        "task_lease_acquired",
        "task_lease_released",
        "worker_spawn_failed",
    ]
    assert one.told()[-1].reason_or_result == "failed"


class Fickle(StrictFairTaskAdmissionPolicy):
    """Says yes to the look and no to the acquisition, `times` times; then closed until `opens`."""

    def __init__(self, times: int = 0, opens: float | None = None) -> None:
        self.times = times
        self.opens = opens
        self.now = lambda: 0.0
        self.asked = 0

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision:
        self.asked += 1
        if self.opens is not None and asyncio.get_running_loop().time() < self.opens:
            return TaskAdmissionPolicyDecision(False, "policy_denial", (), self.opens)
        if self.times and self.asked % 2 == 0:
            self.times -= 1
            return TaskAdmissionPolicyDecision(False, "policy_denial")
        return super().evaluate(item, queue_view, admission_view)


def test_a_denial_after_selection_is_told_and_the_task_stays_queued() -> None:
    one = run(Setting((column("a"), column("b")), records=1, policy=Fickle(times=1)))
    assert one.result == RunResult("success", 1, 0)
    (denied,) = one.told("admission_denied")
    assert denied.reason_or_result == "policy_denial"
    assert one.kinds_of(str(denied.task_id)) == [
        *WHOLE_LIFE[:3],
        "admission_denied",
        *WHOLE_LIFE[2:],
    ]


def test_a_known_time_wakes_a_denied_head() -> None:
    one = run(Setting((column("a"),), records=2, policy=Fickle(opens=42.0)))
    assert one.result == RunResult("success", 2, 0)
    (blocked,) = one.told("admission_blocked")
    assert blocked.reason_or_result == "policy_denial"
    assert blocked.diagnostics["available_after"] == 42.0
    assert one.told("worker_spawned")[0].captured_at_monotonic == 42.0


def test_a_stale_selection_gives_its_lease_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def meddle(one: Run) -> None:
        original = one.admission.try_acquire

        def acquire(item: SchedulableTask, view: QueueView) -> TaskAdmissionDecision:
            decision = original(item, view)
            if item.task_id == "a/1" and len(one.queue) > 1:
                one.queue.discard("b/1")
                one.queue.enqueue([one.scheduler._live["b/1"].item])
                monkeypatch.setattr(one.admission, "try_acquire", original)
            return decision

        monkeypatch.setattr(one.admission, "try_acquire", acquire)

    setting = Setting(
        (column("a"), column("b")), records=4, slots=2, execute=takes(1.0), at={0.0: meddle}
    )
    one = run(setting)
    assert one.result == RunResult("success", 4, 0)
    (stale,) = one.told("stale_selection")
    assert stale.task_id == "a/1"
    assert one.kinds_of("a/1") == [
        *WHOLE_LIFE[:4],
        "task_lease_released",
        "stale_selection",
        *WHOLE_LIFE[2:],
    ]


def test_blocked_is_told_on_entering_and_on_change_only() -> None:
    columns = (column("a", needs={"one": 1}), column("b"))
    one = run(Setting(columns, records=3, slots=3, local={"one": 1}, execute=takes(1.0)))
    blocked = one.told("admission_blocked", "group_capped")
    first = blocked[0]
    assert first.reason_or_result == "no_capacity"
    assert first.diagnostics["resources"]["submission"] == {
        "needed": 1,
        "limit": 3,
        "free": 0,
        "holders": [
            {"group": "local/default/b", "leases": 2, "oldest_age": 0.0},
            {"group": "local/default/a", "leases": 1, "oldest_age": 0.0},
        ],
    }
    times = [event.captured_at_monotonic for event in blocked]
    assert times == sorted(set(times))


def test_looking_again_without_a_change_tells_nothing() -> None:
    one = run(
        Setting(
            (column("a"),),
            records=9,
            slots=2,
            execute=takes(10.0),
            at={float(when): lambda one: one.scheduler._wake() for when in range(1, 9)},
        )
    )
    told = one.told("admission_blocked", "queue_empty")
    assert [(event.event_kind, event.captured_at_monotonic) for event in told] == [
        ("admission_blocked", 0.0),
        ("queue_empty", 40.0),
    ]


def test_a_block_is_told_again_when_others_hold_what_is_short() -> None:
    columns = (column("b"), column("a", needs={"one": 1}))
    one = run(Setting(columns, records=3, slots=3, local={"one": 1}, execute=takes(1.0)))
    holders = [
        {
            resource: {holder["group"] for holder in facts["holders"]}
            for resource, facts in event.diagnostics["resources"].items()
        }
        for event in one.told("admission_blocked")
    ]
    assert len(holders) > 1
    assert all(before != after for before, after in pairwise(holders))


def crowd(groups: int, records: int = 8, slots: int = 4) -> Setting:
    """Many more groups than slots: with each end another group holds a slot."""
    return Setting(
        tuple(column(f"c{n}") for n in range(groups)),
        records=records,
        buffer_size=records,
        slots=slots,
        execute=uneven,
    )


async def uneven(payload: TaskPayload) -> None:
    await asyncio.sleep(0.1 + random.Random(payload.task_id).random() / 10)


def test_holders_that_change_with_every_lease_are_told_once_a_second_at_most() -> None:
    one = run(crowd(30))
    times = [event.captured_at_monotonic for event in one.told("admission_blocked")]
    drained = 30
    assert len(one.executed) == 240
    assert one.ended_at / 2 < len(times) <= 1 + one.ended_at + drained


def test_a_blocked_pass_costs_the_same_however_many_groups_wait() -> None:
    def looks_per_task(groups: int) -> float:
        setting = crowd(groups, records=24, slots=20)
        setting.at = {2.0: lambda one: one.scheduler.abort()}
        one = Run(setting)
        looks = [0]

        async def main() -> None:
            going = asyncio.ensure_future(one.go())
            await asyncio.sleep(0)
            obstacle = one.admission._obstacle

            def counted(item: SchedulableTask) -> Eligibility | None:
                looks[0] += 1
                return obstacle(item)

            one.admission._obstacle = counted  # type: ignore[method-assign]
            await going

        run_virtual(main())
        return looks[0] / len(one.executed)

    assert looks_per_task(120) < 1.5 * looks_per_task(30)


def test_whoever_begins_to_read_in_the_middle_is_told_what_holds() -> None:
    one = run(
        Setting(
            (column("a"),),
            records=9,
            slots=2,
            execute=takes(10.0),
            at={5.0: lambda one: one.scheduler.emit_keyframe("segment")},
        )
    )
    assert [event.captured_at_monotonic for event in one.told("admission_blocked")] == [0.0, 5.0]


def test_a_cap_of_its_own_is_told_as_group_capped() -> None:
    one = run(Setting((column("a", limit=1),), records=3, execute=takes(1.0)))
    capped = one.told("group_capped")
    assert capped[0].reason_or_result == "group_cap"
    assert capped[0].diagnostics["reasons"] == {"group_cap": 1}
    assert one.ended_at == 3.0


def test_queue_empty_and_queue_drained_are_told_once_per_time() -> None:
    one = run(Setting((column("a"),), records=2, slots=10, execute=takes(1.0)))
    assert len(one.told("queue_drained")) == 1
    empty = one.told("queue_empty")
    assert len(empty) == 1
    assert empty[0].diagnostics == {"ready": 0, "in_flight": 2, "deferred": 0}


def test_many_ends_in_one_iteration_lead_to_one_pass() -> None:
    one = run(Setting((column("a"),), records=100, buffer_size=100, slots=50, execute=takes(1.0)))
    assert len(one.told("admission_blocked")) == 1
    kinds = [event.event_kind for event in one.told() if event.captured_at_monotonic == 1.0]
    assert kinds.index("selected") > max(
        index for index, kind in enumerate(kinds[:150]) if kind == "task_lease_released"
    )


def test_keyframes_come_by_time_by_count_and_on_request() -> None:
    setting = Setting(
        (column("a"),),
        records=20,
        slots=1,
        execute=takes(1.0),
        keyframe_seconds=5.0,
        at={7.5: lambda one: one.scheduler.emit_keyframe("segment")},
    )
    reasons = [
        (event.diagnostics["reason"], event.captured_at_monotonic)
        for event in run(setting).told("scheduler_health_snapshot")
    ]
    assert (
        reasons
        == [
            ("start", 0.0),
            ("periodic", 5.0),
            ("segment", 7.5),
            ("periodic", 10.0),
            ("periodic", 15.0),
            ("periodic", 20.0),
            ("end", 20.0),
        ][: len(reasons)]
    )
    assert len(reasons) >= 6
    setting.keyframe_seconds, setting.keyframe_events, setting.at = 1e9, 40, {}
    by_count = run(setting).told("scheduler_health_snapshot")
    gaps = [later.sequence - one.sequence for one, later in pairwise(by_count)]
    assert len(by_count) > 4
    assert max(gaps[1:-1]) < 60


def test_keyframes_by_count_come_while_nothing_is_dispatched() -> None:
    """One task may make any number of requests."""

    async def chatty(payload: TaskPayload) -> None:
        for _ in range(300):
            one.stream.request("request_queue_formed")
            await asyncio.sleep(0.0)

    one = Run(
        Setting((column("a"),), records=1, execute=chatty, keyframe_seconds=1e9, keyframe_events=40)
    )
    run_virtual(one.go())
    keyframes = [
        ordinal
        for ordinal, event in enumerate(one.events)
        if event.event_kind == "scheduler_health_snapshot"
    ]
    assert max(later - earlier for earlier, later in pairwise(keyframes)) <= 45


def test_no_keyframe_is_repeated_while_nothing_happens() -> None:
    one = run(
        Setting(
            (column("a"),),
            records=1,
            execute=takes(100.0),
            heartbeat_seconds=1.0,
            keyframe_seconds=1.0,
        )
    )
    assert len(one.told("scheduler_loop_heartbeat")) in (99, 100)
    assert len(one.told("scheduler_health_snapshot")) == 3


def test_a_heartbeat_tells_how_late_the_loop_is_and_what_cpu_it_used() -> None:
    def stall(one: Run) -> None:
        loop = asyncio.get_running_loop()
        loop._set_time(loop.time() + 0.7)  # type: ignore[attr-defined]

    one = run(
        Setting(
            (column("a"),),
            records=1,
            execute=takes(4.0),
            heartbeat_seconds=1.0,
            cpu_seconds=iter([5.0, 5.25, 5.75, 6.0, 6.0, 6.0]).__next__,
            at={1.5: stall},
        )
    )
    beats = [event.diagnostics for event in one.told("scheduler_loop_heartbeat")]
    assert [beat["period"] for beat in beats] == [1.0] * len(beats)
    assert [round(beat["drift"], 9) for beat in beats][:3] == [0.0, 0.2, 0.0]
    assert [beat["cpu_seconds"] for beat in beats][:3] == [0.25, 0.5, 0.25]


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
    one = run(Setting((column("a", ("b",)), column("b", ("a",)))))
    assert isinstance(one.error, RuntimeError)


def test_a_run_without_rows_succeeds() -> None:
    assert run(Setting((column("a"),), records=0)).result == RunResult("success", 0, 0)


def test_back_off_grows_is_capped_and_spread() -> None:
    policy = RetryPolicy(10, 0.5, 30.0)
    source = random.Random(1)
    for attempt, full in ((1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (5000, 30.0)):
        delays = [policy.delay(attempt, source) for _ in range(50)]
        assert full / 2 <= min(delays) < max(delays) <= full
