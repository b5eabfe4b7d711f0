"""A stretch that is marked: what is asked of it, what the pages say of it, and its keys."""

from __future__ import annotations

import pytest

from console.goto import parse_target, resolve
from console.screens.queue import QueueScreen
from console.widgets.blame_bar import BlameBar
from console.widgets.crumbs import MarkedStretch
from console.widgets.header import BottleneckLine
from console.widgets.line_widget import LineWidget
from console.widgets.stacked import BlameOverTime
from console.widgets.timeline import Timeline
from tests.console.driven import Driven, drive
from tests.console.frame_parts import T0
from tests.console.frames import FRAMES


def test_marking_extends_with_the_cursor_and_then_stands() -> None:
    async def test(driven: Driven) -> None:
        at = driven.session.shown.at
        await driven.press("v")
        assert driven.session.wants[-1].stretch == (at, at)
        await driven.press("left", "left")
        moved = driven.session.shown.at
        assert moved < at
        assert driven.session.wants[-1].stretch == (moved, at)
        await driven.press("v", "left")
        assert driven.session.wants[-1].stretch == (moved, at)
        assert "s of it" in driven.text(BlameBar) or "seconds" in driven.text(BlameBar)
        await driven.press("escape")
        assert driven.session.wants[-1].stretch is None
        assert driven.session.wants[-1].until is None

    drive(test, "paused")


def test_which_provider_slowed_the_run_between_two_times_and_by_how_much() -> None:
    """Seven keys."""

    async def test(driven: Driven) -> None:
        await driven.press("g", "4", "0", "-", "6", "0", "enter")
        assert driven.session.wants[-1].stretch == (T0 + 40, T0 + 60)
        assert "0:40.0 to 1:00.0" in driven.text(MarkedStretch)
        assert "cooldown after 429s beta/judge-large/chat 29 % 5.8 s" in driven.text(BlameBar)
        assert "beta" in driven.text(BottleneckLine)

    drive(test, "paused")


def test_every_page_speaks_of_the_stretch() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("g", "4", "0", "-", "6", "0", "enter")
        for key in ("2", "3", "4", "5", "6", "7", "9"):
            await driven.press(key)
            assert driven.session.wants[-1].stretch == (T0 + 40, T0 + 60)
            await driven.settle()  # the line gets its room
            assert "0:40.0 to 1:00.0" in driven.text(MarkedStretch)

    drive(test, "paused")


def test_enter_zooms_and_elsewhere_goes_in() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("g", "4", "0", "-", "6", "0", "enter", "enter")
        want = driven.session.wants[-1]
        assert (want.until, want.span) == (T0 + 60, 20.0)
        await driven.press("escape", "2", "enter")
        assert not isinstance(driven.app.screen, QueueScreen)

    drive(test, "paused")


def test_a_loop_begins_again_at_the_end_of_the_stretch() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("g", "4", "0", "-", "6", "0", "enter")
        assert f"seek_time {T0 + 40:.1f}" in await driven.press("L")
        assert "advance 2" in await driven.tick(2.0)
        driven.session.seek_time(T0 + 61)
        assert f"seek_time {T0 + 40:.1f}" in await driven.tick(1.0)

    drive(test, "paused")


@pytest.mark.parametrize(("key", "widget"), [("1", BlameOverTime), ("4", Timeline)])
def test_the_mouse_draws_a_stretch(key: str, widget: type[LineWidget]) -> None:
    async def test(driven: Driven) -> None:
        await driven.press(key)
        chart = driven.app.screen.query_one(widget)
        expected = chart.time_at(30), chart.time_at(40)
        await driven.pilot.mouse_down(widget, offset=(40, 4))
        await driven.pilot.mouse_up(widget, offset=(30, 4))
        await driven.settle()
        stretch = driven.session.wants[-1].stretch
        assert stretch is not None
        assert stretch == pytest.approx(expected)
        if key == "4":
            timeline = driven.app.screen.query_one(Timeline)
            assert timeline.selected is None

    drive(test, "paused")


@pytest.mark.parametrize("text", ["40-60", "0:40-1:00"])
def test_a_stretch_is_written_as_two_times(text: str) -> None:
    target = parse_target(text)
    assert target is not None
    place = resolve(target, FRAMES["paused"]())
    assert not isinstance(place, str)
    assert place.time == T0 + 60


@pytest.mark.parametrize("text", ["40-", "60-40", "-", "40-x", "#4-#5"])
def test_what_is_no_stretch_is_refused(text: str) -> None:
    target = parse_target(text)
    assert target is None or isinstance(resolve(target, FRAMES["paused"]()), str)
