"""headgate's own queue and admission controller, made ready for the measuring loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from engine.benchmark.admission_loop import AdmissionParts
from engine.clock import LoopClock
from engine.events import EventStream
from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.config import TaskAdmissionConfig, build_policy
from engine.scheduling.decisions import QueueSelection, TaskAdmissionDecision, TaskAdmissionLease
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.resolver import SUBMISSION
from engine.scheduling.types import (
    SchedulableTask,
    SchedulerResourceRequest,
    TaskGroupSpec,
    TaskPayload,
)

Shape = Literal["local", "bound", "mixed", "stateful"]
SHAPES: tuple[Shape, ...] = ("local", "bound", "mixed", "stateful")
PLENTY = 1_000_000
CAP = 32
STAGE = SchedulerResourceKey("model_stage", "alpha/m")

Prepared = tuple[AdmissionParts, list[SchedulableTask]]


def prepare_shape(shape: Shape, groups: int, tasks: int) -> Prepared:
    """`local`: a slot each, plenty of them. `bound`: 32 of them. `mixed`: every other group works
    on a model with a stage of 32. `stateful`: each group does one task at a time."""
    limits = {SUBMISSION: CAP if shape == "bound" else PLENTY}
    needs: list[dict[SchedulerResourceKey, int]] = [{SUBMISSION: 1} for _ in range(groups)]
    if shape == "mixed":
        limits[STAGE] = CAP
        for amounts in needs[::2]:
            amounts[STAGE] = 1
    elif shape == "stateful":
        for number, amounts in enumerate(needs):
            turn = SchedulerResourceKey("local", f"turn{number}")
            limits[turn] = 1
            amounts[turn] = 1
    return prepare(limits, needs, tasks)


def prepare(
    limits: Mapping[SchedulerResourceKey, int],
    needs: Sequence[Mapping[SchedulerResourceKey, int]],
    tasks: int,
) -> Prepared:
    """Groups of equal weight, one for each of `needs`, that get the tasks in turn."""
    groups = [
        (
            TaskGroupSpec(TaskGroupKey("model" if STAGE in amounts else "local", (f"g{n}",)), 1.0),
            SchedulerResourceRequest(amounts),
        )
        for n, amounts in enumerate(needs)
    ]
    work = []
    for n in range(tasks):
        group, request = groups[n % len(groups)]
        payload = TaskPayload(f"c{n % len(groups)}", 0, n, "cell")
        work.append(SchedulableTask(payload.task_id, payload, group, request))
    return empty_parts(limits), work


def empty_parts(limits: Mapping[SchedulerResourceKey, int]) -> AdmissionParts:
    """An empty queue and a controller with these limits and the policy that runs take."""
    loop = asyncio.new_event_loop()
    clock = LoopClock(loop)
    requests = AdaptiveRequestAdmissionController(
        stream=EventStream(clock, "bench"), clock=clock, loop=loop
    )
    admission = TaskAdmissionController(
        limits, build_policy(TaskAdmissionConfig(), requests.pressure), clock
    )
    loop.close()
    queue = FairTaskQueue()

    def release(lease: TaskAdmissionLease) -> None:
        admission.release(lease)
        queue.unpark(lease.resources.amounts, lease.item.group.key)

    def acquire(selection: QueueSelection) -> TaskAdmissionDecision:
        return admission.try_acquire(selection.item, selection.queue_view)

    def is_lease(decision: Any) -> bool:
        return isinstance(decision, TaskAdmissionLease)

    def select() -> QueueSelection | None:
        return queue.select_next(admission.is_eligible)

    return AdmissionParts(queue.enqueue, select, acquire, queue.commit, release, is_lease)
