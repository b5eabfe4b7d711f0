"""`FairOrder`: whose turn is it?

The order is start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queuing: A Scheduling
Algorithm for Integrated Services Packet Switching Networks", SIGCOMM 1996) with a dispatch as the
unit of service: a group's *tag* is the virtual time at which its head may start, and a dispatch
advances it by 1 / weight. Groups of tier 0 go before those of tier 1, whatever their tags.

One heap of groups by tag would do if every head could run. Here most heads are blocked most of the
time, and evaluating them one by one would cost O(groups) per dispatch. So the groups of one tier
whose heads need the same amounts form a *shape*: if one of them lacks units of a resource, all do.
A single evaluation parks the whole shape in the *lane* of that resource and amount, and a release
brings it back with its inner order kept. A step costs O(log groups) however many are blocked.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.types import Needs

_MAX_AWAKE_LANES = 4
"""With this many lanes awake, a shape that is alone in its lane moves to the open lane instead of
waking its lane: an awake lane costs one comparison per selection, a move costs two heap steps."""


class OrderedGroup:
    """The position of a group in the order. Its tag is relative to the offset of its shape."""

    __slots__ = ("index", "key", "left_at", "placed", "shape", "stamp", "tag", "weight")

    def __init__(self, key: TaskGroupKey, index: int, weight: float) -> None:
        self.key = key
        self.index = index
        self.weight = weight
        self.tag = 0.0
        self.left_at = 0.0
        """Its tag in virtual time when it left its shape."""
        self.stamp = 0
        self.shape: _Shape[Any] | None = None
        self.placed = False
        """Whether it is in the order, parked or not."""

    @property
    def tier(self) -> int:
        return 0 if self.shape is None else self.shape.tier


class _Stamped(Protocol):
    stamp: int


Group = TypeVar("Group", bound=OrderedGroup)

Key = TypeVar("Key")
Item = TypeVar("Item", bound=_Stamped)


class _StampedHeap(Generic[Key, Item]):
    """A heap of items by key, with lazy deletion.

    An item has one valid entry, the one with its current stamp; an entry with an older stamp is
    stale. Stamps are unique, so that entries with equal keys never compare their items.
    """

    __slots__ = ("heap", "size")

    def __init__(self) -> None:
        self.heap: list[tuple[Key, int, Item]] = []
        self.size = 0
        """Number of items whose valid entry is here; the owner keeps it."""

    def push(self, key: Key, item: Item) -> None:
        heap = self.heap
        if len(heap) > 2 * self.size + 16:
            heap[:] = [entry for entry in heap if entry[1] == entry[2].stamp]
            heapify(heap)
        heappush(heap, (key, item.stamp, item))

    def move(self, key: Key, item: Item) -> None:
        """As `push`, but one heap step cheaper if the old entry of the item is at the top."""
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
    """Groups of one tier whose heads need the same amounts, by (tag, index)."""

    __slots__ = (
        "groups",
        "lane",
        "members",
        "needs",
        "offset",
        "position",
        "resources",
        "stamp",
        "tier",
    )

    def __init__(self, needs: Needs, tier: int) -> None:
        self.needs = needs
        self.resources = frozenset(resource for resource, _ in needs)
        self.tier = tier
        self.members = 0
        """Number of groups whose tag is relative to this shape, in the order or not."""
        self.groups: _StampedHeap[tuple[float, int], Group] = _StampedHeap()
        self.offset = 0.0
        self.stamp = 0
        self.lane: _Lane[Group] | None = None
        self.position: tuple[float, int] | None = None


class _Lane(Generic[Group]):
    """Shapes by (tier, tag, index of their first group): those that may be selected, or those that
    lack units of one resource."""

    __slots__ = ("awake", "shapes")

    def __init__(self, awake: bool) -> None:
        self.shapes: _StampedHeap[tuple[int, float, int], _Shape[Group]] = _StampedHeap()
        self.awake = awake


class FairOrder(Generic[Group]):
    """Groups enter, are selected in order, are parked or moved, advance, and leave."""

    def __init__(self) -> None:
        self._now = 0.0
        self._stamps = count(1)
        self._shapes: dict[tuple[int, Needs], _Shape[Group]] = {}
        self._open: _Lane[Group] = _Lane(awake=True)
        self._parked: dict[SchedulerResourceKey, dict[int, _Lane[Group]]] = {}
        self._awake: list[_Lane[Group]] = []
        self.placed = 0
        """Number of groups in the order, parked or not."""

    def first(self) -> Group | None:
        """The group with the earliest start in the lowest tier, of those that are not parked.

        Starts that virtual time has passed count as equal; of those the older group is first.
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

    def needs_in_order(self) -> Iterator[Needs]:
        """The different amounts that heads in the order need, once for each tier."""
        return (shape.needs for shape in self._shapes.values() if shape.groups.size)

    def enter(self, group: Group, needs: Needs, tier: int = 0) -> None:
        """Join, or move to, the shape of `needs` at the current virtual time.

        A group gets no credit for the time that it was away. A shape that was parked may lag behind
        virtual time, and comes back as a whole. A group that joins it is set back by as much, or
        it would be served later than its equals by that much.
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
        self._push(group, shape)

    def leave(self, group: Group) -> None:
        """Leave the order and keep the tag."""
        if group.placed:
            shape = group.shape
            assert shape is not None
            group.left_at = group.tag + shape.offset + self._now - self._clock_of(shape)
            group.placed = False
            self.placed -= 1
            group.stamp = next(self._stamps)
            shape.groups.size -= 1
            self._reposition(shape)

    def forget(self, group: Group) -> None:
        """Forget a group that has left the order and does not come back."""
        shape, group.shape = group.shape, None
        self._lose_member(shape)

    def advance(self, group: Group) -> None:
        """The head was dispatched: advance virtual time, and the group by 1 / weight.

        A start that lies in the past counts as now. The whole shape is moved up by the difference
        instead of the group alone, so that the order within the shape is kept.
        """
        shape = group.shape
        assert shape is not None
        start = group.tag + shape.offset
        if start > self._now:
            self._now = start
        else:
            shape.offset += self._now - start
        group.tag += 1.0 / group.weight
        self._push(group, shape)

    def has_needs(self, group: Group, needs: Needs) -> bool:
        shape = group.shape
        return shape is not None and (shape.needs is needs or shape.needs == needs)

    def park(self, group: Group, resource: SchedulerResourceKey) -> None:
        """Park the shape of a group whose head lacks units of `resource`."""
        shape = group.shape
        assert shape is not None
        amount = next(amount for key, amount in shape.needs if key == resource)
        lanes = self._parked.setdefault(resource, {})
        if amount not in lanes:
            lanes[amount] = _Lane(awake=False)
        lane = lanes[amount]
        if shape.lane is not lane:
            self._move_to_lane(shape, lane)
        if lane.awake:
            lane.awake = False
            self._awake.remove(lane)

    def unpark(self, resource: SchedulerResourceKey) -> None:
        """Units of `resource` came free: the shapes parked on it may be selected again."""
        lanes = self._parked.get(resource)
        if lanes is None:
            return
        for lane in lanes.values():
            if lane.awake or not lane.shapes.size:
                continue
            only = None
            if lane.shapes.size == 1 and len(self._awake) >= _MAX_AWAKE_LANES:
                only = lane.shapes.top()
            if only is not None:
                self._move_to_lane(only[1], self._open)
            else:
                lane.awake = True
                self._awake.append(lane)

    def _new_shape(self, needs: Needs, tier: int) -> _Shape[Group]:
        shape: _Shape[Group] = _Shape(needs, tier)
        self._shapes[tier, needs] = shape
        return shape

    def _clock_of(self, shape: _Shape[Group]) -> float:
        """The virtual time of a shape: its first start if that lags behind, else the present."""
        first = shape.groups.top()
        return self._now if first is None else min(self._now, first[0][0] + shape.offset)

    def _lose_member(self, shape: _Shape[Group] | None) -> None:
        if shape is not None:
            shape.members -= 1
            if not shape.members:
                del self._shapes[shape.tier, shape.needs]

    def _push(self, group: Group, shape: _Shape[Group]) -> None:
        group.stamp = next(self._stamps)
        shape.groups.move((group.tag, group.index), group)
        self._reposition(shape)

    def _reposition(self, shape: _Shape[Group]) -> None:
        """Update the key of the shape in its lane after its first group has changed."""
        first = shape.groups.top()
        lane = shape.lane
        if first is None:
            shape.stamp = next(self._stamps)
            shape.position = None
            if lane is not None:
                lane.shapes.size -= 1
                shape.lane = None
            return
        tag, index = first[0]
        position = (tag + shape.offset, index)
        if lane is None:
            lane = shape.lane = self._open
            lane.shapes.size += 1
        elif position == shape.position:
            return
        shape.position = position
        shape.stamp = next(self._stamps)
        lane.shapes.move((shape.tier, tag + shape.offset, index), shape)

    def _move_to_lane(self, shape: _Shape[Group], lane: _Lane[Group]) -> None:
        if shape.lane is not None:
            shape.lane.shapes.size -= 1
        shape.lane = lane
        lane.shapes.size += 1
        shape.position = None
        self._reposition(shape)
