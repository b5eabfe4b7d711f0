"""`headgate preview`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.cli import exit_codes
from console.cli.stdout import print_json, print_text

if TYPE_CHECKING:
    from engine.run.preview import Preview

MOST_ROWS = 1_000


@click.command()
@click.argument("workflow", type=click.Path(path_type=Path))
@click.option("--rows", type=click.IntRange(1, MOST_ROWS), default=5, show_default=True)
@click.option("--seed", type=int, help="Seed of everything random, over the workflow's.")
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON.")
def preview(workflow: Path, rows: int, seed: int | None, as_json: bool) -> int:
    """Make the first rows of WORKFLOW and print them. The calls are real; nothing is kept.

    They are the rows that the run would begin with. Exits with 1 where a row was dropped.
    """
    import asyncio
    import dataclasses

    from engine.models.reach import check_reachable
    from engine.run.preview import preview_run
    from engine.workflow.load import load_workflow

    loaded = load_workflow(workflow).override(seed=seed)
    for name, provider in loaded.workflow.providers.items():
        check_reachable(name, provider)
    made = asyncio.run(preview_run(loaded, rows))
    if as_json:
        print_json(
            {
                "rows": made.rows,
                "dropped": [dataclasses.asdict(lost) for lost in made.lost],
                "calls": made.calls,
                "outcome": made.result.outcome,
                "message": made.result.message,
            }
        )
    else:
        print_text("\n".join(_lines(made)))
    if made.result.outcome == "failed":
        return exit_codes.RUN_FAILED
    complete = made.result.outcome == "success" and not made.result.rows_dropped
    return exit_codes.OK if complete else exit_codes.FINDINGS


def _lines(made: Preview) -> Iterator[str]:
    for number, row in enumerate(made.rows, 1):
        yield f"── row {number} " + "─" * 50
        for name, value in row.items():
            yield from _field(name, value)
    for lost in made.lost:
        which = "a whole row group" if lost.row is None else f"row {lost.row + 1}"
        yield f"Dropped: {which}, column {lost.column}: {lost.error_type}: {lost.message}"
    if made.result.message:
        yield f"The run ended early: {made.result.message}"
    yield f"{len(made.rows)} rows made, {made.result.rows_dropped} dropped, {made.calls} calls."


def _field(name: str, value: Any) -> Iterator[str]:
    text = _readable(value)
    if "\n" not in text and len(name) + len(text) < 90:
        yield f"{name}: {text}"
        return
    yield f"{name}:"
    yield from (f"    {line}" for line in text.splitlines())


def _readable(value: Any) -> str:
    """A value as people read it; JSON that stands in a column as text is laid out."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return _readable(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, list) and len(value) > 8 and all(isinstance(v, float) for v in value):
        return f"{len(value)} numbers, the first {value[:4]}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, indent=2)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
