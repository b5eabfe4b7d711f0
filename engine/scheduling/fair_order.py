"""`FairOrder`: whose turn is it, by start-time fair queueing counted in dispatches?

A group's *tag* is the virtual time at which its head may start; a dispatch moves it on by
1 / weight. Groups of one tier whose heads need the same amounts form a *shape*: where one of them
lacks units of a resource all do, so one look parks the whole shape on that resource, and it comes
back with its inner order kept. Nothing parked is looked at before a release of what it waits for: a
step costs O(log groups) however many are blocked. Tier 0 goes before tier 1, whatever the tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.types import Needs

_LANES_AWAKE = 4
"""From so many on, a shape that was parked alone goes to the open lane: each one awake costs a look
per selection, and moving costs two."""


class OrderedGroup:
    """A group's place in the order. Tags count from the offset of its shape."""

    __slots__ = ("index", "key", "left_at", "placed", "shape", "stamp", "tag", "weight")

    def __init__(self, key: TaskGroupKey, index: int, weight: float) -> None:
        self.key = key
        self.index = index
        self.weight = weight
        self.tag = 0.0
        self.left_at = 0.0
        """Its tag in virtual time, as it was when it left its shape."""
        self.stamp = 0
        self.shape: _Shape[Any] | None = None
        self.placed = False
        """It is in the order, parked or not."""

    @property
    def tier(self) -> int:
        return 0 if self.shape is None else self.shape.tier


class _Stamped(Protocol):
    stamp: int


Group = TypeVar("Group", bound=OrderedGroup)

Key = TypeVar("Key")
Item = TypeVar("Item", bound=_Stamped)


class _Places(Generic[Key, Item]):
    """Items by key. An item has one place; entries with an older stamp do not count. No two stamps
    are the same."""

    __slots__ = ("heap", "size")

    def __init__(self) -> None:
        self.heap: list[tuple[Key, int, Item]] = []
        self.size = 0
        """Items whose place is here, kept by the owner."""

    def push(self, key: Key, item: Item) -> None:
        heap = self.heap
        if len(heap) > 2 * self.size + 16:
            heap[:] = [entry for entry in heap if entry[1] == entry[2].stamp]
            heapify(heap)
        heappush(heap, (key, item.stamp, item))

    def move(self, key: Key, item: Item) -> None:
        """As `push`, for an item whose place may be the top."""
        heap = self.heap
        if heap and heap[0][2] is item:
            heapreplace(heap, (key, item.stamp, item))
        else:
            self.push(key, item)

    def top(self) -> tuple[Key, Item] | None:
        heap = self.heap
        while heap:
            key, stamp, item = heap[0]
            if stamp == item.stamp:
                return key, item
            heappop(heap)
        return None

    def __iter__(self) -> Iterator[Item]:
        return (item for _, stamp, item in self.heap if stamp == item.stamp)


class _Shape(Generic[Group]):
    """Groups by (tag, index)."""

    __slots__ = (
        "filed",
        "groups",
        "lane",
        "members",
        "needs",
        "offset",
        "resources",
        "stamp",
        "tier",
    )

    def __init__(self, needs: Needs, tier: int) -> None:
        self.needs = needs
        self.resources = frozenset(resource for resource, _ in needs)
        self.tier = tier
        self.members = 0
        """Groups that take their tag from here, in the order or not."""
        self.groups: _Places[tuple[float, int], Group] = _Places()
        self.offset = 0.0
        self.stamp = 0
        self.lane: _Lane[Group] | None = None
        self.filed: tuple[float, int] | None = None


class _Lane(Generic[Group]):
    """Shapes by (tier, tag, index of their first group): the ones that may be looked at, or the
    ones that lack units of one resource."""

    __slots__ = ("awake", "shapes")

    def __init__(self, awake: bool) -> None:
        self.shapes: _Places[tuple[int, float, int], _Shape[Group]] = _Places()
        self.awake = awake


class FairOrder(Generic[Group]):
    """Groups enter, are looked at in order, are parked or moved, advance, and leave."""

    def __init__(self) -> None:
        self._now = 0.0
        self._stamps = count(1)
        self._shapes: dict[tuple[int, Needs], _Shape[Group]] = {}
        self._open: _Lane[Group] = _Lane(awake=True)
        self._parked: dict[SchedulerResourceKey, dict[int, _Lane[Group]]] = {}
        self._awake: list[_Lane[Group]] = []
        self.placed = 0
        """Groups in the order, parked or not."""

    def first(self) -> Group | None:
        """The group with the earliest start of the lowest tier, of all that are not parked.

        Starts that virtual time has passed count as equal; the older one is first.
        """
        best = self._open.shapes.top()
        for lane in self._awake:
            entry = lane.shapes.top()
            if entry is not None and (best is None or entry[0] < best[0]):
                best = entry
        first = None if best is None else best[1].groups.top()
        return None if first is None else first[1]

    def candidates(self, resource: SchedulerResourceKey) -> Iterator[Group]:
        """Groups of tier 0 that are not parked and whose heads need `resource`, in no order."""
        for lane in (self._open, *self._awake):
            for shape in lane.shapes:
                if not shape.tier and resource in shape.resources:
                    yield from shape.groups

    def needs_placed(self) -> Iterator[Needs]:
        """What the heads of the groups in the order need, each once by tier."""
        return (shape.needs for shape in self._shapes.values() if shape.groups.size)

    def enter(self, group: Group, needs: Needs, tier: int = 0) -> None:
        """Join, or move, at the current virtual time: no credit for the time away.

        Where a whole shape lags behind virtual time (it was short of something), the group takes
        its place among its equals: one that comes from elsewhere is set back as far as the shape
        lags, since the shape will come back as one.
        """
        self.leave(group)
        old = group.shape
        shape = self._shapes.get((tier, needs)) or self._new_shape(needs, tier)
        clock = self._clock_of(shape)
        if old is not shape:
            group.tag = group.left_at - (self._now - clock) - shape.offset
            group.shape = shape
            shape.members += 1
            self._lose_member(old)
        group.tag = max(group.tag, clock - shape.offset)
        group.placed = True
        self.placed += 1
        shape.groups.size += 1
        self._place(group, shape)

    def leave(self, group: Group) -> None:
        """Out of the order until it enters again; it keeps its tag."""
        if group.placed:
            shape = group.shape
            assert shape is not None
            group.left_at = group.tag + shape.offset + self._now - self._clock_of(shape)
            group.placed = False
            self.placed -= 1
            group.stamp = next(self._stamps)
            shape.groups.size -= 1
            self._file(shape)

    def forget(self, group: Group) -> None:
        """A group that has left does not come back."""
        shape, group.shape = group.shape, None
        self._lose_member(shape)

    def advance(self, group: Group) -> None:
        """The head was dispatched: move virtual time, and the group by 1 / weight."""
        shape = group.shape
        assert shape is not None
        start = group.tag + shape.offset
        if start > self._now:
            self._now = start
        else:
            shape.offset += self._now - start
        group.tag += 1.0 / group.weight
        self._place(group, shape)

    def has_needs(self, group: Group, needs: Needs) -> bool:
        shape = group.shape
        return shape is not None and (shape.needs is needs or shape.needs == needs)

    def park(self, group: Group, resource: SchedulerResourceKey) -> None:
        """The group's head lacks units of `resource`, and so do all of its shape."""
        shape = group.shape
        assert shape is not None
        amount = next(amount for key, amount in shape.needs if key == resource)
        lanes = self._parked.setdefault(resource, {})
        if amount not in lanes:
            lanes[amount] = _Lane(awake=False)
        lane = lanes[amount]
        if shape.lane is not lane:
            self._move(shape, lane)
        if lane.awake:
            lane.awake = False
            self._awake.remove(lane)

    def unpark(self, resource: SchedulerResourceKey) -> None:
        """Units of `resource` came free: who is parked on it may be looked at again."""
        lanes = self._parked.get(resource)
        if lanes is None:
            return
        for lane in lanes.values():
            if lane.awake or not lane.shapes.size:
                continue
            only = None
            if lane.shapes.size == 1 and len(self._awake) >= _LANES_AWAKE:
                only = lane.shapes.top()
            if only is not None:
                self._move(only[1], self._open)
            else:
                lane.awake = True
                self._awake.append(lane)

    def _new_shape(self, needs: Needs, tier: int) -> _Shape[Group]:
        shape: _Shape[Group] = _Shape(needs, tier)
        self._shapes[tier, needs] = shape
        return shape

    def _clock_of(self, shape: _Shape[Group]) -> float:
        """Virtual time as the shape has it: its first start, where that lags behind."""
        first = shape.groups.top()
        return self._now if first is None else min(self._now, first[0][0] + shape.offset)

    def _lose_member(self, shape: _Shape[Group] | None) -> None:
        if shape is not None:
            shape.members -= 1
            if not shape.members:
                del self._shapes[shape.tier, shape.needs]

    def _place(self, group: Group, shape: _Shape[Group]) -> None:
        group.stamp = next(self._stamps)
        shape.groups.move((group.tag, group.index), group)
        self._file(shape)

    def _file(self, shape: _Shape[Group]) -> None:
        """Put the shape where its first group now belongs in its lane."""
        first = shape.groups.top()
        lane = shape.lane
        if first is None:
            shape.stamp = next(self._stamps)
            shape.filed = None
            if lane is not None:
                lane.shapes.size -= 1
                shape.lane = None
            return
        tag, index = first[0]
        place = (tag + shape.offset, index)
        if lane is None:
            lane = shape.lane = self._open
            lane.shapes.size += 1
        elif place == shape.filed:
            return
        shape.filed = place
        shape.stamp = next(self._stamps)
        lane.shapes.move((shape.tier, tag + shape.offset, index), shape)

    def _move(self, shape: _Shape[Group], lane: _Lane[Group]) -> None:
        if shape.lane is not None:
            shape.lane.shapes.size -= 1
        shape.lane = lane
        lane.shapes.size += 1
        shape.filed = None
        self._file(shape)
