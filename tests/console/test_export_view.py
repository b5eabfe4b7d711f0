"""`x`: what is shown, as CSV, JSON or a picture."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from console.sheet import Sheet
from tests.console.driven import Driven, drive


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5", "6", "7", "9"])
def test_the_rows_of_every_page_in_both_forms(key: str, tmp_path: Path) -> None:
    async def test(driven: Driven) -> None:
        await driven.press(key, "x", "c")
        await driven.press("x", "j")

    drive(test, copies=tmp_path / "copies", exports=tmp_path)
    (as_csv,) = tmp_path.glob("*.csv")
    (as_json,) = tmp_path.glob("*.json")
    head, *rows = csv.reader(io.StringIO(as_csv.read_text("utf-8")))
    objects = json.loads(as_json.read_text("utf-8"))
    assert rows
    assert len(objects) == len(rows)
    assert all(list(row) == head for row in objects)
    assert as_csv.name.startswith("support-dialogues-")


def test_a_filter_leaves_out_what_does_not_match(tmp_path: Path) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("9", "slash", *"rows>0", "enter", "x", "j")

    drive(test, copies=tmp_path / "copies", exports=tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert all(row["rows lost"] > 0 for row in json.loads(path.read_text("utf-8")))


def test_a_picture_is_the_screen_in_its_colours_and_nothing_is_overwritten(tmp_path: Path) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("x", "s", "x", "s", "x", "escape")

    drive(test, copies=tmp_path / "copies", exports=tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert names == ["support-dialogues-overview-2.svg", "support-dialogues-overview.svg"]
    picture = (tmp_path / names[1]).read_text("utf-8")
    assert "#2bb78c" in picture.lower()
    assert "cooldown" in picture


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("x", "c")
        notes = [str(note.message) for note in driven.app._notifications]
        assert any("No such file or directory" in note for note in notes)

    drive(test, copies=tmp_path, exports=tmp_path / "missing")


def test_text_that_a_spreadsheet_would_run_is_marked() -> None:
    sheet = Sheet(("name", "n"), (("=1+1", -3), ("fine", 2)))
    assert sheet.csv() == "name,n\n'=1+1,-3\nfine,2\n"
    assert json.loads(sheet.json())[0] == {"name": "=1+1", "n": -3}
