from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.identity import RequestResourceKey
from engine.request_admission.queue import RequestFairQueue
from engine.request_admission.types import (
    RequestAdmissionDecision,
    RequestAdmissionItem,
    RequestGroupSpec,
    RequestWaiter,
)

CHAT = RequestResourceKey("alpha", "m", "chat")
EMBEDDING = RequestResourceKey("alpha", "m", "embedding")
IMAGE = RequestResourceKey("alpha", "m", "image")
NO_HANDLE = cast("asyncio.Future[RequestAdmissionDecision]", None)


def waiter(
    number: int, resource: RequestResourceKey = CHAT, group: RequestGroupSpec | None = None
) -> RequestWaiter:
    return RequestWaiter(number, RequestAdmissionItem(resource, group), 0.0, None, NO_HANDLE)


def take(
    queue: RequestFairQueue, is_eligible: Callable[[RequestResourceKey], bool] = lambda _: True
) -> RequestWaiter | None:
    selection = queue.select_next(is_eligible)
    return None if selection is None else queue.commit(selection)


def take_ids(queue: RequestFairQueue, count: int) -> list[int]:
    taken = [take(queue) for _ in range(count)]
    return [waiter.waiter_id for waiter in taken if waiter is not None]


def waiting_by_resource(queue: RequestFairQueue) -> dict[RequestResourceKey, int]:
    return {resource: queue.waiting(resource) for resource in queue.resources()}


def test_one_resource_is_first_in_first_out() -> None:
    queue = RequestFairQueue()
    for number in range(10):
        assert queue.enqueue(waiter(number))
    assert take_ids(queue, 11) == list(range(10))


def test_the_same_waiter_is_accepted_once() -> None:
    queue = RequestFairQueue()
    entry = waiter(1)
    assert queue.enqueue(entry)
    assert not queue.enqueue(entry)
    assert len(queue) == 1


def test_selecting_changes_nothing_and_a_stale_selection_is_refused() -> None:
    queue = RequestFairQueue()
    queue.enqueue(waiter(1))
    first = queue.select_next(lambda _: True)
    second = queue.select_next(lambda _: True)
    assert first is not None
    assert first == second
    queue.enqueue(waiter(2))
    assert queue.commit(first) is None
    assert waiting_by_resource(queue) == {CHAT: 2}
    again = queue.select_next(lambda _: True)
    assert again is not None
    assert queue.commit(again) is first.waiter
    assert queue.commit(again) is None


def test_groups_share_by_weight() -> None:
    queue = RequestFairQueue()
    light, heavy = RequestGroupSpec("light", 1.0), RequestGroupSpec("heavy", 3.0)
    for number in range(400):
        queue.enqueue(waiter(2 * number, CHAT, light))
        queue.enqueue(waiter(2 * number + 1, EMBEDDING, heavy))
    shares: Counter[str] = Counter()
    for _ in range(400):
        taken = take(queue)
        assert taken is not None
        assert taken.item.group is not None
        shares[taken.item.group.key] += 1
        assert abs(shares["heavy"] - 3 * shares["light"]) <= 3
    assert shares == {"light": 100, "heavy": 300}


def test_equal_weights_take_turns_and_the_older_waiter_goes_first() -> None:
    queue = RequestFairQueue()
    for number in range(3):
        queue.enqueue(waiter(number, CHAT))
    for number in range(3, 6):
        queue.enqueue(waiter(number, EMBEDDING))
    assert take_ids(queue, 6) == [0, 3, 1, 4, 2, 5]


def test_a_closed_resource_comes_back_without_credit() -> None:
    queue = RequestFairQueue()
    for number in range(50):
        queue.enqueue(waiter(number, CHAT))
        queue.enqueue(waiter(100 + number, EMBEDDING))
    for _ in range(20):
        taken = take(queue, lambda resource: resource == EMBEDDING)
        assert taken is not None
        assert taken.item.resource == EMBEDDING
    after = [take(queue) for _ in range(20)]
    shares = Counter(waiter.item.resource.domain for waiter in after if waiter is not None)
    assert shares["chat"] <= 11


def test_a_closed_resource_is_asked_once_however_many_wait() -> None:
    queue = RequestFairQueue()
    for number in range(1000):
        queue.enqueue(waiter(number, CHAT))
    for number in range(1000, 1010):
        queue.enqueue(waiter(number, EMBEDDING))
    requested: list[RequestResourceKey] = []

    def open_unless_chat(resource: RequestResourceKey) -> bool:
        requested.append(resource)
        return resource != CHAT

    for _ in range(10):
        assert take(queue, open_unless_chat) is not None
    assert take(queue, open_unless_chat) is None
    assert len(requested) <= 2 * 11


def test_a_discarded_waiter_is_gone_and_costs_its_group_nothing() -> None:
    queue = RequestFairQueue()
    entries = [waiter(number, CHAT) for number in range(4)]
    for entry in entries:
        queue.enqueue(entry)
    queue.enqueue(waiter(10, EMBEDDING))
    assert queue.discard(entries[0])
    assert not queue.discard(entries[0])
    assert not queue.discard(waiter(77))
    assert take_ids(queue, 4) == [1, 10, 2, 3]
    assert len(queue) == 0


def remembered() -> int:
    """Groups and lines of any queue that are alive."""
    gc.collect()
    return sum(type(object_).__name__ in ("_Group", "_Line") for object_ in gc.get_objects())


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("returning", [False, True])
def test_groups_that_have_gone_are_forgotten_while_others_wait(
    closed: bool, returning: bool
) -> None:
    queue = RequestFairQueue()
    before = remembered()
    for number in range(3):
        queue.enqueue(waiter(number, EMBEDDING))
    for number in range(3, 3000):
        weight = 0.001 if number % 7 == 0 and not closed else 1.0
        name = f"group {number % 100 if returning else number}"
        entry = waiter(number, CHAT, RequestGroupSpec(name, weight))
        queue.enqueue(entry)
        if closed:
            queue.discard(entry)
        else:
            assert take(queue, lambda key: key == CHAT) is entry
            if number % 2:
                queue.enqueue(waiter(100_000 + number, EMBEDDING))
                take(queue, lambda key: key == EMBEDDING)
    assert remembered() - before < (700 if returning or not closed else 30)
    assert waiting_by_resource(queue) == {EMBEDDING: 3}


def test_a_group_that_rests_keeps_its_debt_until_the_others_have_had_their_turn() -> None:
    queue = RequestFairQueue()
    light, heavy = RequestGroupSpec("light", 0.1), RequestGroupSpec("heavy")
    for number in range(20):
        queue.enqueue(waiter(number, CHAT, heavy))
    queue.enqueue(waiter(20, CHAT, light))
    order = []
    for number in range(21, 36):
        taken = take(queue)
        assert taken is not None
        group = taken.item.group
        assert group is not None
        order.append(group.key)
        if group.key == "light":
            queue.enqueue(waiter(number, CHAT, light))
    assert [position for position, key in enumerate(order) if key == "light"] == [1, 12]


class QueueMachine(RuleBasedStateMachine):
    """Against a plain list: nothing lost, nothing twice, oldest first within group and resource."""

    resources = (CHAT, EMBEDDING, IMAGE)
    groups = (None, RequestGroupSpec("x", 1.0), RequestGroupSpec("y", 2.5))

    @initialize()
    def begin(self) -> None:
        self.queue = RequestFairQueue()
        self.expected: list[RequestWaiter] = []
        self.issued = 0

    @rule(resource=st.sampled_from(resources), group=st.sampled_from(groups))
    def enqueue(self, resource: RequestResourceKey, group: RequestGroupSpec | None) -> None:
        self.issued += 1
        entry = waiter(self.issued, resource, group)
        assert self.queue.enqueue(entry)
        self.expected.append(entry)

    @rule(closed=st.sets(st.sampled_from(resources)))
    def take(self, closed: set[RequestResourceKey]) -> None:
        taken = take(self.queue, lambda resource: resource not in closed)
        eligible = [waiter for waiter in self.expected if waiter.item.resource not in closed]
        if taken is None:
            assert not eligible
            return
        same_line = [
            waiter
            for waiter in eligible
            if (waiter.item.resource, waiter.item.group) == (taken.item.resource, taken.item.group)
        ]
        assert same_line[0] is taken
        self.expected.remove(taken)

    @precondition(lambda self: self.expected)
    @rule(chance=st.randoms(use_true_random=False))
    def discard(self, chance: random.Random) -> None:
        entry = chance.choice(self.expected)
        assert self.queue.discard(entry)
        self.expected.remove(entry)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len(self.expected)
        expected = Counter(waiter.item.resource for waiter in self.expected)
        assert waiting_by_resource(self.queue) == expected


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
