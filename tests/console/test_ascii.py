"""With `--ascii` nothing else reaches the screen, whoever draws it."""

from __future__ import annotations

import asyncio
import html
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from console.app import ConsoleApp
from console.paint import to_ascii
from console.settings import Settings
from tests.console.driven import STILL
from tests.console.odd_frames import ODD
from tests.console.session_double import RecordingSession
from tests.console.test_resizes import WINDOWS
from tests.effort import effort


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("state", effort(("foreign",), tuple(ODD)))
def test_only_ascii_is_shown(state: str, window: str, tmp_path: Path) -> None:
    asyncio.run(show(state, window, tmp_path))


async def show(state: str, window: str, tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    output.write_text("評価 printed, naïve … – 🚀\n" * 90)
    app = ConsoleApp(
        RecordingSession(ODD[state]()),
        title="",
        on_quit="ask",
        output=output,
        settings=Settings(ascii=True),
        surroundings=STILL,
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await app.settle()
        for key in WINDOWS[window]:
            await pilot.press(key)
            await pilot.pause()
        for size in ((80, 24), (40, 10), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert foreign_characters(app) == "", (window, size)


def foreign_characters(app: ConsoleApp) -> str:
    """Those on the screen that are not ASCII."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", app.export_screenshot())
    shown = "".join(map(html.unescape, texts)).replace("\N{NO-BREAK SPACE}", " ")
    return "".join(sorted({char for char in shown if not char.isascii()}))


@pytest.mark.parametrize(
    "text", ["█▁▔─│╭╮▌", "評価", "×2 → 3 … “x”", "\N{RIGHT-POINTING MAGNIFYING GLASS}"]
)
def test_the_same_width(text: str) -> None:
    assert to_ascii(text).isascii()
    assert cell_len(to_ascii(text)) == cell_len(text)
