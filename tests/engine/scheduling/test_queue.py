from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.decisions import QueueSelection
from engine.scheduling.fair_order import FairOrder, OrderedGroup
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.types import (
    ELIGIBLE,
    Eligibility,
    SchedulableTask,
    SchedulerResourceRequest,
    TaskGroupSpec,
    TaskPayload,
)
from engine.scheduling.views import QueueView

SLOT = SchedulerResourceKey("submission")


def key(name: str) -> TaskGroupKey:
    return TaskGroupKey("local", ("local", name))


def stage(name: str) -> SchedulerResourceKey:
    return SchedulerResourceKey("local", name)


def task(
    name: str,
    number: int,
    weight: float = 1.0,
    needs: dict[SchedulerResourceKey, int] | None = None,
) -> SchedulableTask:
    return SchedulableTask(
        f"{name}/{number}",
        TaskPayload(name, 0, number, "cell"),
        TaskGroupSpec(key(name), weight),
        SchedulerResourceRequest(needs or {SLOT: 1}),
    )


def anything(item: SchedulableTask, view: QueueView) -> Eligibility:
    return ELIGIBLE


def lacks(resource: SchedulerResourceKey) -> Eligibility:
    return Eligibility(False, "no_capacity", (resource,), "resource")


class Looks:
    """An eligibility check that answers from a table of groups and counts its questions."""

    def __init__(self) -> None:
        self.blocked: dict[str, Eligibility] = {}
        self.examined: list[str] = []

    def __call__(self, item: SchedulableTask, view: QueueView) -> Eligibility:
        self.examined.append(item.payload.column)
        return self.blocked.get(item.payload.column, ELIGIBLE)


def take(queue: FairTaskQueue, check: object = anything) -> str | None:
    selection = queue.select_next(check)  # type: ignore[arg-type]
    if selection is None:
        return None
    assert queue.commit(selection) is selection.item
    return selection.item.task_id


def take_all(queue: FairTaskQueue) -> list[str]:
    taken = []
    while (task_id := take(queue)) is not None:
        taken.append(task_id)
    return taken


def test_enqueue_names_what_it_took_and_takes_nothing_twice() -> None:
    queue = FairTaskQueue()
    assert queue.enqueue([task("a", 0), task("a", 1)]) == ["a/0", "a/1"]
    assert queue.enqueue([task("a", 1), task("b", 0)]) == ["b/0"]
    assert len(queue) == 3
    assert sorted(take_all(queue)) == ["a/0", "a/1", "b/0"]
    assert len(queue) == 0


def test_within_a_group_first_in_is_first_out() -> None:
    queue = FairTaskQueue()
    queue.enqueue(task("a", number) for number in (3, 1, 2))
    assert take_all(queue) == ["a/3", "a/1", "a/2"]


def test_selecting_takes_nothing_out() -> None:
    queue = FairTaskQueue()
    queue.enqueue([task("a", 0), task("b", 0)])
    first = queue.select_next(anything)
    again = queue.select_next(anything)
    assert first is not None
    assert again is not None
    assert first.item is again.item
    assert first.sequence_version == again.sequence_version
    assert len(queue) == 2


@pytest.mark.parametrize("change", ["enqueue", "commit", "discard"])
def test_a_selection_is_stale_after_any_change(change: str) -> None:
    queue = FairTaskQueue()
    queue.enqueue([task("a", 0), task("b", 0)])
    old = queue.select_next(anything)
    assert old is not None
    if change == "enqueue":
        queue.enqueue([task("c", 0)])
    elif change == "commit":
        take(queue)
    else:
        queue.discard("b/0")
    left = len(queue)
    assert queue.commit(old) is None
    assert len(queue) == left


def test_weights_share_dispatches() -> None:
    queue = FairTaskQueue()
    queue.enqueue(task("heavy", number, 3.0) for number in range(90))
    queue.enqueue(task("light", number, 1.0) for number in range(90))
    first = [take(queue) for _ in range(80)]
    counts = Counter(str(task_id).partition("/")[0] for task_id in first)
    assert counts == {"heavy": 60, "light": 20}


def test_a_late_group_gets_no_credit_for_its_absence() -> None:
    queue = FairTaskQueue()
    queue.enqueue(task("early", number) for number in range(100))
    for _ in range(50):
        take(queue)
    queue.enqueue(task("late", number) for number in range(100))
    counts = Counter(str(take(queue)).partition("/")[0] for _ in range(20))
    assert counts == {"early": 10, "late": 10}


def test_an_idle_group_gets_no_credit_either() -> None:
    queue = FairTaskQueue()
    queue.enqueue([task("b", 0), *(task("a", number) for number in range(100))])
    for _ in range(60):
        take(queue)
    queue.enqueue(task("b", number) for number in range(1, 50))
    counts = Counter(str(take(queue)).partition("/")[0] for _ in range(20))
    assert abs(counts["a"] - counts["b"]) <= 2


def test_discard_takes_out_of_turn_anywhere() -> None:
    queue = FairTaskQueue()
    queue.enqueue(task("a", number) for number in range(4))
    assert queue.discard("a/0")
    assert queue.discard("a/2")
    assert not queue.discard("a/2")
    assert not queue.discard("b/0")
    assert queue.enqueue([task("a", 2)]) == ["a/2"]
    assert queue.view().queued_in(key("a")) == 3
    assert take_all(queue) == ["a/1", "a/3", "a/2"]
    assert queue.view().demand_by_resource() == {}


def test_a_blocked_group_is_not_looked_at_before_a_release_of_what_it_lacks() -> None:
    queue, looks = FairTaskQueue(), Looks()
    queue.enqueue([task("a", 0, needs={SLOT: 1, stage("x"): 1}), task("b", 0), task("b", 1)])
    looks.blocked["a"] = lacks(stage("x"))
    assert take(queue, looks) == "b/0"
    assert take(queue, looks) == "b/1"
    assert looks.examined.count("a") == 1
    looks.blocked.clear()
    queue.unpark([SLOT])
    assert take(queue, looks) is None
    assert looks.examined.count("a") == 1
    queue.unpark([stage("x")])
    assert take(queue, looks) == "a/0"


def test_one_look_parks_every_group_with_the_same_needs() -> None:
    queue, looks = FairTaskQueue(), Looks()
    names = [f"g{number}" for number in range(100)]
    queue.enqueue(task(name, 0) for name in names)
    looks.blocked = dict.fromkeys(names, lacks(SLOT))
    assert take(queue, looks) is None
    assert len(looks.examined) == 1
    queue.enqueue([task("late", 0)])
    assert take(queue, looks) is None
    assert len(looks.examined) == 1
    looks.blocked.clear()
    queue.unpark([SLOT])
    assert take(queue, looks) == "g0/0"
    looks.blocked = dict.fromkeys([*names, "late"], lacks(SLOT))
    assert take(queue, looks) is None
    assert len(looks.examined) == 3


def test_a_smaller_need_is_not_parked_with_a_larger_one() -> None:
    queue, looks = FairTaskQueue(), Looks()
    queue.enqueue([task("large", 0, needs={SLOT: 4}), task("small", 0, needs={SLOT: 1})])
    looks.blocked["large"] = lacks(SLOT)
    assert take(queue, looks) == "small/0"


def test_a_capped_group_waits_for_its_own_release() -> None:
    queue, looks = FairTaskQueue(), Looks()
    queue.enqueue([task("a", 0), task("b", 0)])
    looks.blocked["a"] = Eligibility(False, "group_cap", (SLOT,), "own_release")
    assert take(queue, looks) == "b/0"
    looks.blocked.clear()
    queue.unpark([SLOT], key("b"))
    assert take(queue, looks) is None
    queue.unpark([SLOT], key("a"))
    assert take(queue, looks) == "a/0"


def test_a_group_that_gives_way_runs_when_no_peer_can() -> None:
    queue = FairTaskQueue()
    queue.enqueue([task("a", 0), task("b", 0, needs={SLOT: 1, stage("x"): 1})])

    def check(item: SchedulableTask, view: QueueView) -> Eligibility:
        if item.payload.column == "b":
            return lacks(stage("x"))
        if any(view.contenders(item.group.key, SLOT)):
            return Eligibility(False, "group_cap", (SLOT,), "peers")
        return ELIGIBLE

    assert take(queue, check) == "a/0"
    assert take(queue, check) is None
    assert len(queue) == 1


def test_a_group_that_gives_way_is_looked_at_again_when_the_queued_weight_falls() -> None:
    queue, looks = FairTaskQueue(), Looks()
    queue.enqueue([task("a", 0), task("b", 0, 2.0), task("c", 0), task("c", 1)])
    looks.blocked["a"] = Eligibility(False, "group_cap", (SLOT,), "peers", None, 3.0)
    assert take(queue, looks) == "b/0"
    looks.blocked.clear()
    assert take(queue, looks) == "a/0"


def test_a_head_that_its_policy_denies_even_alone_is_asked_about_at_every_look() -> None:
    queue, looks = FairTaskQueue(), Looks()
    queue.enqueue([task("a", 0)])
    looks.blocked["a"] = Eligibility(False, "policy_denial", (), "peers", 12.5)
    assert take(queue, looks) is None
    assert queue.next_deadline == 12.5
    assert take(queue, looks) is None
    looks.blocked.clear()
    assert take(queue, looks) == "a/0"
    assert queue.next_deadline is None


def test_a_shape_comes_back_as_one_with_its_weights_kept() -> None:
    """While another group races ahead, two groups short of x share it by weight, not in turn."""
    queue = FairTaskQueue()
    needs = {SLOT: 1, stage("x"): 1}
    queue.enqueue(task("heavy", number, 3.0, needs) for number in range(100))
    queue.enqueue(task("light", number, 1.0, needs) for number in range(100))
    queue.enqueue(task("fast", number) for number in range(1000))
    free = 0
    taken: Counter[str] = Counter()

    def check(item: SchedulableTask, view: QueueView) -> Eligibility:
        if item.payload.column != "fast" and not free:
            return lacks(stage("x"))
        return ELIGIBLE

    for _ in range(40):
        for _ in range(10):
            take(queue, check)
        free = 1
        queue.unpark([stage("x")])
        selection = queue.select_next(check)
        while selection is not None and selection.item.payload.column == "fast":
            queue.commit(selection)
            selection = queue.select_next(check)
        assert selection is not None
        queue.commit(selection)
        taken[selection.item.payload.column] += 1
        free = 0
    assert taken == {"heavy": 30, "light": 10}


def test_a_group_that_joins_a_shape_that_lags_is_not_pushed_back_with_it() -> None:
    order: FairOrder[OrderedGroup] = FairOrder()
    lagging, joining, other = (
        OrderedGroup(key(name), index, 1.0) for index, name in enumerate(("l", "j", "o"))
    )
    needs, others = ((SLOT, 1),), ((stage("x"), 1),)
    order.enter(lagging, needs, tier=1)
    order.enter(other, others)
    for _ in range(7):
        order.advance(other)
    order.leave(other)
    order.enter(joining, needs)
    order.enter(joining, needs, tier=1)
    turns = []
    for _ in range(6):
        first = order.first()
        assert first is not None
        turns.append(first)
        order.advance(first)
    assert turns == [lagging, joining] * 3


def test_the_view_tells_the_facts() -> None:
    queue = FairTaskQueue()
    queue.enqueue(
        [task("a", 0, 2.0), task("a", 1, 2.0), task("b", 0, needs={SLOT: 2, stage("x"): 1})]
    )
    view = queue.view()
    assert view.queued_total == 3
    assert view.queued_by_group() == {key("a"): 2, key("b"): 1}
    assert view.demand_by_resource() == {SLOT: 4, stage("x"): 1}
    assert (view.demand(key("a"), SLOT), view.peer_demand(key("a"), SLOT)) == (2, 2)
    assert view.queued_weight(SLOT) == 3.0
    head = view.first_candidate(key("a"))
    assert head is not None
    assert head.task_id == "a/0"
    assert view.first_candidate(key("z")) is None
    assert [candidate.task_id for candidate in view.first_candidates()] == ["a/0", "b/0"]
    assert [contender.task_id for contender in view.contenders(key("a"), SLOT)] == ["b/0"]
    assert list(view.contenders(key("b"), stage("x"))) == []


def test_heaps_do_not_grow_with_the_length_of_a_run() -> None:
    queue = FairTaskQueue()
    way = Eligibility(False, "group_cap", (SLOT,), "peers", None, 0.5)
    queue.enqueue(task("still", number, 0.001) for number in range(2))
    queue.enqueue(task("spare", number) for number in range(2))
    for number in range(3000):
        queue.enqueue([task("busy", number)])

        def check(item: SchedulableTask, view: QueueView) -> Eligibility:
            return way if any(view.contenders(item.group.key, SLOT)) else ELIGIBLE

        while (selection := queue.select_next(check)) is not None:
            if selection.item.payload.column == "busy":
                queue.commit(selection)
                break
            queue.discard(selection.item.task_id)
            queue.enqueue([selection.item])
        for name in ("still", "spare", "busy"):
            queue.unpark([SLOT], key(name))
    shapes = queue._order._shapes.values()
    assert max(len(shape.groups.heap) for shape in shapes) < 100
    assert len(queue._order._open.shapes.heap) < 100
    assert len(queue._demand[SLOT].yielding) < 100


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0, 7.0]), min_size=2, max_size=6),
    st.integers(0, 2**32),
)
def test_fairness_bound_for_groups_jointly_backlogged(weights: list[float], seed: int) -> None:
    """In every interval |W_f/w_f - W_g/w_g| <= 1/w_f + 1/w_g, while others come and go."""
    source = random.Random(seed)
    queue = FairTaskQueue()
    for index, weight in enumerate(weights):
        queue.enqueue(task(f"g{index}", number, weight) for number in range(400))
    served = [[0] * len(weights)]
    guests = 0
    while all(count < 390 for count in served[-1]) and len(served) < 800:
        if source.random() < 0.2:
            guests += 1
            queue.enqueue([task(f"guest{source.randrange(4)}", guests, source.choice([0.5, 5.0]))])
        taken = take(queue)
        assert taken is not None
        name = taken.partition("/")[0]
        counts = list(served[-1])
        if name.startswith("g") and not name.startswith("guest"):
            counts[int(name[1:])] += 1
        served.append(counts)
    for f in range(len(weights)):
        for g in range(f):
            lead = [row[f] / weights[f] - row[g] / weights[g] for row in served]
            assert max(lead) - min(lead) <= 1 / weights[f] + 1 / weights[g] + 1e-6


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_no_eligible_head_is_ever_missed(seed: int) -> None:
    """Against a plain ledger: None is answered only where no head fits; FIFO holds; all leave."""
    source = random.Random(seed)
    limits = {SLOT: source.randint(1, 5), stage("x"): source.randint(1, 3), stage("y"): 2}
    free = dict(limits)
    caps = {f"g{index}": source.choice([None, None, 1, 2]) for index in range(5)}
    shapes: list[dict[SchedulerResourceKey, int]] = [
        {SLOT: 1},
        {SLOT: 1, stage("x"): 1},
        {SLOT: 1, stage("y"): 1},
        {SLOT: 1, stage("x"): 1, stage("y"): 2},
    ]
    queue = FairTaskQueue()
    waiting: dict[str, list[str]] = {name: [] for name in caps}
    items: dict[str, SchedulableTask] = {}
    leases: list[SchedulableTask] = []
    number = 0

    def held(name: str) -> int:
        return sum(1 for lease in leases if lease.payload.column == name)

    def check(item: SchedulableTask, view: QueueView) -> Eligibility:
        for resource, amount in item.resource_request.amounts.items():
            if free[resource] < amount:
                return lacks(resource)
        cap = caps[item.payload.column]
        if cap is not None and held(item.payload.column) >= cap:
            return Eligibility(False, "group_cap", (SLOT,), "own_release")
        if held(item.payload.column) and any(view.contenders(item.group.key, SLOT)):
            return Eligibility(
                False, "group_cap", (SLOT,), "peers", None, source.choice([0.5, 2.0, 9.0])
            )
        return ELIGIBLE

    def fits(item: SchedulableTask) -> bool:
        cap = caps[item.payload.column]
        return (cap is None or held(item.payload.column) < cap) and all(
            free[resource] >= amount for resource, amount in item.resource_request.amounts.items()
        )

    def dispatch() -> None:
        selection: QueueSelection | None
        while (selection := queue.select_next(check)) is not None:
            item = queue.commit(selection)
            assert item is not None
            assert fits(item)
            assert waiting[item.payload.column].pop(0) == item.task_id
            leases.append(item)
            for resource, amount in item.resource_request.amounts.items():
                free[resource] -= amount
        heads = [items[ids[0]] for ids in waiting.values() if ids]
        assert not any(fits(head) for head in heads)
        assert len(queue) == sum(len(ids) for ids in waiting.values())

    def release(some: Iterable[SchedulableTask]) -> None:
        for item in some:
            leases.remove(item)
            for resource, amount in item.resource_request.amounts.items():
                free[resource] += amount
            queue.unpark(item.resource_request.amounts, item.group.key)

    for _ in range(120):
        action = source.random()
        if action < 0.5:
            name = source.choice(sorted(caps))
            number += 1
            item = task(name, number, float(name[1:]) + 1, source.choice(shapes))
            items[item.task_id] = item
            waiting[name].append(item.task_id)
            queue.enqueue([item])
        elif action < 0.6 and any(waiting.values()):
            name = source.choice([item for item, ids in waiting.items() if ids])
            task_id = source.choice(waiting[name])
            waiting[name].remove(task_id)
            assert queue.discard(task_id)
        elif leases:
            release(source.sample(leases, source.randint(1, len(leases))))
        if source.random() < 0.7:
            dispatch()
    while leases or len(queue):
        dispatch()
        assert leases
        release(list(leases))
    assert queue.view().demand_by_resource() == {}
