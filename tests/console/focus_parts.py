"""What a hand-made frame knows of a task, a call and lists of tasks."""

from __future__ import annotations

import msgspec

from replay.diagnosis.report.schema import HistorySpan, TaskHistory
from replay.playback.focus import (
    CallFocus,
    EventLine,
    Focus,
    Focused,
    SpendingFocus,
    TaskFocus,
    TaskLine,
)
from replay.playback.frame import Frame
from replay.state.rows import AttemptRow
from replay.state.spending import SpendingRow
from tests.console.frame_parts import BETA, T0

STEPS = (
    HistorySpan(60.0, 60.1, "ready, not yet queued"),
    HistorySpan(60.1, 64.4, "queued for a task slot", "critique", {"task_capacity": 4.3}),
    HistorySpan(64.4, 70.6, "waiting to call", BETA, {"request_cooldown": 5.0}),
    HistorySpan(70.6, 71.0, "in the provider (rate_limited)", BETA),
    HistorySpan(71.0, 75.0, "waiting to call", BETA, {"request_cooldown": 4.0}),
    HistorySpan(75.0, None, "in the provider", BETA),
)
CALLS = (
    AttemptRow(
        "a71", BETA, "x1", "critique", "r1", 64.4, 70.6, 70.6, 71.0, 71.0, "rate_limited", 9, 12
    ),
    AttemptRow("a72", BETA, "x1", "critique", "r2", 71.0, 75.0, 75.0, None, None, None, 13, None),
)
TASKS = tuple(
    TaskLine(
        f"critique/{number}",
        "critique",
        number // 4,
        number,
        1 + number % 2,
        "running" if number < 6 else "queued",
        60.0 + number / 8,
        None,
        1.5 + number / 10,
        "HTTP503" if number == 3 else None,
    )
    for number in range(40)
)


SPENDING = (
    SpendingRow(None, "beta/judge", 12, 120, 12, 0, 0, None, 12, 0, None),
    SpendingRow("critique", "beta/judge", 940, 410_000, 96_500, 0, 0, 1.52, 0, 61_300, 0.18),
    SpendingRow("draft", "alpha/writer", 1_210, 300_400, 288_000, 0, 0, None, 1_210, 0, None),
)


STORM_SECONDS = 84.2
"""Of the run, at which the steps go on; in a younger run they are so much earlier."""


def _moved(step: HistorySpan, earlier: float) -> HistorySpan:
    end = None if step.end is None else step.end - earlier
    return msgspec.structs.replace(step, start=step.start - earlier, end=end)


def _moved_call(call: AttemptRow, earlier: float) -> AttemptRow:
    names = ("wait_started_at", "acquired_at", "started_at", "completed_at", "released_at")
    times = {name: getattr(call, name) for name in names}
    moved = {name: time - earlier for name, time in times.items() if time is not None}
    return msgspec.structs.replace(call, **moved)


def focused(focus: Focus, frame: Frame) -> Focused:
    """What is known of any focus."""
    events = tuple(
        EventLine(row.ordinal, row.event.captured_at_monotonic - T0, row.event)
        for row in frame.events[:12]
    )
    earlier = max(0.0, STORM_SECONDS - (frame.at - T0)) if frame.last_ordinal else 0.0
    known_calls = tuple(_moved_call(call, earlier) for call in CALLS)
    if isinstance(focus, TaskFocus):
        steps = tuple(_moved(step, earlier) for step in STEPS)
        history = TaskHistory(focus.task_id, "critique", 4, 17, "running", None, steps)
        return Focused(focus, history, known_calls, events=events)
    if isinstance(focus, CallFocus):
        calls = tuple(call for call in known_calls if call.attempt_id == focus.attempt_id)
        return Focused(focus, calls=calls, owner=TASKS[17], events=events)
    if isinstance(focus, SpendingFocus):
        return Focused(focus, spending=SPENDING)
    return Focused(focus, tasks=TASKS, total=len(TASKS))
