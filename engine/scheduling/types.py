"""The values that readiness, queue, admission and scheduler exchange."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from engine.events.kinds import DenialReason
from engine.identity import RequestResourceKey, SchedulerResourceKey, TaskGroupKey

TaskType = Literal["cell", "batch"]
WaitsFor = Literal["resource", "own_release", "peers"]
Needs = tuple[tuple[SchedulerResourceKey, int], ...]
"""Amounts that a head needs, in the order of its request."""


class TaskPayload(msgspec.Struct, frozen=True, gc=False):
    """One cell (`row` is the global row index) or one batch over a whole row group (`row` None)."""

    column: str
    row_group: int
    row: int | None
    task_type: TaskType

    @property
    def task_id(self) -> str:
        """Stable for the cell: `column/17`, or `column/rg3` for a batch."""
        if self.row is None:
            return f"{self.column}/rg{self.row_group}"
        return f"{self.column}/{self.row}"


@dataclass(frozen=True, slots=True)
class TaskGroupSpec:
    """A fair-queueing group. `admitted_limit` bounds its leases whatever its peers do."""

    key: TaskGroupKey
    weight: float
    admitted_limit: int | None = None

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"group {self.key.label} needs a weight above 0, not {self.weight}")


@dataclass(frozen=True, slots=True)
class SchedulerResourceRequest:
    """Units of each scheduler resource that a task holds from its lease to its release."""

    amounts: Mapping[SchedulerResourceKey, int]
    needs: Needs = field(init=False, compare=False)
    """The same as a tuple, which hashes and iterates faster."""

    def __post_init__(self) -> None:
        for key, amount in self.amounts.items():
            if amount < 1:
                raise ValueError(f"amount of {key.label} must be at least 1, not {amount}")
        object.__setattr__(self, "needs", tuple(self.amounts.items()))

    @property
    def labels(self) -> dict[str, int]:
        return {key.label: amount for key, amount in self.amounts.items()}


@dataclass(frozen=True, slots=True)
class ResolvedTaskScheduling:
    """What follows from a generator's metadata for every task of its column."""

    group: TaskGroupSpec
    resource_request: SchedulerResourceRequest


class SchedulableTask(msgspec.Struct, frozen=True, gc=False):
    """A ready task with all that queue and admission may know about it."""

    task_id: str
    payload: TaskPayload
    group: TaskGroupSpec
    resource_request: SchedulerResourceRequest
    request_resource_key: RequestResourceKey | None = None
    """Request resource of its first request, if known."""


class Eligibility(msgspec.Struct, frozen=True, gc=False):
    """Whether a head may run now, and if not, what has to happen first.

    `waits_for` says what blocks it: `resource` (units of `resources[0]` are missing), `own_release`
    (its group must release a lease) or `peers` (it gives way, and may run once no peer can, or once
    the queued weight of `resources` falls below `until_weight`).
    """

    eligible: bool
    reason: DenialReason | None = None
    resources: tuple[SchedulerResourceKey, ...] = ()
    waits_for: WaitsFor = "peers"
    available_after: float | None = None
    """When this changes by itself, in monotonic seconds, if known."""
    until_weight: float = math.inf
    re_evaluate_on: SchedulerResourceKey | None = None
    """Re-evaluate the head when any group releases units of this resource."""
    diagnostics: Mapping[str, Any] = {}


ELIGIBLE = Eligibility(True)
