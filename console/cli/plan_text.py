"""The plan of a run as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from engine.run.dry_run import DryRun, PlannedColumn, PlannedModel

_MOST_CHARACTERS = 2_000
"""Of one message, and of one value."""


def plan_text(planned: DryRun) -> str:
    """The plan for people."""
    groups = "1 row group" if planned.row_groups == 1 else f"{planned.row_groups:,} row groups"
    lines = [
        f'Plan of "{planned.name}": {planned.records:,} rows in {groups}, seed {planned.seed}.',
        *_section("Columns, in the order in which they can be made", _columns(planned)),
        *_section("Expected requests", _requests(planned)),
        *_section("The first row", _first_row(planned)),
        *_section("Capacity", _capacity(planned)),
    ]
    lines += _section("Failures, and what follows", _failures(planned))
    notes = [f"- {sentence}." for sentence in planned.warnings]
    notes += [f"- {finding.sentence} ({finding.code})." for finding in planned.findings]
    lines += _section("Probably not meant", notes or ["Nothing was found."])
    return "\n".join(lines)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" if line else "" for line in lines)]


def _columns(planned: DryRun) -> list[str]:
    rows = [("column", "type", "tasks", "waits for", "group", "task slots")]
    for column in planned.columns:
        note = "" if column.written else " (not written)"
        per = "" if column.task_type == "cell" else " batches"
        rows.append(
            (
                column.name + note,
                column.type,
                f"{column.tasks:,}{per}",
                ", ".join(column.depends_on) or "-",
                column.group,
                ", ".join(column.resources),
            )
        )
    return _aligned(rows)


def _requests(planned: DryRun) -> list[str]:
    if not planned.models:
        return ["None: no column uses a model."]
    rows = [("model", "endpoint", "at once", "calls", "prompt tokens", "completion tokens", "cost")]
    for model in planned.models:
        users = [column for column in planned.columns if model.alias in column.models]
        most = sum(column.most_calls or 0 for column in users)
        open_end = any(column.most_calls is None for column in users)
        calls = f"{model.fewest_calls:,}"
        if open_end:
            calls += " or more"
        elif most > model.fewest_calls:
            calls += f" to {most:,}"
        rows.append(
            (
                model.alias,
                model.endpoint,
                f"{model.cap:,}",
                calls,
                f"about {model.prompt_tokens:,}",
                _tokens(model.most_completion_tokens),
                _cost(model),
            )
        )
    return [
        *_aligned(rows),
        "Counted without repetitions of failed calls; tokens are estimated from the first row.",
    ]


def _tokens(most: int | None) -> str:
    if most is None:
        return "unknown (no max_tokens)"
    return "none" if most == 0 else f"at most {most:,}"


def _cost(model: PlannedModel) -> str:
    if model.prompt_cost is None:
        return "unknown (no price)"
    if model.most_cost is None:
        return f"${model.prompt_cost:,.2f} and the completions"
    return f"at most ${model.most_cost:,.2f}"


def _failures(planned: DryRun) -> list[str]:
    """By what follows: the classes."""
    names: dict[str, list[str]] = {}
    for failure in planned.failures:
        names.setdefault(failure.follows, []).append(failure.name)
    return [f"{', '.join(classes)}: {follows}." for follows, classes in names.items()]


def _first_row(planned: DryRun) -> list[str]:
    lines: list[str] = []
    for column in planned.columns:
        lines += _first_of(column)
    return lines


def _first_of(column: PlannedColumn) -> Iterator[str]:
    if column.first_problem is not None:
        yield f"{column.name}: FAILS: {column.first_problem}"
    elif not column.first_prompt:
        shown = column.first_value
        yield f"{column.name} = {_cut(shown if isinstance(shown, str) else _json(shown))}"
    else:
        yield f"{column.name}, asked of {', '.join(column.models)}:"
    for message in column.first_prompt:
        images = f" with {message.images} images" if message.images else ""
        yield f"  [{message.role}{images}]"
        yield from (f"    {line}" for line in _cut(message.text).splitlines())


def _capacity(planned: DryRun) -> list[str]:
    rows = [("value", "", "source")]
    for name, value in _values(planned.capacity):
        if isinstance(value["value"], dict) and not value["value"]:
            continue
        source = str(value["source"])
        if value.get("fallback_from"):
            source += f", rest {value['fallback_from']}"
        rows.append((name, _cut(_json(value["value"]), 70), source))
    limits = ", ".join(f"{name} {limit:,}" for name, limit in planned.resource_limits.items())
    return [*_aligned(rows), f"Task slots: {limits}."]


def _values(capacity: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in capacity.items():
        if isinstance(value, dict) and "source" in value:
            yield prefix + name, value
        elif isinstance(value, dict):
            yield from _values(value, f"{prefix}{name}.")


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str, most: int = _MOST_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
