"""A focus as a word of the command line: `task:critique/rg0/17`, `row:17`, `tokens`."""

from __future__ import annotations

from collections.abc import Callable

from replay.playback.focus import CallFocus, Focus, SpendingFocus, TaskFocus, TasksFocus

EXAMPLES = "task:ID, call:ID, row:17, group:NAME, tokens or error:RESOURCE|COLUMN|ERROR"
_BETWEEN = "|"
_SPENDING = "tokens"


def name_of(focus: Focus) -> str:
    """The word for a focus, which `parse_focus` reads back."""
    if isinstance(focus, TaskFocus):
        return f"task:{focus.task_id}"
    if isinstance(focus, CallFocus):
        return f"call:{focus.attempt_id}"
    if isinstance(focus, SpendingFocus):
        return _SPENDING
    if focus.row is not None:
        return f"row:{focus.row}"
    if focus.group is not None:
        return f"group:{focus.group}"
    return f"error:{_BETWEEN.join(focus.failure or ())}"


def parse_focus(text: str) -> Focus | None:
    """None where it is none of these."""
    if text == _SPENDING:
        return SpendingFocus()
    kind, _, name = text.partition(":")
    parsers: dict[str, Callable[[str], Focus | None]] = {
        "task": TaskFocus,
        "call": CallFocus,
        "row": lambda name: (
            TasksFocus(row=int(name)) if name.isascii() and name.isdigit() else None
        ),
        "group": lambda name: TasksFocus(group=name),
        "error": _failure,
    }
    return parsers[kind](name) if name and kind in parsers else None


def _failure(name: str) -> Focus | None:
    parts = name.split(_BETWEEN, 2)
    return TasksFocus(failure=(parts[0], parts[1], parts[2])) if len(parts) == 3 else None
