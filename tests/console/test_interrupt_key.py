"""Ctrl+C in the console, where the terminal sends no signal for it."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from console.app import ConsoleApp
from console.screens.dialogs import QuitDialog
from replay.playback.frame import Frame
from tests.console.driven import STILL
from tests.console.frames import ended, storm
from tests.console.session_double import RecordingSession


async def returned(keys: tuple[str, ...], on_quit: Literal["leave", "ask"], frame: Frame) -> object:
    """What the console returns after these keys; the screen where it is still open."""
    app = ConsoleApp(RecordingSession(frame), title="", on_quit=on_quit, surroundings=STILL)
    async with app.run_test() as pilot:
        await app.settle()
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        return app.return_value or app.screen


@pytest.mark.parametrize("before", [(), ("4",), ("question_mark",), ("g",), ("ctrl+p",)])
def test_the_first_asks_and_the_second_stops_the_run(before: tuple[str, ...]) -> None:
    screen = asyncio.run(returned((*before, "ctrl+c"), "ask", storm()))
    assert isinstance(screen, QuitDialog)
    assert asyncio.run(returned((*before, "ctrl+c", "ctrl+c"), "ask", storm())) == "stop"


@pytest.mark.parametrize(("on_quit", "frame"), [("ask", ended()), ("leave", storm())])
def test_it_leaves_at_once_where_there_is_nothing_to_ask(
    on_quit: Literal["leave", "ask"], frame: Frame
) -> None:
    assert asyncio.run(returned(("ctrl+c",), on_quit, frame)) == "quit"
