"""The hand-made frames with odd names and numbers, as foreign streams have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import msgspec

from replay.playback.frame import Frame
from tests.console.frames import FRAMES

HUGE = 2**63 - 1
_LONG = "a-name-that-does-not-end-" * 40
_NAMES = (
    "評価モデル/判定",
    "👩🏽‍🚀👨‍👩‍👧‍👦 équipe",
    "e\u0301\u0301\u0301\u200b\u202e\x1b[2J",
    "\u3000",
    _LONG,
    "대규모언어모델" * 9,
    "",
)
_NAMED = frozenset(
    "name label key resource column task_id lease_id group request_resource error attempt_id "
    "sentence reason blocked_by wait_reason event_kind outcome reason_or_result "
    "reason_or_outcome title".split()
)
_KEPT = frozenset(
    "run_id kind verdict tier liveness at t0 t1 start end ordinal last_ordinal".split()
)


def changed(value: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """A copy of a frame, or of a part of it, with `change(field name, value)` for every leaf."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value,
            **{f.name: changed(getattr(value, f.name), change, f.name) for f in fields(value)},
        )
    if isinstance(value, msgspec.Struct):
        parts = {f: changed(getattr(value, f), change, f) for f in value.__struct_fields__}
        return type(value)(**parts)
    if isinstance(value, dict):
        return {key: changed(item, change, str(key)) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(changed(item, change, name) for item in value)
    return change(name, value)


def foreign(frame: Frame) -> Frame:
    """Every name is wide, joined, combining, hostile, endless or empty; the same name stays one."""
    names: dict[str, str] = {}

    def rename(name: str, value: Any) -> Any:
        if not isinstance(value, str) or name not in _NAMED:
            return value
        if value not in names:
            number = len(names)
            names[value] = f"{_NAMES[number % len(_NAMES)]}{number // len(_NAMES) or ''}"
        return names[value]

    return changed(frame, rename)  # type: ignore[no-any-return]


def huge(frame: Frame) -> Frame:
    """Every count is the largest that the events can carry, every rate and sample beyond it."""

    def enlarge(name: str, value: Any) -> Any:
        if name in _KEPT or isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return HUGE if isinstance(value, int) else 1e300

    return changed(frame, enlarge)  # type: ignore[no-any-return]


def nothing(frame: Frame) -> Frame:
    """Every number is nought, and all happens at one instant."""

    def empty(name: str, value: Any) -> Any:
        return type(value)() if isinstance(value, int | float) else value

    return changed(frame, empty)  # type: ignore[no-any-return]


ODD: dict[str, Callable[[], Frame]] = {
    **FRAMES,
    "foreign": lambda: foreign(FRAMES["storm"]()),
    "foreign-lost": lambda: foreign(FRAMES["lost"]()),
    "huge": lambda: huge(FRAMES["storm"]()),
    "nothing": lambda: nothing(FRAMES["replaying"]()),
}
