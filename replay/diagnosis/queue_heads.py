"""`QueueHeads`: queues by what the blame of their heads depends on.

A run with very many columns has as many queues, and what keeps the head of one keeps those of all
that are alike. So they share a meter of the ledger, and blame is computed and assigned once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from replay.diagnosis.cell_ledger import CellLedger, Key, queued_key
from replay.diagnosis.proofs import Head


class AlikeQueues:
    """Queues whose heads are alike."""

    __slots__ = ("meter", "needs", "queues")

    def __init__(self, needs: dict[str, int], meter: int) -> None:
        self.needs = needs
        """What each of their tasks takes. Kept, as a head knows it by its identity."""
        self.meter = meter
        self.queues = 0
        """How many there are."""


class QueueHeads:
    """Every queue of cells with its head; those that are like no other stand alone."""

    def __init__(self, cells: CellLedger) -> None:
        self._cells = cells
        self._heads: dict[str, Head] = {}
        self._alike: dict[Head, AlikeQueues] = {}
        self._head_on: dict[int, Head] = {}
        """By meter: a meter is of queues that have one head."""

    def put(self, group: str, head: Head, needs: dict[str, int], now: float) -> bool:
        """Put a queue that has cells among those that have this head.

        Returns:
            Whether the queue has another blame by that.
        """
        before = self._heads.get(group)
        is_new = before != head
        if is_new:
            if before is not None:
                self._leave(before)
            self._heads[group] = head
        key = queued_key(group)
        cells, tally = self._cells, self._cells.tallies[key]
        alike = self._alike.get(head)
        if alike is None:
            alike = self._alike[head] = AlikeQueues(needs, self._take_meter(key, head, now))
        elif alike.meter not in cells.meters:
            self._head_on.pop(alike.meter, None)
            alike.meter = self._take_meter(key, head, now)
        alike.queues += is_new
        if tally.meter == alike.meter:
            return False
        blame = cells.meters[tally.meter].blame
        cells.share(key, alike.meter, now)
        return cells.meters[alike.meter].blame != blame

    def forget(self, group: str) -> None:
        """The queue has no cells any more."""
        head = self._heads.pop(group, None)
        if head is not None:
            self._leave(head)

    def taking_from(self, resources: Iterable[str]) -> Iterator[tuple[Head, str]]:
        """Heads of tasks that take from one of these scheduler resources, with a group of each."""
        wanted = set(resources)
        for head, alike in self._alike.items():
            meter = self._cells.meters.get(alike.meter)
            if meter is not None and not wanted.isdisjoint(alike.needs):
                yield head, next(iter(meter.keys))[1]

    def _take_meter(self, key: Key, head: Head, now: float) -> int:
        """A meter for the queues of this head: that of `key`, unless it is of others."""
        number = self._cells.tallies[key].meter
        if self._head_on.get(number, head) != head:
            number = self._cells.part(key, now)
        self._head_on[number] = head
        return number

    def _leave(self, head: Head) -> None:
        alike = self._alike[head]
        alike.queues -= 1
        if not alike.queues:
            del self._alike[head]
            self._head_on.pop(alike.meter, None)
