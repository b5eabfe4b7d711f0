"""Every screen, dialog and window of the running console, at every size it is brought to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.widget import Widget

from console.app import ConsoleApp
from tests.console.driven import STILL
from tests.console.odd_frames import ODD
from tests.console.session_double import RecordingSession
from tests.effort import effort

WINDOWS = {
    "overview": ("1",),
    "leases": ("4", "down", "down"),
    "lanes": ("4", "l", "l", "pagedown"),
    "stalls": ("5", "down"),
    "events": ("6", "pagedown"),
    "queue": ("2", "down"),
    "ceilings": ("3", "down"),
    "capacity": ("7", "down"),
    "errors": ("9", "down"),
    "tasks": ("2", "enter", "down"),
    "task": ("2", "enter", "enter", "tab"),
    "call": ("2", "enter", "enter", "down", "enter"),
    "stretch": ("1", "v", "left", "left"),
    "export": ("x",),
    "event": ("6", "enter", "pagedown"),
    "help": ("4", "question_mark", "down", "down"),
    "output": ("o",),
    "go-to": ("g", "x", "enter"),
    "quit": ("q",),
    "palette": ("ctrl+p", "o"),
}
SIZES = effort(
    ((40, 10), (40, 11), (39, 9), (80, 24), (40, 12), (1, 1), (120, 40), (200, 60), (41, 10)),
    tuple(
        (width, height)
        for height in (1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 23, 29, 30, 50)
        for width in (1, 2, 7, 20, 39, 40, 41, 64, 90, 110, 200)
    ),
)
STATES = effort(("foreign",), tuple(ODD))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("state", STATES)
def test_every_size(state: str, window: str, tmp_path: Path) -> None:
    """Resized while it is open; keys go on working at each size."""
    asyncio.run(resize(state, window, tmp_path))


async def resize(state: str, window: str, tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    output.write_text("評価 printed\n" * 90)
    session = RecordingSession(ODD[state]())
    app = ConsoleApp(session, title=state, on_quit="ask", output=output, surroundings=STILL)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.settle()
        for key in WINDOWS[window]:
            await pilot.press(key)
            await pilot.pause()
        for width, height in SIZES:
            await pilot.resize_terminal(width, height)
            await pilot.press("down", "up", "pagedown")
            await pilot.pause()
            assert app.is_running, f"{width}x{height}"
            assert app.size == (width, height)
    assert app.return_code in (None, 0)


PAGES = ("1", "2", "3", "4", "5", "6")
STEPS = effort(
    (((80, 11), (80, 40)), ((120, 40), (60, 12))),
    tuple(
        (before, after)
        for before in ((20, 5), (80, 11), (80, 24), (120, 40), (200, 60))
        for after in ((40, 10), (60, 12), (80, 24), (80, 40), (200, 60))
        if before != after
    ),
)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_divides_its_new_room_as_if_it_had_been_opened_in_it(page: str) -> None:
    """Its frame stays the same, so that no tick brings another occasion."""

    async def compare() -> None:
        for before, after in STEPS:
            resized = await rooms(page, before, after)
            assert resized == await rooms(page, after, after), (before, after)

    asyncio.run(compare())


async def rooms(
    page: str, opened: tuple[int, int], resized: tuple[int, int]
) -> list[tuple[str, bool, tuple[int, int]]]:
    """The widgets of a page that is opened in one size and brought to another."""
    app = ConsoleApp(RecordingSession(ODD["foreign"]()), title="", surroundings=STILL)
    async with app.run_test(size=opened) as pilot:
        await app.settle()
        await pilot.press(page)
        await app.settle()
        await pilot.pause()
        if opened != resized:
            await pilot.resize_terminal(*resized)
            await app.settle()
            await pilot.pause()
        return [
            (type(widget).__name__, widget.display, widget.size)
            for widget in app.screen.walk_children(Widget)
        ]
