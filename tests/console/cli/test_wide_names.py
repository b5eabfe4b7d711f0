"""Tables stay aligned where names take two cells a character, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from rich.cells import cell_len

from console.cli.table_output import write_table
from replay.diagnosis.report.schema import BlameLine
from replay.diagnosis.report.text import _table as blamed
from replay.metrics.compare_text import _table as compared
from replay.metrics.difference import Difference
from replay.recording.query import ResultColumn

NAMES = ("plain", "評価モデル", "대규모", "cafe\u0301", "評価" * 40, "x" * 90)


def column_of(line: str, mark: str) -> int:
    """The cell in which `mark` begins."""
    return cell_len(line[: line.index(mark)])


def test_rows_of_a_query(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [ResultColumn("名前", "VARCHAR"), ResultColumn("number", "INTEGER")]
    rows: Sequence[Sequence[Any]] = [(name, 7_000 + index) for index, name in enumerate(NAMES)]
    write_table(columns, iter(rows), None)
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert {cell_len(line) for line in lines} == {cell_len(rule)}
    assert len({column_of(line, "700") for line in lines}) == 1
    assert cell_len(head) == cell_len(rule)


@pytest.mark.parametrize("width", [24, 40, 61])
def test_a_row_of_a_query_in_lines(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    columns = [ResultColumn("名前", "VARCHAR"), ResultColumn("number", "INTEGER")]
    write_table(columns, iter([(name, 7) for name in NAMES[:2] * 3] + [(NAMES[4], 7)]), None, width)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= max(width, 30)
    assert len({column_of(line, "7") for line in lines if "number" in line}) == 1


def test_shares_of_a_diagnosis() -> None:
    blame = [BlameLine("working", name, name, 0.15, "") for name in NAMES]
    lines = [line for line in blamed("Run", blame, 80) if "%" in line]
    assert len(lines) == len(NAMES)
    assert len({column_of(line, "%") for line in lines}) == 1
    assert max(map(cell_len, lines)) <= 80


def test_the_numbers_of_a_comparison() -> None:
    rows = [
        Difference(f"{name}: {name}", "s", 12.5, 12.5, 0.0, 1.0, "same", "none") for name in NAMES
    ]
    lines = [line for line in compared("Metrics", rows) if "same" in line]
    assert len(lines) == len(NAMES)
    assert len({column_of(line, "12.5") for line in lines}) == 1
    assert max(map(cell_len, lines)) <= 80
