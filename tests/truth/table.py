"""The table of the scoreboard, as text and in `plans/diagnosis.md`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.truth.facts import Source
from tests.truth.rules import Score

PAGE = Path(__file__).parents[2] / "plans" / "diagnosis.md"
SOURCES: tuple[Source, ...] = ("own", "exec", "native")
_BLOCK = re.compile(r"(<!-- measured: truth -->\n).*?(?=<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """How one recording of one situation was scored."""

    situation: str
    source: Source
    turn: int
    score: Score
    said: str


def summary(cells: Sequence[Cell]) -> str:
    """One line for each source: how many cells have which grade."""
    lines = []
    for source in SOURCES:
        grades = Counter(cell.score.grade for cell in cells if cell.source == source)
        total = sum(grades.values())
        if total:
            counts = ", ".join(f"{count} {grade}" for grade, count in sorted(grades.items()))
            lines.append(f"{source}: {counts}; right {grades['right'] / total:.0%} of {total}")
    return "\n".join(lines)


def table(cells: Sequence[Cell], what: Mapping[str, str]) -> str:
    """A row for each situation; of several runs the grades are counted."""
    lines = ["| situation | what goes on | own | exec | native |", "|---|---|---|---|---|"]
    for situation, description in what.items():
        grades = [_grades(cells, situation, source) for source in SOURCES]
        lines.append(f"| {situation} | {description} | {' | '.join(grades)} |")
    return "\n".join(lines) + "\n\n" + summary(cells).replace("\n", "  \n") + "\n"


def _grades(cells: Sequence[Cell], situation: str, source: Source) -> str:
    counts = Counter(
        cell.score.grade for cell in cells if (cell.situation, cell.source) == (situation, source)
    )
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {grade}" for grade, count in counts.most_common())


def write_table(cells: Sequence[Cell], what: Mapping[str, str]) -> None:
    """Put the table into the page. Raises `ValueError` where the page has no place for it."""
    text = PAGE.read_text(encoding="utf-8")
    if not _BLOCK.search(text):
        raise ValueError(f"{PAGE} has no place for the table")
    made = table(cells, what)
    PAGE.write_text(_BLOCK.sub(lambda match: match[1] + made, text), encoding="utf-8")
