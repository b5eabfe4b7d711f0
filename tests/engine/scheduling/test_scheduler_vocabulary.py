"""Every kind of the scheduler stream, told by the smallest run that has a reason to tell it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import RetryableTaskError
from engine.events import ALL_SCHEDULER_KINDS, RunInfo, SchedulerEvent, decode_line
from engine.events.journal import JournalWriter
from engine.events.run_folder import RunFolder
from engine.identity import RequestResourceKey
from engine.scheduling.decisions import TaskAdmissionDecision
from engine.scheduling.plan import RetryPolicy
from engine.scheduling.policy import StrictFairTaskAdmissionPolicy, TaskAdmissionPolicyDecision
from engine.scheduling.provider_aware import ProviderAwareTaskAdmissionPolicy
from engine.scheduling.resolver import MetadataDiagnostic
from engine.scheduling.types import SchedulableTask, TaskPayload
from engine.scheduling.views import QueueView, TaskAdmissionView
from engine.virtual_time import run_virtual
from tests.engine.events.catalogue import check_declared
from tests.engine.scheduling.harness import Run, Setting, column, takes
from tests.engine.scheduling.test_provider_aware import HandPressure

ALPHA, BETA = RequestResourceKey("alpha", "m", "chat"), RequestResourceKey("beta", "m", "chat")
WORK = Setting((column("a"),), records=6, buffer_size=2, row_groups=1, execute=takes(2.0), slots=1)


class SecondThoughts(StrictFairTaskAdmissionPolicy):
    """Refuses the first acquisition after it has let the head be chosen."""

    calls = 0

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision:
        self.calls += 1
        if self.calls == 2:
            return TaskAdmissionPolicyDecision(False, "policy_denial")
        return super().evaluate(item, queue_view, admission_view)


def fails_once() -> Callable[[TaskPayload], object]:
    seen: set[str] = set()

    async def execute(payload: TaskPayload) -> None:
        if payload.task_id not in seen:
            seen.add(payload.task_id)
            raise RetryableTaskError("Busy", "the provider is busy")

    return execute


async def breaks(payload: TaskPayload) -> None:
    raise ValueError


async def full_disk(row_group: int, dropped: frozenset[int]) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def change_the_queue(run: Run) -> None:
    """While the first lease is being acquired, as a sink or a user's callback might."""
    original = run.admission.try_acquire

    def acquire(item: SchedulableTask, view: QueueView) -> TaskAdmissionDecision:
        run.admission.try_acquire = original  # type: ignore[method-assign]
        decision = original(item, view)
        run.queue.discard("a/1")
        run.queue.enqueue([run.scheduler._live["a/1"].item])
        return decision

    run.admission.try_acquire = acquire  # type: ignore[method-assign]


def release_behind_its_back(item: Run) -> None:
    for lease in list(item.admission._leases.values()):
        item.admission.release(lease)


def pressed() -> ProviderAwareTaskAdmissionPolicy:
    pressure = HandPressure()
    pressure.blocked_until[ALPHA] = 100.0
    return ProviderAwareTaskAdmissionPolicy(StrictFairTaskAdmissionPolicy(), pressure)


TWO_PROVIDERS = (
    column("a", needs={"x": 1}, request_resource=ALPHA),
    column("b", needs={"y": 1}, request_resource=BETA),
)
SETTINGS: dict[str, Setting] = {
    """scheduler_job_started scheduler_health_snapshot dependency_ready ready_enqueued
    row_group_admitted row_group_admission_blocked row_group_checkpoint_started
    row_group_checkpointed selected task_lease_acquired worker_spawned admission_blocked
    queue_drained queue_empty task_completed task_lease_released scheduler_job_completed""": WORK,
    "group_capped": Setting((column("a", limit=1),), records=4, execute=takes(1.0)),
    "scheduler_loop_heartbeat": Setting((column("a"),), execute=takes(2.5), heartbeat_seconds=1.0),
    "row_group_admission_target_changed": Setting(
        (column("a"),), records=4, buffer_size=1, execute=takes(1.0), adaptive_row_groups=True
    ),
    "retry_deferred salvage_redispatched": Setting(
        (column("a"),),
        records=1,
        execute=fails_once(),  # type: ignore[arg-type]
    ),
    "non_retryable_dropped": Setting((column("a"),), records=1, execute=breaks),
    "row_group_write_retried": Setting((column("a"),), records=1, checkpoint=full_disk),
    "run_warning": Setting((column("a"),), records=1, warnings=[("odd", "something is odd")]),
    "cancelled run_stopping": Setting(
        (column("a"),), slots=1, execute=takes(1.0), at={0.5: lambda run: run.scheduler.abort()}
    ),
    "worker_spawn_failed": Setting((column("a"),), records=1, spawn_fails_at=0),
    "admission_denied": Setting((column("a"),), records=1, policy=SecondThoughts()),
    "stale_selection": Setting((column("a"),), records=2, slots=1, at={0.0: change_the_queue}),
    "release_diagnostic": Setting(
        (column("a"),), records=1, execute=takes(1.0), at={0.5: release_behind_its_back}
    ),
    "request_pressure_advisory_skipped": Setting(
        TWO_PROVIDERS, slots=1, local={"x": 9, "y": 9}, execute=takes(1.0), policy=pressed()
    ),
    "metadata_diagnostic": Setting(
        (column("a"),), metadata_diagnostics=[MetadataDiagnostic("a", "no_gpu", "on the CPU")]
    ),
}
EMITTED_BY_THE_JOURNAL = {"recording_gap"}
EMITTED_BY_THE_WATCH = {"loop_blocked", "process_paused"}
"""`tests/engine/watch` has each of them."""
EMITTED_BY_A_RESUMED_RUN = {"run_resumed"}
"""`tests/engine/run/test_resume.py` has it."""


@pytest.mark.parametrize("kinds", SETTINGS)
def test_a_run_with_a_reason_tells(kinds: str) -> None:
    setting = SETTINGS[kinds]
    setting.retry = RetryPolicy(3, 0.5, 4.0)
    ran = Run(setting)
    run_virtual(ran.go())
    events = ran.scheduler_events()
    assert set(kinds.split()) <= {event.event_kind for event in events} <= ALL_SCHEDULER_KINDS
    for event in events:
        check_declared(event)


def test_a_journal_that_lost_lines_tells_the_gap(tmp_path: Path) -> None:
    full = [False]

    def write(fd: int, data: bytes) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data)

    folder = RunFolder.create(tmp_path / "run")
    journal = JournalWriter(
        folder, RunInfo("r", "r"), loop=None, request_keyframe=lambda reason: None, write=write
    )
    full[0] = True
    journal.write_events([SchedulerEvent("selected", 1.0, 1)])
    full[0] = False
    journal.write_events([SchedulerEvent("selected", 2.0, 2)])
    lines = [decode_line(line) for line in folder.segment(1).read_bytes().splitlines()]
    events = [line for line in lines if isinstance(line, SchedulerEvent)]
    assert {event.event_kind for event in events} == {"recording_gap", "selected"}
    for event in events:
        check_declared(event)


def test_the_table_is_the_vocabulary() -> None:
    reported = {kind for kinds in SETTINGS for kind in kinds.split()}
    elsewhere = EMITTED_BY_THE_JOURNAL | EMITTED_BY_THE_WATCH | EMITTED_BY_A_RESUMED_RUN
    assert reported | elsewhere == ALL_SCHEDULER_KINDS
