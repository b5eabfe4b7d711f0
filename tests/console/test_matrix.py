"""Every page in every state at every size: it is drawn, says what it is and in which state the run
is, and stays within its terminal."""

from __future__ import annotations

import asyncio

import pytest
from rich.cells import cell_len

from console.controls import SCREENS
from tests.console.driven import Driven, running
from tests.effort import effort

PAGES = {
    **{
        control.brief: (control.keys,)
        for control in SCREENS
        if control.action.startswith("app.go(")
    },
    "Tasks": ("2", "enter"),
    "Task": ("2", "enter", "enter"),
    "Tokens": ("9", "c"),
    "Call": ("2", "enter", "enter", "up", "up", "enter"),
}
STATES = {
    "healthy": "LIVE",
    "behind": "BEHIND",
    "paused": "PAUSED",
    "replaying": "PAUSED",
    "ended": "ENDED",
    "lost": "LOST",
    "empty": "WAITING",
    "crowd": "LIVE",
    "gap": "LIVE",
}
SIZES = ((40, 10), (80, 24), (120, 40), (200, 60))


@pytest.mark.parametrize("state", effort(("lost", "crowd"), tuple(STATES)))
def test_every_page_at_every_size(state: str) -> None:
    async def main() -> None:
        async with running(state, (80, 24)) as driven:
            for name, keys in PAGES.items():
                for key in keys:
                    await driven.press(key)
                for size in SIZES:
                    await driven.pilot.resize_terminal(*size)
                    await driven.settle()
                    check(driven, name, state, size)

    asyncio.run(main())


def check(driven: Driven, name: str, state: str, size: tuple[int, int]) -> None:
    where = f"{name} {state} {size}"
    screen = driven.app.screen
    lines = [
        "".join(segment.text for segment in line) for line in screen._compositor.render_strips(None)
    ]
    assert len(lines) == size[1], where
    assert all(cell_len(line) == size[0] for line in lines), where
    assert f" {STATES[state]} " in lines[0], where
    page = driven.app.page
    assert page is not None
    if state != "empty" or name not in ("Tasks", "Task", "Call"):
        assert page.page_name == name, where
    if size[0] >= 80:
        assert sum(bool(line.strip()) for line in lines) >= 5, where
