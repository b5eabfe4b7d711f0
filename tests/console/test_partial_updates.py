"""What a terminal shows after many small updates is what a whole repaint would show."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pyte
import pytest
from textual.drivers.headless_driver import HeadlessDriver

from console.app import ConsoleApp
from console.paint import StyledLine, changed_span, width_of
from replay.playback.frame import Frame
from tests.bench.console_update import frames
from tests.console.driven import STILL
from tests.console.frames import FRAMES
from tests.console.session_double import RecordingSession

SIZE = (120, 40)
SHOWN = 25


def emulated(screen: pyte.Screen) -> type[HeadlessDriver]:
    stream = pyte.Stream(screen)

    class Emulated(HeadlessDriver):
        """Its output goes to an emulator."""

        @property
        def is_headless(self) -> bool:
            return False

        def write(self, data: str) -> None:
            stream.feed(data)

    return Emulated


@pytest.mark.parametrize("key", ["1", "4", "6"])
def test_small_updates_add_up_to_the_whole_screen(key: str) -> None:
    asyncio.run(compare(key))


async def compare(key: str) -> None:
    terminal = pyte.Screen(*SIZE)
    session = RecordingSession(FRAMES["storm"]())
    app = ConsoleApp(session, surroundings=STILL)
    app.driver_class = emulated(terminal)
    async with app.run_test(headless=False, size=SIZE) as pilot:
        await app.settle()
        await pilot.press(key)
        for frame in some(frames(session.shown)):
            session.shown, session.changed = frame, True
            app.request_frame()
            await app.settle()
            await pilot.pause()
            strips = app.screen._compositor.render_strips()
            expected = ["".join(segment.text for segment in strip).rstrip() for strip in strips]
            assert [line.rstrip() for line in terminal.display] == expected


def some(every: Iterator[Frame]) -> Iterator[Frame]:
    for _, frame in zip(range(SHOWN), every, strict=False):
        yield frame


def test_outside_of_the_changed_span_lines_are_alike() -> None:
    dice = random.Random(5)
    for _ in range(3000):
        old, new = random_line(dice), random_line(dice)
        if dice.random() < 0.5:
            new = (*old[: dice.randrange(len(old) + 1)], *new)
        width = 40
        first, after = changed_span(old, new, width)
        assert 0 <= first <= after <= width
        before, behind = cells(old, width), cells(new, width)
        for x in range(width):
            if not first <= x < after:
                assert before[x] == behind[x], (old, new, x)


def random_line(dice: random.Random) -> StyledLine:
    words = ("a", "ab", "██", "評価", "", "aaa", "▁a", "e\u0301")
    return tuple(
        (dice.choice(words), dice.choice(("text", "dim"))) for _ in range(dice.randrange(9))
    )


def cells(line: StyledLine, width: int) -> list[tuple[str, str]]:
    """One entry for each cell; the second half of a wide character is itself again."""
    shown: list[tuple[str, str]] = []
    for text, style in line:
        for char in text:
            if width_of(char):
                shown += [(char, style)] * width_of(char)
            elif shown:
                shown[-1] = (shown[-1][0] + char, style)
    return (shown + [(" ", "ground")] * width)[:width]
