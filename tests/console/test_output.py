"""What a watched script prints, in its window."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from console.app import ConsoleApp
from console.controls import OUTPUT
from console.screens.help import HelpScreen
from console.screens.output import OutputWindow, output_lines, tail
from console.theme import Appearance
from tests.console.driven import STILL
from tests.console.frames import FRAMES
from tests.console.session_double import RecordingSession


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\nno newline yet", ["one", "no newline yet"]),
        (b" 10 %\r 50 %\r100 %\ndone\r\n", ["100 %", "done"]),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07text\n", ["red text"]),
        (b"", []),
    ],
)
def test_lines_stand_as_a_terminal_would_leave_them(
    tmp_path: Path, printed: bytes, lines: list[str]
) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(printed)
    assert tail(path) == lines


def test_what_is_no_text_can_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"a\x00b\x9b31m\xff\n")
    assert all(char.isprintable() for line in tail(path) for char in line)


def test_of_a_long_output_the_end_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_text("".join(f"line {number}\n" for number in range(50_000)))
    lines = tail(path)
    assert lines[-1] == "line 49999"
    assert lines[0].startswith("line ")
    assert len(lines) < 20_000


def test_no_output_is_said(tmp_path: Path) -> None:
    text = [
        "".join(part for part, _ in line)
        for line in output_lines(Appearance(), tmp_path / "none.log")
    ]
    assert "Nothing was printed so far." in text[1]


@pytest.mark.parametrize("kept", [True, False])
def test_the_key_is_there_where_the_output_is_kept(tmp_path: Path, kept: bool) -> None:
    path = tmp_path / "output.log"
    path.write_text("their words\n")
    app = ConsoleApp(
        RecordingSession(FRAMES["storm"]()),
        output=path if kept else None,
        surroundings=STILL,
    )

    async def run() -> None:
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            await app.settle()
            titles = {command.title for command in app.get_system_commands(app.screen)}
            assert (OUTPUT[0].help in titles) is kept
            await pilot.press("o")
            await pilot.pause()
            assert isinstance(app.screen, OutputWindow) is kept
            if kept:
                await pilot.press("escape")
            await pilot.press("question_mark")
            await pilot.pause()
            assert isinstance(app.screen, HelpScreen)

    asyncio.run(run())
