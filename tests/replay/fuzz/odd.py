"""Files in which one field of some lines says what no producer says, for every reading command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
from tests.replay.fuzz.hostile import foreign_lines, own_lines

NUMBERS: dict[str, str] = {
    "nan": "NaN",
    "infinity": "Infinity",
    "minus infinity": "-Infinity",
    "1e308": "1e308",
    "1e99": "1e99",
    "1e12": "1e12",
    "9e9": "9e9",
    "1e8": "1e8",
    "12 days": "1e6",
    "minus 9e9": "-9e9",
    "minus 1e8": "-1e8",
    "2^63-1": "9223372036854775807",
    "2^64": "18446744073709551616",
    "2^53": "9007199254740992",
    "minus one": "-1",
    "float": "1.5",
    "text": '"soon"',
    "null": "null",
    "a list": "[1]",
    "lone surrogate": '"\\ud800"',
}
"""Name of the value, and its JSON (or what some programs take for JSON)."""
_MARK = "~odd~"
Field = tuple[str, ...]
"""The names on the way to a value."""


class Odd(NamedTuple):
    name: str
    shape: str
    """`own` lines, a `journal` of them, or `foreign` lines."""
    good: list[bytes]
    numbers: list[int]
    """Of the lines that are changed."""
    field: Field
    value: str

    def write(self, folder: Path) -> Path:
        lines = list(self.good)
        for number in self.numbers:
            lines[number] = with_value(lines[number], self.field, self.value)
        if self.shape != "journal":
            path = folder / "scheduler_events.jsonl"
            path.write_bytes(b"\n".join(lines) + b"\n")
            return path
        run = RunFolder.create(folder / "run")
        write_record(run, RunRecord("run-1", "test", "running", wall_start=1_700_000_000.0))
        run.segment(1).write_bytes(b"\n".join(lines) + b"\n")
        return run.path


_HEADER_FIELDS: tuple[Field, ...] = (
    ("run", "schema_version"),
    ("run", "monotonic_start"),
    ("run", "wall_start"),
    ("run", "records"),
    ("run", "row_groups"),
    ("run", "resource_limits", "submission"),
    ("first_ordinal",),
    ("segment",),
)
_EVERY_EVENT: tuple[Field, ...] = (
    ("captured_at_monotonic",),
    ("sequence",),
    ("captured_correlation", "row_group"),
    ("diagnostics", "row"),
    ("diagnostics", "lost"),
    ("diagnostics", "blocked_until"),
)
_END_FIELDS: tuple[Field, ...] = (("captured_at_monotonic",), ("scheduler_sequence",))


def odd_files() -> Iterator[Odd]:
    """One for each shape, kind of line, field that such lines have, and value."""
    for shape, lines in (
        ("own", own_lines()),
        ("journal", own_lines()),
        ("foreign", foreign_lines()),
    ):
        by_kind: dict[str, list[int]] = {}
        for number, line in enumerate(lines):
            value = json.loads(line)
            by_kind.setdefault(value.get("event_kind") or value["stream"], []).append(number)
        for kind, numbers in by_kind.items():
            if shape == "journal" and kind not in ("header", "end"):
                continue  # as in a file
            for field in dict.fromkeys(_fields_of(kind, json.loads(lines[numbers[-1]]))):
                for value, raw in NUMBERS.items():
                    name = f"{shape} {kind} {'.'.join(field)} {value}"
                    changed = sorted({numbers[len(numbers) // 2], numbers[-1]})
                    yield Odd(name, shape, lines, changed, field, raw)
        third = [n for n, line in enumerate(lines) if b'"event_kind"' in line][1::3]
        for value, raw in NUMBERS.items():
            for field in _EVERY_EVENT:
                name = f"{shape} every third {'.'.join(field)} {value}"
                yield Odd(name, shape, lines, third, field, raw)


def _fields_of(kind: str, line: dict[str, Any]) -> Iterator[Field]:
    if kind == "header":
        yield from _HEADER_FIELDS
    elif kind == "end":
        yield from _END_FIELDS
    else:
        yield from _EVERY_EVENT
        yield from _leaves(line, ())


def _leaves(value: dict[str, Any], above: Field) -> Iterator[Field]:
    for name, item in value.items():
        if isinstance(item, dict) and item and len(above) < 5:
            yield from _leaves(item, (*above, name))
        yield (*above, name)


def with_value(line: bytes, field: Field, raw: str) -> bytes:
    """The line with `raw` as the value of a field, which it may not have had."""
    value: dict[str, Any] = json.loads(line)
    inside = value
    for name in field[:-1]:
        below = inside.get(name)
        inside[name] = inside = below if isinstance(below, dict) else {}
    inside[field[-1]] = _MARK
    return json.dumps(value).replace(f'"{_MARK}"', raw).encode()
