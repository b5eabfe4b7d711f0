"""What a scheduler says of itself: denials, blocks, keyframes, heartbeats."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any

import pytest

from engine.scheduling.decisions import TaskAdmissionDecision
from engine.scheduling.plan import RunResult
from engine.scheduling.policy import StrictFairTaskAdmissionPolicy, TaskAdmissionPolicyDecision
from engine.scheduling.types import Eligibility, SchedulableTask, TaskPayload
from engine.scheduling.views import QueueView, TaskAdmissionView
from engine.virtual_time import run_virtual
from engine.watch.loop_watch import LoopWatch
from tests.engine.scheduling.harness import WHOLE_LIFE, Run, Setting, column, run, takes


class Fickle(StrictFairTaskAdmissionPolicy):
    """Says yes to the look and no to the acquisition, `times` times; then closed until `opens`."""

    def __init__(self, times: int = 0, opens: float | None = None) -> None:
        self.times = times
        self.opens = opens
        self.now = lambda: 0.0
        self.calls = 0

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision:
        self.calls += 1
        if self.opens is not None and asyncio.get_running_loop().time() < self.opens:
            return TaskAdmissionPolicyDecision(False, "policy_denial", (), self.opens)
        if self.times and self.calls % 2 == 0:
            self.times -= 1
            return TaskAdmissionPolicyDecision(False, "policy_denial")
        return super().evaluate(item, queue_view, admission_view)


def test_a_denial_after_selection_is_told_and_the_task_stays_queued() -> None:
    ran = run(Setting((column("a"), column("b")), records=1, policy=Fickle(times=1)))
    assert ran.result == RunResult("success", 1, 0)
    (denied,) = ran.scheduler_events("admission_denied")
    assert denied.reason_or_result == "policy_denial"
    assert ran.kinds_of(str(denied.task_id)) == [
        *WHOLE_LIFE[:3],
        "admission_denied",
        *WHOLE_LIFE[2:],
    ]


def test_a_known_time_wakes_a_denied_head() -> None:
    ran = run(Setting((column("a"),), records=2, policy=Fickle(opens=42.0)))
    assert ran.result == RunResult("success", 2, 0)
    (blocked,) = ran.scheduler_events("admission_blocked")
    assert blocked.reason_or_result == "policy_denial"
    assert blocked.diagnostics["available_after"] == 42.0
    assert ran.scheduler_events("worker_spawned")[0].captured_at_monotonic == 42.0


def test_a_stale_selection_gives_its_lease_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def meddle(run: Run) -> None:
        original = run.admission.try_acquire

        def acquire(item: SchedulableTask, view: QueueView) -> TaskAdmissionDecision:
            decision = original(item, view)
            if item.task_id == "a/1" and len(run.queue) > 1:
                run.queue.discard("b/1")
                run.queue.enqueue([run.scheduler._live["b/1"].item])
                monkeypatch.setattr(run.admission, "try_acquire", original)
            return decision

        monkeypatch.setattr(run.admission, "try_acquire", acquire)

    setting = Setting(
        (column("a"), column("b")), records=4, slots=2, execute=takes(1.0), at={0.0: meddle}
    )
    ran = run(setting)
    assert ran.result == RunResult("success", 4, 0)
    (stale,) = ran.scheduler_events("stale_selection")
    assert stale.task_id == "a/1"
    assert ran.kinds_of("a/1") == [
        *WHOLE_LIFE[:4],
        "task_lease_released",
        "stale_selection",
        *WHOLE_LIFE[2:],
    ]


def test_blocked_is_told_on_entering_and_on_change_only() -> None:
    columns = (column("a", needs={"one": 1}), column("b"))
    ran = run(Setting(columns, records=3, slots=3, local={"one": 1}, execute=takes(1.0)))
    blocked = ran.scheduler_events("admission_blocked", "group_capped")
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
    ran = run(
        Setting(
            (column("a"),),
            records=9,
            slots=2,
            execute=takes(10.0),
            at={float(when): lambda run: run.scheduler._wake() for when in range(1, 9)},
        )
    )
    events = ran.scheduler_events("admission_blocked", "queue_empty")
    assert [(event.event_kind, event.captured_at_monotonic) for event in events] == [
        ("admission_blocked", 0.0),
        ("queue_empty", 40.0),
    ]


def test_a_block_is_told_again_when_others_hold_what_is_short() -> None:
    columns = (column("b"), column("a", needs={"one": 1}))
    ran = run(Setting(columns, records=3, slots=3, local={"one": 1}, execute=takes(1.0)))
    holders = [
        {
            resource: {holder["group"] for holder in facts["holders"]}
            for resource, facts in event.diagnostics["resources"].items()
        }
        for event in ran.scheduler_events("admission_blocked")
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
    ran = run(crowd(30))
    times = [event.captured_at_monotonic for event in ran.scheduler_events("admission_blocked")]
    drained = 30
    assert len(ran.executed) == 240
    assert ran.ended_at / 2 < len(times) <= 1 + ran.ended_at + drained


def test_a_blocked_pass_costs_the_same_however_many_groups_wait() -> None:
    def looks_per_task(groups: int) -> float:
        setting = crowd(groups, records=24, slots=20)
        setting.at = {2.0: lambda run: run.scheduler.abort()}
        ran = Run(setting)
        looks = [0]

        async def main() -> None:
            going = asyncio.ensure_future(ran.go())
            await asyncio.sleep(0)
            obstacle = ran.admission._obstacle

            def counted(item: SchedulableTask) -> Eligibility | None:
                looks[0] += 1
                return obstacle(item)

            ran.admission._obstacle = counted  # type: ignore[method-assign]
            await going

        run_virtual(main())
        return looks[0] / len(ran.executed)

    assert looks_per_task(120) < 1.5 * looks_per_task(30)


def test_whoever_begins_to_read_in_the_middle_is_told_what_holds() -> None:
    ran = run(
        Setting(
            (column("a"),),
            records=9,
            slots=2,
            execute=takes(10.0),
            at={5.0: lambda run: run.scheduler.emit_keyframe("segment")},
        )
    )
    assert [event.captured_at_monotonic for event in ran.scheduler_events("admission_blocked")] == [
        0.0,
        5.0,
    ]


def test_a_cap_of_its_own_is_told_as_group_capped() -> None:
    ran = run(Setting((column("a", limit=1),), records=3, execute=takes(1.0)))
    capped = ran.scheduler_events("group_capped")
    assert capped[0].reason_or_result == "group_cap"
    assert capped[0].diagnostics["reasons"] == {"group_cap": 1}
    assert ran.ended_at == 3.0


def test_queue_empty_and_queue_drained_are_told_once_per_time() -> None:
    ran = run(Setting((column("a"),), records=2, slots=10, execute=takes(1.0)))
    assert len(ran.scheduler_events("queue_drained")) == 1
    empty = ran.scheduler_events("queue_empty")
    assert len(empty) == 1
    assert empty[0].diagnostics == {"ready": 0, "in_flight": 2, "deferred": 0}


def test_many_ends_in_one_iteration_lead_to_one_pass() -> None:
    ran = run(Setting((column("a"),), records=100, buffer_size=100, slots=50, execute=takes(1.0)))
    assert len(ran.scheduler_events("admission_blocked")) == 1
    kinds = [
        event.event_kind for event in ran.scheduler_events() if event.captured_at_monotonic == 1.0
    ]
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
        at={7.5: lambda run: run.scheduler.emit_keyframe("segment")},
    )
    reasons = [
        (event.diagnostics["reason"], event.captured_at_monotonic)
        for event in run(setting).scheduler_events("scheduler_health_snapshot")
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
    by_count = run(setting).scheduler_events("scheduler_health_snapshot")
    gaps = [later.sequence - event.sequence for event, later in pairwise(by_count)]
    assert len(by_count) > 4
    assert max(gaps[1:-1]) < 60


def test_keyframes_by_count_come_while_nothing_is_dispatched() -> None:
    """One task may make any number of requests."""

    async def chatty(payload: TaskPayload) -> None:
        for _ in range(300):
            ran.stream.request("request_queue_formed")
            await asyncio.sleep(0.0)

    ran = Run(
        Setting((column("a"),), records=1, execute=chatty, keyframe_seconds=1e9, keyframe_events=40)
    )
    run_virtual(ran.go())
    keyframes = [
        ordinal
        for ordinal, event in enumerate(ran.events)
        if event.event_kind == "scheduler_health_snapshot"
    ]
    assert max(later - earlier for earlier, later in pairwise(keyframes)) <= 45


def test_no_keyframe_is_repeated_while_nothing_happens() -> None:
    ran = run(
        Setting(
            (column("a"),),
            records=1,
            execute=takes(100.0),
            heartbeat_seconds=1.0,
            keyframe_seconds=1.0,
        )
    )
    assert len(ran.scheduler_events("scheduler_loop_heartbeat")) in (99, 100)
    assert len(ran.scheduler_events("scheduler_health_snapshot")) == 3


class Watched(LoopWatch):
    """A watch without a thread, that says how often it was asked."""

    def __init__(self) -> None:
        super().__init__(lambda kind, at, reason, payload: None)
        self.ran = False
        self.reports = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ran = True

    def stop(self) -> None:
        self.ran = False

    def sign(self, at: float) -> None:
        assert self.ran

    def report(self) -> dict[str, Any]:
        self.reports += 1
        return {"cpu_seconds": float(self.reports)}


def test_a_heartbeat_tells_how_late_the_loop_is_and_what_its_watch_reports() -> None:
    def stall(item: Run) -> None:
        loop = asyncio.get_running_loop()
        loop._set_time(loop.time() + 0.7)  # type: ignore[attr-defined]

    watch = Watched()
    ran = run(
        Setting(
            (column("a"),),
            records=1,
            execute=takes(4.0),
            heartbeat_seconds=1.0,
            loop_watch=watch,
            at={1.5: stall},
        )
    )
    beats = [event.diagnostics for event in ran.scheduler_events("scheduler_loop_heartbeat")]
    assert [beat["period"] for beat in beats[:-1]] == [1.0] * (len(beats) - 1)
    assert [round(beat["drift"], 9) for beat in beats][:3] == [0.0, 0.2, 0.0]
    assert [beat["cpu_seconds"] for beat in beats] == [1.0 + n for n in range(len(beats))]
    assert not watch.ran
    # The last one closes what is left since the one before.
    times = [
        event.captured_at_monotonic for event in ran.scheduler_events("scheduler_loop_heartbeat")
    ]
    assert beats[-1]["period"] == pytest.approx(times[-1] - times[-2])
    kinds = [event.event_kind for event in ran.scheduler_events()]
    assert kinds.index("scheduler_job_completed") > len(kinds) - 3
