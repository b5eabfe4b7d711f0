"""Blame as lines of the report: as a whole, and by column, provider, row group or group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from engine.events import RunInfo
from replay.diagnosis.report.schema import BlameLine, ColumnBlame, PartBlame
from replay.diagnosis.report.shares import Share, cell_shares
from replay.diagnosis.verdicts import WORKING, advice, phrase
from replay.state.rows import BlameRow


def blame_lines(run: RunInfo, shares: Sequence[Share]) -> tuple[BlameLine, ...]:
    """Each share with its words and its advice, in the same order."""
    return tuple(
        BlameLine(
            share.verdict,
            phrase(share.verdict),
            share.resource,
            share.fraction,
            advice(share.verdict, share.resource or "", run) if share.verdict != WORKING else "",
        )
        for share in shares
    )


def blame_by_part(
    run: RunInfo,
    rows: Iterable[BlameRow],
    shares: Callable[[list[BlameRow]], Sequence[Share]],
    part_of: Callable[[BlameRow], str],
) -> tuple[PartBlame, ...]:
    """Blame by part, those with numbers for a name in the order of these; rows of the part "" are
    left out."""
    rows_by_part = _divided(rows, part_of)
    rows_by_part.pop("", None)
    names = sorted(rows_by_part, key=lambda name: (int(name) if name.isdecimal() else 0, name))
    return tuple(
        PartBlame(name, seconds_of(part), blame_lines(run, shares(part)))
        for name, part in ((name, rows_by_part[name]) for name in names)
    )


def blame_by_column(run: RunInfo, rows: Iterable[BlameRow]) -> tuple[ColumnBlame, ...]:
    """Blame of cells by column, in the order of the workflow."""
    rows_by_column = _divided(rows, lambda row: row.column)
    order = {column.name: index for index, column in enumerate(run.columns)}
    names = sorted(rows_by_column, key=lambda name: (order.get(name, len(order)), name))
    return tuple(
        ColumnBlame(name, seconds_of(part), blame_lines(run, cell_shares(part)))
        for name, part in ((name, rows_by_column[name]) for name in names)
    )


def seconds_of(rows: Iterable[BlameRow]) -> float:
    """Cell-seconds, or slot-seconds, of all rows."""
    return math.fsum(row.seconds for row in rows)


def _divided(
    rows: Iterable[BlameRow], part_of: Callable[[BlameRow], str]
) -> dict[str, list[BlameRow]]:
    rows_by_part: dict[str, list[BlameRow]] = {}
    for row in rows:
        rows_by_part.setdefault(part_of(row), []).append(row)
    return rows_by_part
