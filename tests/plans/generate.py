"""Writes the lists of `plans/` that derive from code: `python -m tests.plans.generate`.

A page marks such a list with `<!-- generated: NAME -->` and `<!-- end -->`; what stands between is
replaced. `test_generated.py` fails where a page is not up to date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from engine.events.kinds import EVENT_KINDS, EventKind, PayloadField, Stream
from engine.telemetry.instruments import INSTRUMENTS
from replay.diagnosis.verdicts import BY_NAME, Verdict
from replay.recording.views import ALL_VIEWS, CONVENTIONS, RunView, View

PLANS = Path(__file__).parents[2] / "plans"
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. A `|` inside a cell is escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def event_kinds(stream: Stream) -> str:
    return table(
        ("kind", "about", "meaning", "result", "`diagnostics`"),
        (
            (
                f"`{kind.name}`" + ("" if kind.published else " *"),
                kind.subject.replace("_", " "),
                kind.meaning,
                kind.result,
                _payload(kind),
            )
            for kind in EVENT_KINDS
            if kind.stream == stream
        ),
    )


def _payload(kind: EventKind) -> str:
    return "<br>".join(_field(field) for field in kind.payload)


def _field(field: PayloadField) -> str:
    unit = f", {field.unit}" if field.unit else ""
    return f"`{field.name}` ({field.type}{unit}): {field.meaning}"


def verdicts() -> str:
    return table(
        ("verdict", "tier", "in words", "proved by", "not provable without"),
        (
            (f"`{name}`", kind.tier, kind.phrase, kind.proof, _needed_for(kind))
            for name, kind in BY_NAME.items()
        ),
    )


def _needed_for(kind: type[Verdict]) -> str:
    return kind.proved_from or ("a known policy" if kind.needs_known_policy else "")


def sql_views() -> str:
    """What holds for every view, then each view with a table of its columns."""
    return "\n".join([f"{CONVENTIONS}\n", *(_sql_view(view) for view in ALL_VIEWS)])


def _sql_view(view: View | RunView) -> str:
    columns = table(
        ("column", "type", "unit", "meaning"),
        ((f"`{column.name}`", column.type, column.unit, column.meaning) for column in view.columns),
    )
    description = view.description[0].upper() + view.description[1:]
    return f"### `{view.name}`\n\n{description}.\n\n{columns}"


def metrics() -> str:
    return table(
        ("metric", "kind", "unit", "meaning", "labels"),
        (
            (
                f"`{instrument.name}`",
                instrument.kind,
                instrument.unit,
                instrument.meaning,
                "<br>".join(f"`{label}`" for label in sorted(instrument.labels)),
            )
            for instrument in INSTRUMENTS
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    "scheduler-events": lambda: event_kinds("scheduler"),
    "metrics": metrics,
    "request-events": lambda: event_kinds("request"),
    "sql-views": sql_views,
    "verdicts": verdicts,
}


def generated(page: str) -> str:
    """`page` with every marked table as it should be. Raises `KeyError` for an unknown table."""
    return _BLOCK.sub(lambda match: match[1] + TABLES[match["name"]](), page)


def pages() -> list[Path]:
    return sorted(PLANS.rglob("*.md"))


if __name__ == "__main__":
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if (fresh := generated(text)) != text:
            path.write_text(fresh, encoding="utf-8")
