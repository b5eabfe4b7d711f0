"""Timers: changes that no event announces, such as the end of a cooldown.

A timer is a value with its own handler: `fire` calls the one thing of `TimerHandlers` that its kind
is about. Timers are never cancelled. A handler checks whether its reason still holds, and schedules
another one if it is merely too early.
"""

from __future__ import annotations

import heapq
import math
from typing import ClassVar, Protocol

import msgspec

from replay.state.model import State


class TimerHandlers(Protocol):
    """What timers act on."""

    def end_cooldown(self, state: State, resource: str, now: float) -> None:
        """A cooldown of `resource` has run out, unless it was extended."""

    def check_storm(self, resource: str, now: float) -> None:
        """The storm on `resource` may be over."""

    def check_stall_group(self, resource: str, now: float) -> None:
        """The stall group of `resource` may be complete."""

    def check_stall(self, state: State, resource: str, now: float) -> None:
        """`resource` may have been blocked for long enough to be a stall."""

    def mark_overdue_calls(self, state: State, resource: str, now: float) -> None:
        """Calls of `resource` may have become slow."""

    def check_leak(self, state: State, subject: str, now: float) -> None:
        """The lease of a task or call may still be held after the end of its owner."""


class _Timer(msgspec.Struct, frozen=True, tag=True):
    at: float
    """Monotonic time of the run."""
    subject: str
    """A request resource ("" for the run as a whole), or the task or call of a leak."""

    priority: ClassVar[int]
    """Order of the kinds at one time."""

    def __lt__(self, other: _Timer) -> bool:
        return (self.at, self.priority, self.subject) < (other.at, other.priority, other.subject)


class CooldownEnd(_Timer, frozen=True, tag=True):
    """A resource may take calls again."""

    priority: ClassVar[int] = 0

    def fire(self, handlers: TimerHandlers, state: State, now: float) -> None:
        handlers.end_cooldown(state, self.subject, now)


class StallGroupEnd(_Timer, frozen=True, tag=True):
    """A stall group has gone on for so long without a further stall that it is over."""

    priority: ClassVar[int] = 1

    def fire(self, handlers: TimerHandlers, state: State, now: float) -> None:
        handlers.check_stall_group(self.subject, now)


class LeakDue(_Timer, frozen=True, tag=True):
    """A lease whose owner has ended is leaked if it is still held."""

    priority: ClassVar[int] = 2

    def fire(self, handlers: TimerHandlers, state: State, now: float) -> None:
        handlers.check_leak(state, self.subject, now)


class CallOverdue(_Timer, frozen=True, tag=True):
    """Calls of a resource have become slower than usual."""

    priority: ClassVar[int] = 3

    def fire(self, handlers: TimerHandlers, state: State, now: float) -> None:
        handlers.mark_overdue_calls(state, self.subject, now)


class StallDue(_Timer, frozen=True, tag=True):
    """A span has become long enough for a stall, if it is still open."""

    priority: ClassVar[int] = 4

    def fire(self, handlers: TimerHandlers, state: State, now: float) -> None:
        handlers.check_stall(state, self.subject, now)


class StormEnd(_Timer, frozen=True, tag=True):
    """A storm of refusals is over if none has come since."""

    priority: ClassVar[int] = 5

    def fire(self, handlers: TimerHandlers, state: State, now: float) -> None:
        handlers.check_storm(self.subject, now)


Timer = CooldownEnd | StallGroupEnd | LeakDue | CallOverdue | StallDue | StormEnd


class TimerQueue(msgspec.Struct):
    """Scheduled timers, the earliest first."""

    heap: list[Timer] = []

    def schedule(self, timer: Timer) -> None:
        heapq.heappush(self.heap, timer)

    @property
    def next_at(self) -> float:
        """When the earliest timer fires; infinite if there is none."""
        return self.heap[0].at if self.heap else math.inf

    def pop_due(self, now: float) -> Timer | None:
        """Remove and return the earliest timer that is due at `now`."""
        if self.heap and self.heap[0].at <= now:
            return heapq.heappop(self.heap)
        return None
