"""Names and numbers as verdicts and reports write them."""

from __future__ import annotations

from collections.abc import Sequence

MODEL_SLOTS = ("model_stage:", "request:")
"""Scheduler resources that belong to a model: headgate's own, and Data Designer's."""
MIN_SHARE_SHOWN = 0.0005
"""Tables leave out shares below this one, which would read 0.0 %."""


def provider_of(resource: str) -> str:
    """The provider's name within the name of a request resource."""
    return resource.split("/", 1)[0]


def model_of(resource: str) -> str:
    """`provider/model` of a request resource label, or the label itself."""
    head, slash, domain = resource.rpartition("/")
    return head if slash and "/" in head and domain else resource


def slot_name(resource: str) -> str:
    """What a scheduler resource is called: `task slots`, or `task slots of provider/model`."""
    kind, _, name = resource.partition(":")
    if kind == "submission":
        return "task slots"
    return f"task slots of {name or kind}"


def column_of(group: str | None) -> str:
    """The column that a scheduling group feeds, as its key ends with it."""
    return (group or "").rpartition("/")[2] or "one group"


def duration_text(seconds: float) -> str:
    """`340 ms`, `3.2 s`, `4 min 12 s`, `2 h 5 min`."""
    if seconds < 0.9995:
        return f"{max(seconds, 0.0) * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(seconds: float, *, tenths: bool = True) -> str:
    """Run time as `m:ss.s`, with hours where there are any; rounded to tenths.

    Args:
        seconds: The run time.
        tenths: False leaves the tenths out.
    """
    units = round(abs(seconds) * 10)
    sign = "-" if seconds < 0 and units else ""
    minutes, rest = divmod(units, 600)
    hours, minutes = divmod(minutes, 60)
    whole = f"{hours}:{minutes:02d}" if hours else str(minutes)
    fraction = f".{rest % 10}" if tenths else ""
    return f"{sign}{whole}:{rest // 10:02d}{fraction}"


def count_text(number: int, noun: str, plural: str = "", *, grouped: bool = False) -> str:
    """`1 task`, `2 tasks`.

    Args:
        number: How many.
        noun: What is counted, in the singular.
        plural: The plural, where it is not the noun with an `s`.
        grouped: Whether thousands are separated by commas.
    """
    text = f"{number:,}" if grouped else str(number)
    return f"{text} {noun if number == 1 else plural or noun + 's'}"


def enumeration(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; "" for none."""
    if not names:
        return ""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
