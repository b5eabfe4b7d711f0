"""What of two runs can be drawn over one another or set side by side: series, and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from replay.recording.reader import RecordingReader
from replay.sources.sanitize import clean_text

POINTS = 240
QUEUE = "queued tasks"
_SERIES = {"limit": "limit", "in_flight": "in flight"}


class Course(msgspec.Struct, frozen=True):
    """How one run went: series of `POINTS` means over all its time."""

    seconds: float
    rows_done: int
    rows_dropped: int
    series: dict[str, list[float]]
    """By name: `queued tasks`, and `limit` and `in flight` behind each request resource."""
    progress: list[float]
    """Part of all completed tasks that is done at the end of each point, 0 to 1."""

    @property
    def rows_per_second(self) -> float | None:
        return self.rows_done / self.seconds if self.seconds > 0 else None

    def by_progress(self, name: str) -> list[float]:
        """A series over progress in place of time."""
        values, done = self.series[name], self.progress
        result, point = [], 0
        for number in range(POINTS):
            wanted = (number + 0.5) / POINTS
            while point < POINTS - 1 and done[point] < wanted:
                point += 1
            result.append(values[point])
        return result

    def over(self, name: str, seconds: float) -> list[float]:
        """A series over so many seconds from the start; 0 once the run was over."""
        values, result = self.series[name], []
        for number in range(POINTS):
            at = (number + 0.5) / POINTS * seconds
            point = int(at / self.seconds * POINTS + 1e-9) if self.seconds > 0 else POINTS
            result.append(values[point] if point < POINTS else 0.0)
        return result


class Setting(msgspec.Struct, frozen=True):
    """A value that the two do not share; None where one side has no such value."""

    name: str
    a: str | None
    b: str | None


def course_of(reader: RecordingReader) -> Course:
    """The course of a whole recording."""
    bounds, run = reader.bounds(), reader.run()
    begin, length = bounds.t0 - run.monotonic_start, bounds.t1 - bounds.t0
    width = length / POINTS if length > 0 else 1.0
    series: dict[str, list[float]] = {QUEUE: [0.0] * POINTS}
    done = [0.0] * POINTS
    for row in reader.rollup(-(2**40), 2**40):
        if row.series == "queue_depth":
            values = series[QUEUE]
        elif row.series in _SERIES:
            name = f"{clean_text(row.key)} {_SERIES[row.series]}"
            values = series.setdefault(name, [0.0] * POINTS)
        elif row.series == "tasks_done":
            values = done
        else:
            continue
        start, end = row.bin - begin, row.bin + row.bins - begin
        first = max(0, math.floor(start / width))
        for point in range(first, min(POINTS, math.ceil(end / width))):
            part = min(end, (point + 1) * width) - max(start, point * width)
            if part > 0:
                values[point] += row.mean * part / (1.0 if values is done else width)
    total, so_far, progress = math.fsum(done), 0.0, []
    for amount in done:
        so_far += amount
        progress.append(so_far / total if total else 0.0)
    state = reader.state_at(bounds.last_ordinal).progress
    return Course(length, state.rows_done, state.rows_dropped, series, progress)


def settings_of(reader: RecordingReader) -> dict[str, str]:
    """What was set for a run, by name: its capacity plan, its records and columns."""
    run = reader.run()
    settings = {"records": str(run.records)} if run.records is not None else {}
    for column in run.columns:
        about = column.request_resource or column.kind
        settings[f"column {clean_text(column.name)}"] = clean_text(about)
    configured = _mapping(run.capacity_plan.get("configured"))
    for name, value in _values(configured):
        settings[clean_text(name.replace("_", " "))] = clean_text(value)
    return settings


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[Setting]:
    """In order of the first, then what only the second has."""
    names = dict.fromkeys([*a, *b])
    return [Setting(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def _values(configured: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in configured.items():
        if not isinstance(value, Mapping):
            continue
        if "source" not in value:
            yield from _values(value)
            continue
        content = value.get("value")
        if isinstance(content, Mapping):
            for key, inner in content.items():
                yield f"{name} {key}", _text(inner)
        else:
            yield name, _text(content)


def _text(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
