"""Text in cells: as wide as it is told, whatever it is written in."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from replay.diagnosis.report.text_layout import cells, cut, head, left, right, wrap
from tests.effort import effort

TEXT = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"])
    | st.sampled_from("評価 대규모 e\u0301 🚀 % -~"),
    max_size=60,
)


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("plain", 5), ("評価モデル", 10), ("대규모", 6), ("cafe\u0301", 4), ("🚀 go", 5)],
)
def test_cells(text: str, width: int) -> None:
    assert cells(text) == cell_len(text) == width


@given(TEXT, st.integers(1, 40))
@settings(max_examples=effort(100, 3000), deadline=None)
def test_a_column_has_its_width(text: str, width: int) -> None:
    for aligned in (left(cut(text, width), width), right(cut(text, width), width)):
        assert cells(aligned) == width
    beginning = head(text, width)
    assert text.startswith(beginning)
    assert cells(beginning) <= width


@given(TEXT, st.integers(12, 60))
@settings(max_examples=effort(100, 3000), deadline=None)
def test_nothing_is_lost_and_no_line_is_too_wide(text: str, width: int) -> None:
    lines = wrap(text, width, "  ", "      ")
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(TEXT, st.integers(2, 40), st.integers(1, 4))
@settings(max_examples=effort(100, 3000), deadline=None)
def test_text_cut_after_some_lines_says_so(text: str, width: int, most: int) -> None:
    whole = wrap(text, width)
    lines = wrap(text, width, max_lines=most)
    assert all(cells(line) <= width for line in lines)
    if len(whole) > most:
        assert len(lines) == most
        assert lines[:-1] == whole[: most - 1]
        assert lines[-1].endswith("…")
    else:
        assert lines == whole


def test_no_width_holds_no_line() -> None:
    assert wrap("some text", 0) == []


def test_english_is_wrapped_as_ever() -> None:
    text = "All of it is told twice - once in words, 100 % of it, and once-in-numbers. " * 4
    whole = textwrap.wrap(text, 40, subsequent_indent="  ", break_on_hyphens=False)
    assert wrap("no sign " * 20, 30) == textwrap.wrap("no sign " * 20, 30)
    assert len(wrap(text, 40, rest="  ")) in (len(whole), len(whole) + 1)
