"""`QueueHeads`: queues by what the blame of their heads depends on.

A run with very many columns has as many queues, and what keeps the head of one keeps those of all
that are alike. So blame is asked once for all of them, and given to each only when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from replay.diagnosis.proofs import Head
from replay.diagnosis.verdicts import Blame


class AlikeQueues:
    """Queues whose heads are alike, and the blame that all of them have."""

    __slots__ = ("blame", "groups", "needs")

    def __init__(self, needs: dict[str, int], blame: Blame) -> None:
        self.needs = needs
        """What each of their tasks takes. Kept, as a head knows it by its identity."""
        self.blame = blame
        self.groups: dict[str, None] = {}


class QueueHeads:
    """Every queue of cells with its head; those that are like no other stand alone."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._alike: dict[Head, AlikeQueues] = {}

    def put(self, group: str, head: Head, needs: dict[str, int], blame: Blame) -> AlikeQueues:
        """Put a queue among those that have this head; where it is the first, with `blame`."""
        before = self._heads.get(group)
        if before != head:
            if before is not None:
                self._leave(group, before)
            self._heads[group] = head
        alike = self._alike.get(head)
        if alike is None:
            alike = self._alike[head] = AlikeQueues(needs, blame)
        alike.groups[group] = None
        return alike

    def forget(self, group: str) -> None:
        head = self._heads.pop(group, None)
        if head is not None:
            self._leave(group, head)

    def taking_from(self, resources: Iterable[str]) -> Iterator[tuple[Head, AlikeQueues]]:
        """Queues whose tasks take from one of these scheduler resources."""
        wanted = set(resources)
        for head, alike in self._alike.items():
            if not wanted.isdisjoint(alike.needs):
                yield head, alike

    def rename(self, old: Blame, new: Blame) -> None:
        """What was under `old` is under `new`."""
        for alike in self._alike.values():
            if alike.blame == old:
                alike.blame = new

    def _leave(self, group: str, head: Head) -> None:
        alike = self._alike[head]
        del alike.groups[group]
        if not alike.groups:
            del self._alike[head]
