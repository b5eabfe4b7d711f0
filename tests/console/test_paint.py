"""Text from outside: what reaches the terminal is exactly as wide as asked, and inert."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from console.app import ConsoleApp
from console.headless import status_line, summary
from console.paint import Row, clean, fit, fit_tail, to_strip
from console.theme import Appearance
from replay.diagnosis.report.text_layout import wrap
from tests.console.driven import STILL
from tests.console.frames import storm
from tests.console.session_double import RecordingSession

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "[bold red]markup[/] [@click=app.quit]x[/]",
    "line\nbreak\r\ttab\x00nul\x7f",
    "\u202eright to left\u2066\u200d\u200b",
    "\ud800lone",
    "日本語のタスク名前が長い場合",
    "e\u0301" * 40,
    "👩‍👩‍👧‍👦✔️" * 8,
    "x" * 5000,
    "",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_line_is_as_wide_as_asked_and_has_no_control(text: str, ascii_only: bool) -> None:
    appearance = Appearance()
    for width in (1, 7, 40):
        line = Row().put(text, "text").put(text, "dim", 12).put(text, "bright", 5, ">").line()
        strip = to_strip(line, width, appearance.palette, ascii_only, "text")
        drawn = strip.text
        assert cell_len(drawn) == width == strip.cell_length
        assert drawn.isprintable()
        if ascii_only:
            assert drawn.isascii()


@pytest.mark.parametrize("text", HOSTILE)
def test_fitted_text(text: str) -> None:
    for width in (0, 1, 2, 9):
        assert cell_len(fit(text, width)) == width
        assert cell_len(fit_tail(text, width)) == width
    lines = wrap(clean(text), 20, max_lines=3)
    assert all(cell_len(line) <= 20 for line in lines)
    assert len(lines) <= 3


def test_what_is_harmless_stays() -> None:
    for text in ("question/17", "provider/modèle", "日本語", "100 % · ×4 … –"):
        assert clean(text) == text


def hostile_frame() -> Any:
    frame = storm()
    bad = "\x1b[2J[red]\u202e日本\n" * 3
    groups = tuple(replace(group, label=bad, blocked_by=bad) for group in frame.groups)
    ceilings = tuple(
        replace(row, ceiling=msgspec.structs.replace(row.ceiling, resource=bad))
        for row in frame.ceilings
    )
    bars = tuple(replace(bar, task_id=bad, column=bad, error=bad) for bar in frame.bars)
    events = tuple(
        replace(
            row,
            event=msgspec.structs.replace(
                row.event, event_kind=bad, diagnostics={bad: bad, "n": [bad, {bad: 1}]}
            ),
        )
        for row in frame.events
    )
    assert frame.bottleneck is not None
    return replace(
        frame,
        run=msgspec.structs.replace(frame.run, name=bad),
        groups=groups,
        ceilings=ceilings,
        bars=bars,
        events=events,
        notes=(bad,),
        bottleneck=replace(frame.bottleneck, sentence=bad, verdict=bad),
        blame=tuple(replace(share, verdict=bad, resource=bad) for share in frame.blame),
        blame_series=tuple((bad, values) for _, values in frame.blame_series),
        limits=((bad, 3, 4),),
    )


def test_no_screen_lets_a_control_character_through() -> None:
    async def main() -> None:
        app = ConsoleApp(RecordingSession(hostile_frame()), surroundings=STILL)
        async with app.run_test(size=(120, 40)) as pilot:
            for key in ("1", "4", "down", "6", "enter"):
                await pilot.press(key)
                await pilot.pause()
                await app.settle()
                await pilot.pause()
                for strip in app.screen._compositor.render_strips():
                    assert strip.text.isprintable()
                    assert strip.cell_length == 120

    asyncio.run(main())


def test_headless_lines_are_plain() -> None:
    frame = hostile_frame()
    assert status_line(frame).isprintable()
    assert all(line.isprintable() for line in summary(frame).splitlines())
