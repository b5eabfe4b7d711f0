"""A queue, a controller and the dispatch step between them, driven by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from engine.identity import RequestResourceKey, SchedulerResourceKey, TaskGroupKey
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.decisions import TaskAdmissionLease
from engine.scheduling.policy import StrictFairTaskAdmissionPolicy, TaskAdmissionPolicy
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.types import (
    SchedulableTask,
    SchedulerResourceRequest,
    TaskGroupSpec,
    TaskPayload,
)

SLOT = SchedulerResourceKey("submission")
X = SchedulerResourceKey("model_stage", "alpha/gen")
Y = SchedulerResourceKey("model_stage", "beta/gen")


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


def key(name: str) -> TaskGroupKey:
    return TaskGroupKey("local", ("local", name))


def task(
    name: str,
    number: int,
    weight: float = 1.0,
    needs: Mapping[SchedulerResourceKey, int] | None = None,
    limit: int | None = None,
    request: RequestResourceKey | None = None,
) -> SchedulableTask:
    return SchedulableTask(
        f"{name}/{number}",
        TaskPayload(name, 0, number, "cell"),
        TaskGroupSpec(key(name), weight, limit),
        SchedulerResourceRequest(needs or {SLOT: 1}),
        request,
    )


class Bench:
    """A queue and a controller, and the dispatch step between them."""

    def __init__(
        self,
        limits: Mapping[SchedulerResourceKey, int],
        policy: TaskAdmissionPolicy | None = None,
    ) -> None:
        self.clock = HandClock()
        self.queue = FairTaskQueue()
        self.admission = TaskAdmissionController(
            limits, policy or StrictFairTaskAdmissionPolicy(), self.clock
        )
        self.leases: list[TaskAdmissionLease] = []
        self.numbered = 0

    def enqueue(self, name: str, count: int, **kwargs: object) -> None:
        first, self.numbered = self.numbered, self.numbered + count
        self.queue.enqueue(
            task(name, first + number, **kwargs)  # type: ignore[arg-type]
            for number in range(count)
        )

    def dispatch(self, most: int = 1000) -> list[str]:
        names: list[str] = []
        self.queue.reconsider_due(self.clock.now)
        while (
            len(names) < most
            and (selection := self.queue.select_next(self.admission.is_eligible)) is not None
        ):
            lease = self.admission.try_acquire(selection.item, selection.queue_view)
            assert isinstance(lease, TaskAdmissionLease)
            assert self.queue.commit(selection) is selection.item
            self.leases.append(lease)
            names.append(selection.item.payload.column)
            self._reconsider()
        return names

    def release(self, name: str) -> None:
        lease = next(lease for lease in self.leases if lease.item.payload.column == name)
        self.leases.remove(lease)
        assert self.admission.release(lease).released
        self.queue.unpark(lease.resources.amounts, lease.item.group.key)
        self._reconsider()

    def _reconsider(self) -> None:
        changes = self.admission.take_policy_changes()
        if changes is not None:
            self.queue.reconsider(*changes)

    def debt(self, name: str, resource: SchedulerResourceKey) -> int:
        return self.admission.view().debt_by_group.get(key(name), {}).get(resource, 0)

    def held(self) -> Counter[str]:
        return Counter(lease.item.payload.column for lease in self.leases)
