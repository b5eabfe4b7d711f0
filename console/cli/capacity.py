"""`headgate capacity`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.stdout import print_json, print_text

if TYPE_CHECKING:
    from replay.playback.capacity import CapacityRow

_TITLES = {
    "configured": "Set before the run",
    "runtime_snapshot": "At the last event",
    "observed_maxima": "Most at once",
}
_HEADS = {
    "configured": ("value", "set to", "observed max", "source"),
    "runtime_snapshot": ("value", "is", "", "source"),
    "observed_maxima": ("value", "was", "", "source"),
}
MOST_CHARACTERS = 60


@click.command()
@click.argument("recording", type=RUN, required=False)
@click.option("--json", "as_json", is_flag=True, help="The whole plan as JSON.")
@click.option("--schema", is_flag=True, help="The JSON Schema of --json, without a recording.")
def capacity(recording: str | None, as_json: bool, schema: bool) -> int:
    """Say which capacity RECORDING had: each value, its source, and the most that was in use.

    What is not known says why. RECORDING is whatever `headgate replay` takes, also a run that goes
    on, and one of another producer as far as its events tell.
    """
    import msgspec

    from console.cli.presenter import read_all
    from replay.playback.capacity import CapacityRow, capacity_plan, capacity_rows
    from replay.playback.session import Session

    if schema:
        print_json(msgspec.json.schema(list[CapacityRow]))
        return exit_codes.OK
    if recording is None:
        raise click.UsageError("Missing argument 'RECORDING'.")
    session = Session.open(recording, growing=False)
    try:
        read_all(session)
        reader = session.reader
        state = reader.state_at(reader.bounds().last_ordinal)
        rows = capacity_rows(capacity_plan(reader.run(), state, reader.peaks()))
    finally:
        session.close()
    if as_json:
        print_json(rows)
    else:
        print_text("\n\n".join(_table(part, rows) for part in _TITLES))
    return exit_codes.OK


def _table(part: str, rows: Sequence[CapacityRow]) -> str:
    from console.formatting import shown, words
    from replay.diagnosis.report.text_layout import cells, cut, left

    lines: list[tuple[str, ...]] = [_HEADS[part]]
    for row in rows:
        if row.part != part:
            continue
        source = words(row.source)
        if row.fallback_from:
            source = f"{source}, the rest {words(row.fallback_from)}"
        if row.value is None:
            source = row.missing_reason or source
        label = f"{words(row.name)}: {row.key}" if row.key else words(row.name)
        most = "" if row.observed is None else shown(row.observed)
        if row.used_up:
            most = f"{most} (all)"
        lines.append((label, "?" if row.value is None else shown(row.value), most, source))
    wide = [min(MOST_CHARACTERS, max(cells(line[nth]) for line in lines)) for nth in range(3)]
    text = [_TITLES[part]]
    for line in lines:
        fields = [
            left(cut(field, width, "…"), width)
            for field, width in zip(line[:3], wide, strict=True)
            if width
        ]
        text.append("  " + "  ".join([*fields, line[3]]).rstrip())
    return "\n".join(text)
