"""`IssuedIds`: detects an id that is used twice, in bounded memory."""

from __future__ import annotations

from collections import deque

REMEMBERED = 100_000


class IssuedIds:
    """Ids of one letter and a running number (`t12`) must grow; of any others the last ones are
    remembered. So memory does not grow with the run."""

    def __init__(self, letter: str) -> None:
        self._letter = letter
        self._highest = 0
        self._recent: set[str] = set()
        self._order: deque[str] = deque()

    def is_new(self, identifier: str) -> bool:
        """Whether the id was not issued before; it counts as issued from now on."""
        number = identifier[1:]
        if identifier[0:1] == self._letter and number.isdecimal() and len(number) < 19:
            serial = int(number)
            if serial <= self._highest:
                return False
            self._highest = serial
            return True
        if identifier in self._recent:
            return False
        self._recent.add(identifier)
        self._order.append(identifier)
        if len(self._order) > REMEMBERED:
            self._recent.discard(self._order.popleft())
        return True
