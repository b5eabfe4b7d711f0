"""Where to go: what was typed, and which instant or event of a run that is."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from console.formatting import run_time
from replay.diagnosis.verdicts import clock
from replay.playback.frame import Frame

_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d):([0-5]\d(?:\.\d+)?)")
_ROW = re.compile(r"r(?:ow)? ?(\d{1,15})")
_DAY_SECONDS = 86_400.0
EXAMPLES = "1:23.5, 17:39:50, 50%, +5, -5, #1234, 20-40 or row 17"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to go: exactly one of them, but for `of_day`."""

    ordinal: int | None = None
    run_time: float | None = None
    offset: float | None = None
    percent: float | None = None
    of_day: float | None = None
    """Seconds since midnight, where the run time may as well be a time of the day."""
    span: tuple[Target, Target] | None = None
    """A stretch to be marked."""
    row: int | None = None
    """All tasks of a row."""


def parse_target(text: str) -> Target | None:
    """`#1234`, `50%`, `+5`, `-5.5`, `83.5`, `1:23.5`, `1:02:03`, `20-40`, `row 17`; None if it is
    none of these."""
    text = text.strip()
    row = _ROW.fullmatch(text)
    if row is not None:
        return Target(row=int(row[1]))
    first, dash, second = text.partition("-")
    if dash and first and not first.startswith("#"):
        ends = parse_target(first), parse_target(second)
        if ends[0] is None or ends[1] is None or not all(map(_is_instant, ends)):
            return None
        return Target(span=(ends[0], ends[1]))
    if text.startswith("#"):
        number = text[1:].replace(",", "")
        return Target(ordinal=int(number)) if number.isascii() and number.isdigit() else None
    if text.endswith("%"):
        percent = run_time(text[:-1])
        valid = percent is not None and ":" not in text and percent <= 100
        return Target(percent=percent) if valid else None
    sign = text[:1] if text[:1] in ("+", "-") else ""
    value = run_time(text[len(sign) :])
    if value is None:
        return None
    if sign:
        return Target(offset=-value if sign == "-" else value)
    day = _OF_DAY.fullmatch(text)
    of_day = None
    if day is not None:
        of_day = int(day[1]) * 3600 + int(day[2]) * 60 + float(day[3])
    return Target(run_time=value, of_day=of_day)


def _is_instant(target: Target | None) -> bool:
    return target is not None and (target.run_time is not None or target.percent is not None)


@dataclass(frozen=True, slots=True)
class Destination:
    """An event or an instant of the producer's clock."""

    ordinal: int | None = None
    time: float | None = None


def resolve(
    target: Target, frame: Frame, local: Callable[[float], time.struct_time] = time.localtime
) -> Destination | str:
    """Where that is in the run of this frame, or the sentence that says why it is nowhere.

    A time of the day is one of the wall clock where the run went on then, else run time.
    """
    if target.span is not None:
        stretch = resolve_range(target.span, frame, local)
        return stretch if isinstance(stretch, str) else Destination(time=stretch[1])
    if target.row is not None:
        return Destination(ordinal=frame.ordinal)
    last, length = frame.last_ordinal, frame.t1 - frame.t0
    if target.ordinal is not None:
        if not 1 <= target.ordinal <= last:
            return f"There is no event #{target.ordinal}: the run has {last:,}."
        return Destination(ordinal=target.ordinal)
    if target.percent is not None:
        return Destination(time=frame.t0 + length * target.percent / 100)
    if target.offset is not None:
        return Destination(time=max(frame.t0, min(frame.at + target.offset, frame.t1)))
    seconds = target.run_time or 0.0
    if target.of_day is not None:
        there = _at_time_of_day(target.of_day, frame, local)
        if there is not None:
            return Destination(time=there)
    if seconds > length and clock(seconds) != clock(length):
        return f"The run ends at {clock(length)}: there is nothing at {clock(seconds)}."
    return Destination(time=min(frame.t0 + seconds, frame.t1))


def _at_time_of_day(
    of_day: float, frame: Frame, local: Callable[[float], time.struct_time]
) -> float | None:
    """The first such time at which the run went on, or at which an interruption during it was over,
    on the producer's clock; None where there is none."""
    stretches = list(frame.wall_clock.stretches(frame.t0, frame.t1))
    for number, stretch in enumerate(stretches):
        start = local(stretch.wall)
        into_day = start.tm_hour * 3600 + start.tm_min * 60 + start.tm_sec + stretch.wall % 1
        after = (of_day - into_day) % _DAY_SECONDS
        if after <= stretch.until - stretch.since:
            return stretch.since + after
        if number + 1 < len(stretches) and after <= stretches[number + 1].wall - stretch.wall:
            return stretches[number + 1].since
    return None


def resolve_range(
    span: tuple[Target, Target],
    frame: Frame,
    local: Callable[[float], time.struct_time] = time.localtime,
) -> tuple[float, float] | str:
    """Both ends in time of the producer, or why there is no such stretch."""
    ends = [resolve(target, frame, local) for target in span]
    for end in ends:
        if isinstance(end, str):
            return end
    start, stop = (end.time for end in ends if isinstance(end, Destination))
    if start is None or stop is None or start >= stop:
        return "A stretch begins before it ends: write 20-40 or 1:20-1:45."
    return start, stop
