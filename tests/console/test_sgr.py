"""Fewer bytes of style show the same."""

from __future__ import annotations

import random

import pyte
import pytest

from console.sgr import StyleWriter
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


def styled(dice: random.Random) -> str:
    """Text as Rich writes it, and less orderly too."""
    parts = []
    for _ in range(60):
        codes = ";".join(dice.sample(CODES, dice.randint(1, 3)))
        word = "".join(dice.choice("ab █░") for _ in range(dice.randint(0, 4)))
        reset = "\x1b[0m" if dice.random() < 0.8 else ""
        move = f"\x1b[{dice.randint(1, 9)};{dice.randint(1, 30)}H" if dice.random() < 0.3 else ""
        erase = dice.choice(("\x1b[K", "\x1b[J")) if dice.random() < 0.05 else ""
        title = "\x1b]0;a title\x07" if dice.random() < 0.05 else ""
        parts.append(f"{move}\x1b[{codes}m{word}{reset}{erase}{title}")
    return "".join(parts)


def screen_of(pieces: list[str]) -> object:
    screen = pyte.Screen(40, 10)
    stream = pyte.Stream(screen)
    for piece in pieces:
        stream.feed(piece)
    return [[screen.buffer[y][x] for x in range(40)] for y in range(10)]


@pytest.mark.parametrize("seed", range(effort(20, 2_000)))
def test_it_shows_the_same(seed: int) -> None:
    dice = random.Random(seed)
    pieces = [styled(dice) for _ in range(3)]
    writer = StyleWriter()
    assert screen_of([writer.shorten(piece) for piece in pieces]) == screen_of(pieces)


def test_what_does_not_change_is_not_written_again() -> None:
    writer = StyleWriter()
    begin = writer.shorten("\x1b[37;40ma\x1b[0m\x1b[37;40mb\x1b[0m")
    assert begin == "\x1b[0;37;40mab"
    assert writer.shorten("\x1b[2;1H\x1b[1;37;40mc\x1b[0m") == "\x1b[2;1H\x1b[1mc"
    assert writer.shorten("\x1b[97;40md\x1b[0m") == "\x1b[0;97;40md"


def test_after_somebody_else_has_written_the_whole_style_comes() -> None:
    writer = StyleWriter()
    writer.shorten("\x1b[37;40ma")
    writer.forget()
    assert writer.shorten("\x1b[37;40mb") == "\x1b[0;37;40mb"
