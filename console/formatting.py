"""Formats numbers, times and names for the screens and for headless output."""

from __future__ import annotations

import re
from collections.abc import Mapping

from replay.diagnosis.verdicts import clock
from replay.playback.frame import Frame
from replay.state.failures import failure_words
from replay.state.model import Ceiling, Failure

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")


def run_time(text: str) -> float | None:
    """Seconds of `83.5`, `1:23.5` or `1:02:03`; None if it is none of these."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def duration(seconds: float | None) -> str:
    """A length of time in at most six cells: `85 ms`, `1.2 s`, `42 s`, `3:10`."""
    if seconds is None:
        return "–"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return clock(seconds, tenths=False)


def count(number: int) -> str:
    """An integer with commas between thousands."""
    return f"{number:,}"


def short(number: float) -> str:
    """`9.8`, `412`, `3.1k`, `12k`, `4.2M`."""
    if number < 9.95:
        return f"{number:.1f}"
    if number < 999.5:
        return f"{number:.0f}"
    for divisor, suffix in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        scaled = number / divisor
        if scaled < 9.95:
            return f"{scaled:.1f}{suffix}"
        if scaled < 999.5:
            return f"{scaled:.0f}{suffix}"
    return f"{number:.0e}"


def byte_count(number: int) -> str:
    """`812 B`, `3.4 kB`, `12 MB`."""
    if number < 1000:
        return f"{number} B"
    scaled, units = number / 1000, ["TB", "GB", "MB", "kB"]
    while scaled >= 999.5 and len(units) > 1:
        scaled /= 1000
        units.pop()
    return f"{scaled:.1f} {units[-1]}" if scaled < 9.95 else f"{scaled:.0f} {units[-1]}"


def percent(fraction: float) -> str:
    """A share from 0 to 1 in whole percent; `<1 %` for less than that."""
    if 0 < fraction < 0.01:
        return "<1 %"
    return f"{fraction * 100:.0f} %"


def words(identifier: str) -> str:
    """A snake_case name of the contracts as words."""
    return identifier.replace("_", " ")


def shown(value: object) -> str:
    """A value of a plan or of a configuration, of whatever shape."""
    if value is None:
        return "not known"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "none"
    return str(value)


def cooldown_left(ceiling: Ceiling, at: float) -> float:
    """Seconds until the ceiling's cooldown ends; 0 where none runs."""
    if ceiling.blocked_until is None:
        return 0.0
    return max(0.0, ceiling.blocked_until - at)


WAITS = {
    "domain_limit": "slots in use",
    "aggregate_cap": "model's cap full",
    "ramp": "starting up",
    "request_plateau": "no gain from more",
    "request_rate_budget": "budget used up",
    "waiters_ahead": "behind others",
    "cooldown": "cooldown after 429s",
    "overload": "provider overloaded",
    "no_capacity": "slots in use",
    "group_cap": "group at its share",
    "borrow_debt": "owes other groups",
    "policy_denial": "held by the policy",
    "shutdown": "the run stops",
    "queue_empty": "nothing queued",
}


def wait_words(reason: str) -> str:
    """Why a call or a task waits, in the words of the screens."""
    return WAITS.get(reason, words(reason))


def ceiling_facts(ceiling: Ceiling, frame: Frame) -> list[tuple[str, str]]:
    """(what, words) for one ceiling, in the order they are shown."""
    doubt = doubt_of(frame)
    facts = [
        ("limit", f"limit {ceiling.limit}/{ceiling.effective_max}"),
        ("in_flight", f"in flight {ceiling.in_flight}{doubt}"),
        ("waiting", f"waiting {ceiling.waiters}{doubt}"),
    ]
    left = cooldown_left(ceiling, frame.at)
    reason = ceiling.wait_reason
    if frame.unknown:
        return facts
    if left > 0:
        facts.append(("cooldown", f"cooldown {duration(left)}"))
    elif ceiling.waiters and reason and reason != "none":
        facts.append(("reason", wait_words(reason)))
    return facts


def at_end(frame: Frame) -> bool:
    """The cursor is at the newest event that is known."""
    return frame.ordinal >= frame.last_ordinal


def doubt_of(frame: Frame) -> str:
    """Suffix of a number of held leases: a question mark where the number is unknown."""
    return "?" if frame.unknown else ""


def cells_done(frame: Frame) -> float:
    """Fraction of the cells that are done; rows count only once their group is written."""
    run, done = frame.run, frame.progress.completed_by_column
    cells = [column for column in run.columns if column.task_type == "cell"]
    counted = [column for column in cells if column.request_resource is not None] or cells
    if not counted or not frame.rows_total:
        return 0.0
    parts = [min(1.0, done.get(column.name, 0) / frame.rows_total) for column in counted]
    return sum(parts) / len(parts)


def failure_line(failure: Failure, t0: float) -> str:
    """What failed, whose it was, how often, from when to when, and what it cost."""
    where = failure_words(failure)
    column = f", column {failure.column}" if failure.column and failure.resource else ""
    first, last = (clock(at - t0) for at in (failure.first_at, failure.last_at))
    span = f"at {first}" if first == last else f"{first} to {last}"
    dropped = failure.rows_dropped
    lost = f", {count(dropped)} {'row' if dropped == 1 else 'rows'} lost" if dropped else ""
    return f"{where}{column}: {count(failure.times)} ×, {span}{lost}"
