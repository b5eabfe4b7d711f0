"""Timers: the order in which they fire, and that a dump keeps it."""

from __future__ import annotations

import msgspec

from replay.diagnosis.timers import (
    CallOverdue,
    CooldownEnd,
    LeakDue,
    StallDue,
    StallGroupEnd,
    StormEnd,
    Timer,
    TimerQueue,
)

IN_ORDER: list[Timer] = [
    StormEnd(1.0, "b"),
    CooldownEnd(2.0, "b"),
    StallGroupEnd(2.0, "b"),
    LeakDue(2.0, "a"),
    LeakDue(2.0, "b"),
    CallOverdue(2.0, "a"),
    StallDue(2.0, "a"),
    StormEnd(2.0, "a"),
    CooldownEnd(3.0, "a"),
]


def drained(queue: TimerQueue, now: float) -> list[Timer]:
    timers = []
    while (timer := queue.pop_due(now)) is not None:
        timers.append(timer)
    return timers


def test_timers_fire_by_time_then_kind_then_subject() -> None:
    queue = TimerQueue()
    for timer in reversed(IN_ORDER):
        queue.schedule(timer)
    assert queue.next_at == 1.0
    assert drained(queue, 2.5) == IN_ORDER[:-1]
    assert queue.next_at == 3.0
    loaded = msgspec.msgpack.decode(msgspec.msgpack.encode(queue), type=TimerQueue)
    assert drained(loaded, 3.0) == IN_ORDER[-1:]
    assert loaded.pop_due(9.0) is None
