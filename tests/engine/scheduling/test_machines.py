"""State machines: queue, task admission under each policy, and completion tracker against models
that are too plain to be wrong."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from engine.identity import RequestResourceKey, SchedulerResourceKey
from engine.rows.admission import RowGroupSpec
from engine.scheduling.bounded_borrow import BoundedBorrowTaskAdmissionPolicyConfig
from engine.scheduling.config import TaskAdmissionConfig, build_policy
from engine.scheduling.decisions import QueueSelection, TaskAdmissionLease
from engine.scheduling.policy import TaskAdmissionPolicy
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.tracker import CompletionTracker
from engine.scheduling.types import ELIGIBLE, Eligibility, SchedulableTask
from engine.scheduling.views import QueueView
from tests.engine.scheduling.admission_bench import SLOT, Bench, X, Y, key, task
from tests.engine.scheduling.test_provider_aware import HandPressure
from tests.engine.scheduling.test_tracker import Column, dags

SHORT = settings(max_examples=40, stateful_step_count=40, deadline=None)

WEIGHTS = {"a": 1.0, "b": 1.0, "c": 3.0, "d": 0.5, "e": 1.0}
NEEDS: dict[str, dict[SchedulerResourceKey, int]] = {
    "a": {SLOT: 1},
    "b": {SLOT: 1},
    "c": {SLOT: 1},
    "d": {SLOT: 1, X: 1},
    "e": {SLOT: 1, Y: 2},
}
LIMITS = {SLOT: 4, X: 1, Y: 3}
GROUPS = st.sampled_from(sorted(NEEDS))


class QueueMachine(RuleBasedStateMachine):
    """Against lists: first in first out, the only removals are commit and discard, no eligible head
    is missed, and groups of equal needs are served by weight."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairTaskQueue()
        self.waiting: dict[str, list[SchedulableTask]] = {name: [] for name in NEEDS}
        self.free = dict(LIMITS)
        self.held: list[SchedulableTask] = []
        self.number = 0
        self.selection: QueueSelection | None = None
        self.fresh = False
        self.served = dict.fromkeys(NEEDS, 0.0)
        self.leads: dict[tuple[str, str], tuple[float, float]] = {}

    def fits(self, item: SchedulableTask) -> bool:
        amounts = item.resource_request.amounts
        return all(self.free[resource] >= amount for resource, amount in amounts.items())

    def check(self, item: SchedulableTask, view: QueueView) -> Eligibility:
        for resource, amount in item.resource_request.amounts.items():
            if self.free[resource] < amount:
                return Eligibility(False, "no_capacity", (resource,), "resource")
        return ELIGIBLE

    @rule(name=GROUPS, count=st.integers(1, 9), again=st.booleans())
    def enqueue(self, name: str, count: int, again: bool) -> None:
        items = [
            task(name, self.number + index, WEIGHTS[name], NEEDS[name]) for index in range(count)
        ]
        self.number += count
        known = self.waiting[name][:1] if again else []
        accepted = self.queue.enqueue([*known, *items])
        assert accepted == [item.task_id for item in items]
        self.waiting[name] += items
        self.fresh = False

    @rule()
    def select(self) -> None:
        chosen = self.queue.select_next(self.check)
        assert self.queue.select_next(self.check) == chosen
        heads = [items[0] for items in self.waiting.values() if items]
        if chosen is None:
            assert not any(map(self.fits, heads))
        else:
            assert chosen.item in heads
            assert self.fits(chosen.item)
        self.selection, self.fresh = chosen, chosen is not None

    @precondition(lambda self: self.selection is not None)
    @rule()
    def commit(self) -> None:
        assert self.selection is not None
        item = self.queue.commit(self.selection)
        if not self.fresh:
            assert item is None
            return
        assert item is self.selection.item
        name = item.payload.column
        assert self.waiting[name].pop(0) is item
        self.held.append(item)
        for resource, amount in item.resource_request.amounts.items():
            self.free[resource] -= amount
        self.fresh = False
        self._serve(name)

    @rule(most=st.integers(1, 12))
    def take(self, most: int) -> None:
        for _ in range(most):
            self.select()
            if self.selection is None:
                break
            self.commit()

    def _serve(self, name: str) -> None:
        """The leads among a, b, c: they need the same, so one could run where the others could."""
        self.served[name] += 1 / WEIGHTS[name]
        for f, g in (("a", "b"), ("a", "c"), ("b", "c")):
            lead = self.served[f] - self.served[g]
            low, high = self.leads.get((f, g), (lead, lead))
            low, high = min(low, lead), max(high, lead)
            backlogged = {item: bool(self.waiting[item]) for item in (f, g)}
            if name in (f, g) and all(backlogged[item] or item == name for item in (f, g)):
                assert high - low <= 1 / WEIGHTS[f] + 1 / WEIGHTS[g] + 1e-6
            self.leads[f, g] = low, high
            if not all(backlogged.values()):
                self.leads[f, g] = lead, lead

    @precondition(lambda self: self.held)
    @rule(most=st.integers(1, 4), data=st.data())
    def release(self, most: int, data: st.DataObject) -> None:
        for _ in range(min(most, len(self.held))):
            item = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
            for resource, amount in item.resource_request.amounts.items():
                self.free[resource] += amount
            self.queue.unpark(item.resource_request.amounts, item.group.key)
        self.selection, self.fresh = None, False

    @rule(name=GROUPS, data=st.data())
    def cancel(self, name: str, data: st.DataObject) -> None:
        items = self.waiting[name]
        if not items:
            assert not self.queue.discard(f"{name}/none")
            return
        item = items.pop(data.draw(st.integers(0, len(items) - 1)))
        assert self.queue.discard(item.task_id)
        assert not self.queue.discard(item.task_id)
        self.fresh = False
        if not items:
            for pair in [pair for pair in self.leads if name in pair]:
                del self.leads[pair]

    @invariant()
    def the_view_tells_the_facts(self) -> None:
        view = self.queue.view()
        total = sum(map(len, self.waiting.values()))
        assert len(self.queue) == view.queued_total == total
        demand: Counter[SchedulerResourceKey] = Counter()
        for name, items in self.waiting.items():
            assert view.queued_in(key(name)) == len(items)
            assert view.first_candidate(key(name)) is (items[0] if items else None)
            for resource, amount in NEEDS[name].items():
                demand[resource] += amount * len(items)
                assert view.demand(key(name), resource) == amount * len(items)
        assert view.demand_by_resource() == +demand


class AdmissionMachine(RuleBasedStateMachine):
    """Against the leases themselves: no unit is given out twice or lost, debt stays within what is
    held, and no head that fits is left behind unless a borrow ceiling keeps it."""

    leases: Bundle[TaskAdmissionLease] = Bundle("leases")
    released: Bundle[TaskAdmissionLease] = Bundle("released")

    config = TaskAdmissionConfig(provider_aware=False)

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(LIMITS)
        self.pressure = HandPressure(self.bench.clock)
        self.bench = Bench(LIMITS, self.policy())
        self.pressure.clock = self.bench.clock
        self.running: set[str] = set()
        self.refused = 0

    def policy(self) -> TaskAdmissionPolicy:
        return build_policy(self.config, self.pressure)

    @property
    def keeps_back(self) -> bool:
        ceiling = self.config.bounded_borrow.default_borrow_ceiling
        return self.config.shares == "bounded_borrow" and ceiling is not None

    @rule(name=GROUPS, count=st.integers(1, 3))
    def enqueue(self, name: str, count: int) -> None:
        request = RequestResourceKey(name, "m", "chat")
        self.bench.enqueue(name, count, weight=WEIGHTS[name], needs=NEEDS[name], request=request)

    @rule(name=GROUPS)
    def cancel(self, name: str) -> None:
        head = self.bench.queue.view().first_candidate(key(name))
        if head is not None:
            assert self.bench.queue.discard(head.task_id)

    @rule(target=leases, most=st.sampled_from([1, 2, 1000]))
    def dispatch(self, most: int) -> MultipleResults[TaskAdmissionLease]:
        before = len(self.bench.leases)
        taken = self.bench.dispatch(most)
        if len(taken) < most:
            view = self.bench.admission.view()
            for head in self.bench.queue.view().first_candidates():
                fits = all(
                    view.available[resource] >= amount
                    for resource, amount in head.resource_request.amounts.items()
                )
                holds = head.group.key in view.leases
                assert not fits or (self.keeps_back and holds), head.task_id
        return multiple(*self.bench.leases[before:])

    @rule(lease=leases)
    def spawn(self, lease: TaskAdmissionLease) -> None:
        if lease in self.bench.leases:
            self.bench.admission.note_spawned(lease)
            self.bench.admission.note_spawned(lease)
            self.running.add(lease.lease_id)

    @rule(target=released, lease=consumes(leases))
    def release(self, lease: TaskAdmissionLease) -> TaskAdmissionLease:
        self.bench.leases.remove(lease)
        self.running.discard(lease.lease_id)
        assert self.bench.admission.release(lease).reason == "released"
        self.bench.queue.unpark(lease.resources.amounts, lease.item.group.key)
        self.bench._reconsider()
        return lease

    @rule(lease=released)
    def release_again(self, lease: TaskAdmissionLease) -> None:
        assert self.bench.admission.release(lease).reason == "duplicate"
        self.refused += 1

    @rule(lease=leases)
    def release_a_copy(self, lease: TaskAdmissionLease) -> None:
        assert self.bench.admission.release(_copy(lease)).reason == "stale_lease"
        self.refused += 1

    @rule(lease=leases)
    def release_of_another_controller(self, lease: TaskAdmissionLease) -> None:
        foreign = _copy(lease, lease.controller_generation + 1)
        assert self.bench.admission.release(foreign).reason == "wrong_controller_generation"
        self.refused += 1

    @rule(name=GROUPS, seconds=st.sampled_from([0.5, 2.0]), waiters=st.integers(0, 2))
    def press(self, name: str, seconds: float, waiters: int) -> None:
        resource = RequestResourceKey(name, "m", "chat")
        self.pressure.blocked_until[resource] = self.bench.clock.now + seconds
        self.pressure.waiters[resource] = waiters

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.bench.clock.now += seconds

    @invariant()
    def the_ledger_is_the_sum_of_the_leases(self) -> None:
        view = self.bench.admission.view()
        held: Counter[SchedulerResourceKey] = Counter()
        by_group: dict[str, Counter[SchedulerResourceKey]] = {name: Counter() for name in NEEDS}
        for lease in self.bench.leases:
            held.update(lease.resources.amounts)
            by_group[lease.item.payload.column].update(lease.resources.amounts)
        for resource, limit in LIMITS.items():
            assert view.leased[resource] == held[resource] <= limit
            assert view.available[resource] == limit - held[resource]
        assert dict(self.bench.held()) == {
            group.identity[-1]: count for group, count in view.leases.items()
        }
        for name, amounts in by_group.items():
            assert view.leased_by_group.get(key(name), {}) == amounts
            for resource, debt in view.debt_by_group.get(key(name), {}).items():
                assert 0 <= debt <= amounts[resource]
        assert sum(view.running.values()) == len(self.running) <= len(self.bench.leases)
        assert self.bench.admission.active_leases == len(self.bench.leases)
        assert sum(self.bench.admission.release_diagnostics.values()) == self.refused


def _copy(lease: TaskAdmissionLease, generation: int | None = None) -> TaskAdmissionLease:
    if generation is None:
        generation = lease.controller_generation
    return msgspec.structs.replace(lease, controller_generation=generation)


class BorrowMachine(AdmissionMachine):
    config = TaskAdmissionConfig(shares="bounded_borrow", provider_aware=False)


class CeilingMachine(AdmissionMachine):
    config = TaskAdmissionConfig(
        shares="bounded_borrow",
        provider_aware=False,
        bounded_borrow=BoundedBorrowTaskAdmissionPolicyConfig(
            strict_share_rounding="floor", default_borrow_ceiling=1, repay_when_withheld=False
        ),
    )


class ProviderAwareMachine(AdmissionMachine):
    config = TaskAdmissionConfig(provider_aware=True)


class ProviderAwareBorrowMachine(AdmissionMachine):
    config = TaskAdmissionConfig(shares="bounded_borrow", provider_aware=True)


class TrackerMachine(RuleBasedStateMachine):
    """Against the definition: a task is ready exactly when all that it needs is complete or
    dropped, and it is neither handed out, complete nor dropped itself."""

    @initialize(columns=dags())
    def begin(self, columns: list[Column]) -> None:
        self.columns = columns
        self.by_name = {column.name: column for column in columns}
        self.tracker = CompletionTracker(columns)
        self.groups: dict[int, RowGroupSpec] = {}
        self.begun = self.rows = 0
        self.dropped: dict[int, set[int]] = {}
        self.complete: set[str] = set()
        self.out: dict[str, tuple[int, int | None]] = {}

    def tasks_of(self, column: Column, group: int) -> list[tuple[str, int | None]]:
        spec, dropped = self.groups[group], self.dropped[group]
        if column.task_type == "batch":
            return [(f"{column.name}/rg{group}", None)] if len(dropped) < spec.rows else []
        return [(f"{column.name}/{row}", row) for row in spec.row_range() if row not in dropped]

    def ready(self) -> dict[str, tuple[int, int | None]]:
        result: dict[str, tuple[int, int | None]] = {}
        for group in self.groups:
            for column in self.columns:
                for task_id, row in self.tasks_of(column, group):
                    needed = [
                        other
                        for name in column.depends_on
                        for other, at in self.tasks_of(self.by_name[name], group)
                        if row is None or at is None or at == row
                    ]
                    if task_id not in self.complete and self.complete.issuperset(needed):
                        result[task_id] = (group, row)
        return {task_id: place for task_id, place in result.items() if task_id not in self.out}

    @precondition(lambda self: len(self.groups) < 3)
    @rule(rows=st.integers(1, 4))
    def add(self, rows: int) -> None:
        before = self.ready()
        spec = self.groups[self.begun] = RowGroupSpec(self.begun, self.rows, rows)
        self.dropped[self.begun] = set()
        self.begun += 1
        self.rows += rows
        task_ids = {payload.task_id for payload in self.tracker.add_row_group(spec)}
        assert task_ids == self.ready().keys() - before.keys()

    @rule(source=st.randoms(use_true_random=False))
    def hand_out(self, source: random.Random) -> None:
        some = {task_id: at for task_id, at in self.ready().items() if source.random() < 0.6}
        self.tracker.mark_enqueued(some)
        self.out |= some

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def complete_one(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.out)))
        before = self.ready()
        task_ids = {payload.task_id for payload in self.tracker.mark_complete(task_id)}
        del self.out[task_id]
        self.complete.add(task_id)
        assert task_ids == self.ready().keys() - before.keys()
        assert self.tracker.mark_complete(task_id) == ()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.out)))
        del self.out[task_id]
        payload = self.tracker.mark_ready_again(task_id)
        assert payload is not None
        assert payload.task_id == task_id
        assert self.tracker.mark_ready_again(task_id) is None

    @precondition(lambda self: self.groups)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(sorted(self.groups)))
        rows = data.draw(st.lists(st.sampled_from(self.groups[group].row_range()), max_size=2))
        before = self.ready()
        result = self.tracker.drop_rows(group, rows)
        self.dropped[group].update(rows)
        alive = {task_id for column in self.columns for task_id, _ in self.tasks_of(column, group)}
        gone = {
            task_id
            for task_id, (at, _) in (before | self.out).items()
            if at == group and task_id not in alive
        }
        assert set(result.cancelled) == gone
        self.out = {task_id: at for task_id, at in self.out.items() if task_id not in gone}
        assert {task.task_id for task in result.ready} == self.ready().keys() - before.keys()

    @precondition(lambda self: self.groups)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(sorted(self.groups)))
        if self.tracker.is_complete(group):
            self.tracker.forget_row_group(group)
            del self.groups[group]

    @invariant()
    def the_frontier_is_what_is_ready(self) -> None:
        if not hasattr(self, "tracker"):
            return
        frontier = [payload.task_id for payload in self.tracker.ready_frontier()]
        assert len(frontier) == self.tracker.ready_count
        assert set(frontier) == self.ready().keys()
        for group in self.groups:
            over = all(
                task_id in self.complete
                for column in self.columns
                for task_id, _ in self.tasks_of(column, group)
            )
            assert self.tracker.is_complete(group) == over
            assert self.tracker.dropped_rows(group) == self.dropped[group]


for machine in (
    QueueMachine,
    AdmissionMachine,
    BorrowMachine,
    CeilingMachine,
    ProviderAwareMachine,
    ProviderAwareBorrowMachine,
    TrackerMachine,
):
    machine.TestCase.settings = SHORT

TestQueue = QueueMachine.TestCase
TestStrictFair = AdmissionMachine.TestCase
TestBoundedBorrow = BorrowMachine.TestCase
TestBorrowCeiling = CeilingMachine.TestCase
TestProviderAware = ProviderAwareMachine.TestCase
TestProviderAwareBorrow = ProviderAwareBorrowMachine.TestCase
TestTracker = TrackerMachine.TestCase
