"""The values that readiness, queue, admission and scheduler hand to each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from engine.identity import RequestResourceKey, SchedulerResourceKey, TaskGroupKey
from engine.scheduling.holders import Holders

TaskType = Literal["cell", "batch"]
DenialReason = Literal["no_capacity", "group_cap", "borrow_debt", "shutdown", "policy_denial"]
ReleaseReason = Literal[
    "released", "duplicate", "stale_lease", "wrong_controller_generation", "unknown_lease"
]
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
    """The same, in the order of the request."""

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
    """A ready task with everything that queue and admission may know about it."""

    task_id: str
    payload: TaskPayload
    group: TaskGroupSpec
    resource_request: SchedulerResourceRequest
    request_resource_key: RequestResourceKey | None = None
    """Where its first request goes, if that is known."""


class Eligibility(msgspec.Struct, frozen=True, gc=False):
    """May this head run now, and if not, what would have to happen first?

    `waits_for` where it is blocked: `resource` (units of `resources[0]` are missing), `own_release`
    (its group must release a lease), `peers` (it gives way to others, and may run as soon as none
    of them can, or once the queued weight of `resources` falls below `until_weight`).
    """

    eligible: bool
    reason: DenialReason | None = None
    resources: tuple[SchedulerResourceKey, ...] = ()
    waits_for: WaitsFor = "peers"
    available_after: float | None = None
    """Monotonic seconds, where it is known when this changes by itself."""
    until_weight: float = math.inf
    look_again_on: SchedulerResourceKey | None = None
    """Units of this coming free, whosever they were, are a reason to look again."""
    diagnostics: Mapping[str, Any] = {}


ELIGIBLE = Eligibility(True)


class Standstill(NamedTuple):
    """What a queue lacks in which every head is short of something. `backlog` stands for the groups
    that have work queued, `needs` are the different amounts that their heads need."""

    backlog: int
    needs: Iterator[Needs]


class QueueView(Protocol):
    """Facts about the queue, without any eligibility.

    A window, not a copy: it tells what is true when asked, so use it before the queue changes. The
    methods that return a mapping or iterate cost O(groups), the others O(1).
    """

    @property
    def queued_total(self) -> int: ...

    def queued_by_group(self) -> Mapping[TaskGroupKey, int]: ...

    def queued_in(self, group: TaskGroupKey) -> int: ...

    def demand_by_resource(self) -> Mapping[SchedulerResourceKey, int]:
        """Units that all queued tasks need in total."""

    def demand(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> int: ...

    def peer_demand(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> int:
        """Units that the queued tasks of all other groups need."""

    def queued_weight(self, resource: SchedulerResourceKey) -> float:
        """Sum of the weights of the groups with queued demand for the resource."""

    def backlog_version(self, resource: SchedulerResourceKey) -> int:
        """Counts each time that a group begins or ceases to have queued demand for the resource."""

    def backlog_changes(
        self, resource: SchedulerResourceKey, since: int
    ) -> Iterable[TaskGroupKey] | None:
        """The groups that did so after that version; None where that is too long ago to tell."""

    def first_candidate(self, group: TaskGroupKey) -> SchedulableTask | None:
        """The head of the group."""

    def first_candidates(self) -> Iterator[SchedulableTask]:
        """The head of every group."""

    def standstill(self) -> Standstill | None:
        """Once nothing can be selected: None where a head stands aside for another reason than that
        units are short. Costs O(different needs)."""

    def contenders(
        self, group: TaskGroupKey, resource: SchedulerResourceKey
    ) -> Iterator[SchedulableTask]:
        """Heads of other groups that need the resource and are not known to be blocked."""


class QueueSelection(msgspec.Struct, frozen=True, gc=False):
    """The next task in fair order, and the version of the queue in which that was true."""

    item: SchedulableTask
    queue_view: QueueView
    sequence_version: int


class TaskAdmissionLease(msgspec.Struct, frozen=True, gc=False):
    lease_id: str
    item: SchedulableTask
    resources: SchedulerResourceRequest
    acquired_at: float
    controller_generation: int


class TaskAdmissionDenied(msgspec.Struct, frozen=True, gc=False):
    item: SchedulableTask
    reason: DenialReason
    available_after: float | None = None
    snapshot: TaskAdmissionView | None = None
    diagnostics: Mapping[str, Any] = {}


TaskAdmissionDecision = TaskAdmissionLease | TaskAdmissionDenied


class ReleaseResult(msgspec.Struct, frozen=True, gc=False):
    released: bool
    reason: ReleaseReason
    diagnostics: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class TaskAdmissionView:
    """The resource ledger. Amounts are units; `leases` and `running` count leases by group. Groups
    without any have no entry."""

    limits: Mapping[SchedulerResourceKey, int]
    available: Mapping[SchedulerResourceKey, int]
    leased: Mapping[SchedulerResourceKey, int]
    leased_by_group: Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]]
    running_by_group: Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]]
    debt_by_group: Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]]
    leases: Mapping[TaskGroupKey, int]
    running: Mapping[TaskGroupKey, int]
    holders: Mapping[SchedulerResourceKey, Holders] = field(default_factory=dict)
    """The groups of `leased_by_group` by resource."""

    def competing_weight(self, resource: SchedulerResourceKey, queue_view: QueueView) -> float:
        """Sum of the weights of the groups that have demand queued for the resource or hold it."""
        return queue_view.queued_weight(resource) + self.idle_weight(resource, queue_view)

    def idle_weight(self, resource: SchedulerResourceKey, queue_view: QueueView) -> float:
        """Sum of the weights of the groups that hold the resource and have none queued for it."""
        holders = self.holders.get(resource)
        return 0.0 if holders is None else holders.idle_weight(resource, queue_view)


@dataclass(frozen=True, slots=True)
class TaskAdmissionBlockSummary:
    """Why no queued head may run.

    `dominant_reasons` maps each denial to its number of group heads, most frequent first.
    `diagnostics`: `groups` {group label: denial}, `resources` {resource label: {needed, limit,
    free, holders [{group, leases, oldest_age}]}}.
    """

    queued_count: int
    dominant_reasons: Mapping[DenialReason, int]
    available_after: float | None
    diagnostics: Mapping[str, Any]
