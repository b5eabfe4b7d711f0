"""`Delivered`: which lines did a reader hand out, where their order is not that of the file?"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from engine.events import Event


class Delivered:
    """The position of an earlier reader: all lines up to a number, except some ranges."""

    def __init__(self, position: dict[str, int] | None = None) -> None:
        self._position = position or {}

    def was_read(self, number: int) -> bool:
        """The line of this number was handed out before the restart."""
        return number <= self._position.get("read", 0)

    def others(self, lines: list[tuple[int, Event, bytes]]) -> list[tuple[int, Event, bytes]]:
        """Those of numbered lines that were not handed out."""
        return [line for line in lines if line[0] not in self] if self._position else lines

    def __contains__(self, number: int) -> bool:
        """Was it handed out?"""
        if not self.was_read(number):
            return False
        nth = 1
        while f"from{nth}" in self._position:
            if self._position[f"from{nth}"] <= number <= self._position[f"to{nth}"]:
                return False
            nth += 1
        return True


def position_of(read: int, held: Iterable[int]) -> dict[str, int]:
    """The lines up to `read` were read; those `held` of them were not handed out yet."""
    position = {"read": read}
    for nth, (first, last) in enumerate(_ranges(sorted(held)), start=1):
        position[f"from{nth}"], position[f"to{nth}"] = first, last
    return position


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges, each with its last number."""
    start = 0
    while start < len(numbers):
        first = numbers[start]
        end = bisect_right(range(start, len(numbers)), first - start, key=lambda n: numbers[n] - n)
        start += end
        yield first, numbers[start - 1]
