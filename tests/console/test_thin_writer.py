"""Fewer bytes show the same."""

from __future__ import annotations

import random

import pyte
import pytest

from console.thin_writer import ThinWriter
from tests.effort import effort

CODES = (
    "0",
    "1",
    "2",
    "3",
    "4",
    "7",
    "31",
    "97",
    "39",
    "40",
    "106",
    "49",
    "38;5;130",
    "48;2;1;2;3",
)


ODD = (
    "\x1b[K",
    "\x1b[2J",
    "\x1b]0;a title\x07",
    "\x1b[?25l",
    "\x1b[?2026h",
    "\x1b[3D",
    "\x1b[L",
    "\x1b[H",
)


COLUMNS = 250
"""No text reaches the right edge, as with lines that are cut for the terminal."""


def styled(dice: random.Random) -> str:
    """Text as Rich and Textual write it, and less orderly too."""
    parts = []
    for _ in range(60):
        codes = ";".join(dice.sample(CODES, dice.randint(1, 3)))
        word = "".join(dice.choice("ab █░") for _ in range(dice.randint(0, 9)))
        if dice.random() < 0.05:
            word += dice.choice(("漢", "e\u0301", "\n", "\r"))
        reset = "\x1b[0m" if dice.random() < 0.8 else ""
        move = f"\x1b[{dice.randint(1, 4)};{dice.randint(1, 30)}H" if dice.random() < 0.8 else ""
        odd = dice.choice(ODD) if dice.random() < 0.1 else ""
        parts.append(f"{move}\x1b[{codes}m{word}{reset}{odd}")
    return "".join(parts)


def screen_of(pieces: list[str]) -> object:
    screen = pyte.Screen(COLUMNS, 10)
    stream = pyte.Stream(screen)
    for piece in pieces:
        stream.feed(piece)
    return [[screen.buffer[y][x] for x in range(COLUMNS)] for y in range(10)]


@pytest.mark.parametrize("seed", range(effort(40, 5_000)))
def test_it_shows_the_same(seed: int) -> None:
    dice = random.Random(seed)
    pieces = [styled(dice) for _ in range(4)]
    pieces += [piece for piece in pieces if dice.random() < 0.5]
    writer = ThinWriter()
    assert screen_of([writer.shorten(piece) for piece in pieces]) == screen_of(pieces)


def test_what_does_not_change_is_not_written_again() -> None:
    writer = ThinWriter()
    begin = writer.shorten("\x1b[37;40ma\x1b[0m\x1b[37;40mb\x1b[0m")
    assert begin == "\x1b[0;37;40mab"
    assert writer.shorten("\x1b[2;1H\x1b[1;37;40mc\x1b[0m") == "\x1b[2;1H\x1b[1mc"
    assert writer.shorten("\x1b[97;40md\x1b[0m") == "\x1b[0;97;40md"


def test_only_cells_that_change_are_written() -> None:
    writer = ThinWriter()
    writer.shorten("\x1b[1;1H\x1b[37;40mone two three four\x1b[0m")
    again = "\x1b[1;1H\x1b[37;40mone TWO three FOUR\x1b[0m"
    assert writer.shorten(again) == "\x1b[1;5HTWO\x1b[7CFOUR"
    assert writer.shorten(again) == ""
    assert writer.shorten("\x1b[1;3H") == "\x1b[1;3H", "the cursor goes where it is wanted"


def test_a_whole_screen_is_written_whatever_was_known() -> None:
    writer = ThinWriter()
    screen = "\x1b[H\x1b[37;40mone\x1b[0m\n\x1b[37;40mtwo\x1b[0m"
    writer.shorten(screen)
    assert "one" in writer.shorten(screen)
    assert "two" in writer.shorten(screen)


def test_after_somebody_else_has_written_the_whole_style_comes() -> None:
    writer = ThinWriter()
    writer.shorten("\x1b[37;40ma")
    writer.forget()
    assert writer.shorten("\x1b[37;40mb") == "\x1b[0;37;40mb"
