"""Keys of every screen: pages, help, palette, colours, the footer, and how the console is left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from console.controls import GENERAL, LISTS, RANGE, SCREENS, SHARE, TIME
from console.screens.base import FrameScreen
from console.screens.call_page import CallScreen
from console.screens.capacity import CapacityScreen
from console.screens.ceilings import CeilingsScreen
from console.screens.dialogs import QuitDialog
from console.screens.errors import ErrorsScreen
from console.screens.events import EventsScreen
from console.screens.help import HelpScreen, help_lines
from console.screens.leases import LeasesScreen
from console.screens.overview import OverviewScreen
from console.screens.queue import QueueScreen
from console.screens.spending_page import SpendingScreen
from console.screens.stalls import StallsScreen
from console.screens.task_list import TasksScreen
from console.screens.task_page import TaskScreen
from console.widgets.ceilings import CeilingPanel
from console.widgets.header import Footer, Header
from replay.sources.base import SourceError
from tests.console.driven import Driven, drive, running
from tests.console.frame_parts import T0

KEYS = [control.keys for control in SCREENS if control.action.startswith("app.go")]


def test_digits_switch_screens() -> None:
    async def test(driven: Driven) -> None:
        assert isinstance(driven.app.screen, OverviewScreen)
        for key, screen in (("4", LeasesScreen), ("6", EventsScreen), ("1", OverviewScreen)):
            await driven.press(key)
            assert isinstance(driven.app.screen, screen)

    drive(test)


def test_each_screen_wants_only_what_it_shows() -> None:
    async def test(driven: Driven) -> None:
        overview = driven.session.wants[-1]
        await driven.press("4")
        leases = driven.session.wants[-1]
        await driven.press("6")
        events = driven.session.wants[-1]
        assert (overview.bars, overview.events) == (0, 0)
        assert leases.bars > 0
        assert leases.events == 0
        assert events.bars == 0
        assert events.events > 20
        assert events.events_after > 20

    drive(test)


@pytest.mark.parametrize("page", ["1", "4"])
def test_a_frame_that_outgrows_its_window_is_asked_for_again(page: str) -> None:
    async def test(driven: Driven) -> None:
        await driven.press(page)
        driven.session.shown = replace(driven.session.shown, at=T0 + 11.0)
        driven.session.changed = True
        await driven.tick(1.0)
        assert 15.0 <= driven.session.wants[-1].span < 16.0
        if page == "1":
            assert "last 15 s" in driven.text(CeilingPanel)

    drive(test)


def test_help_lists_every_key_of_the_screen() -> None:
    async def test(driven: Driven) -> None:
        for key in KEYS:
            await driven.press(key)
            page = driven.app.page
            assert page is not None
            await driven.press("question_mark")
            assert isinstance(driven.app.screen, HelpScreen)
            lines = help_lines(driven.app.appearance, page.page_name, page.controls)
            shown = "\n".join("".join(text for text, _ in line) for line in lines)
            own = {control.keys for control in page.controls}
            for control in (*page.controls, *SCREENS, *TIME, *GENERAL):
                overridden = control in TIME and control.keys in own
                assert (control.help in shown) is not overridden
            await driven.press("pagedown", "down", "up", "pageup", "escape")
            assert isinstance(driven.app.screen, type(page))

    drive(test)


@pytest.mark.parametrize(
    "screen",
    [
        OverviewScreen,
        QueueScreen,
        CeilingsScreen,
        LeasesScreen,
        StallsScreen,
        EventsScreen,
        CapacityScreen,
        ErrorsScreen,
        TasksScreen,
        TaskScreen,
        CallScreen,
        SpendingScreen,
    ],
)
def test_every_binding_of_a_screen_is_declared_once(screen: type[FrameScreen]) -> None:
    """A page may put another meaning in place of a key of time, as a whole."""
    own = {control.keys for control in screen.controls}
    time = [control for control in TIME if control.keys not in own]
    keys = [
        key
        for control in (*screen.controls, *LISTS, *SCREENS, *time, *RANGE[:1], *SHARE, *GENERAL)
        for key in control.keys.split(",")
    ]
    assert len(keys) == len(set(keys))


def test_palette_offers_the_commands() -> None:
    async def test(driven: Driven) -> None:
        titles = {command.title for command in driven.app.get_system_commands(driven.app.screen)}
        assert {control.help for control in TIME if control.command} <= titles
        await driven.press("ctrl+p")
        assert type(driven.app.screen).__name__ == "CommandPalette"
        await driven.press("escape")

    drive(test)


def test_dark_and_light() -> None:
    async def test(driven: Driven) -> None:
        dark = driven.app.appearance.palette["text"]
        await driven.press("t")
        assert driven.app.appearance.palette["text"] != dark
        assert driven.app.theme == "headgate-light"
        await driven.press("t")
        assert driven.app.appearance.palette["text"] == dark

    drive(test)


def test_a_click_in_the_footer() -> None:
    async def test(driven: Driven) -> None:
        x = driven.text(Footer).index("4")
        await driven.pilot.click(Footer, offset=(x, 0))
        await driven.settle()
        assert isinstance(driven.app.screen, LeasesScreen)

    drive(test)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (120, 40)])
@pytest.mark.parametrize("page", KEYS)
def test_the_footer_always_says_how_to_get_help_and_out(page: str, size: tuple[int, int]) -> None:
    async def test(driven: Driven) -> None:
        await driven.press(page)
        said = driven.text(Footer)
        assert "? help" in said
        assert "q quit" in said
        digits = said.partition("│")[0]
        assert all(control.shown in digits for control in (*LISTS, *SCREENS))

    drive(test, size=size)


def test_quit_without_a_question() -> None:
    async def main() -> None:
        async with running("storm") as driven:
            await driven.pilot.press("q")
            await driven.pilot.pause()
            assert driven.app.return_value == "quit"

    asyncio.run(main())


@pytest.mark.parametrize(("key", "outcome"), [("enter", "quit"), ("s", "stop"), ("escape", None)])
def test_quit_asks_while_our_run_lives(key: str, outcome: str | None) -> None:
    async def main() -> None:
        async with running("storm", on_quit="ask") as driven:
            await driven.press("q")
            assert isinstance(driven.app.screen, QuitDialog)
            await driven.pilot.press(key)
            await driven.pilot.pause()
            assert driven.app.return_value == outcome

    asyncio.run(main())


def test_the_question_goes_when_the_run_ends_unanswered() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("q")
        assert isinstance(driven.app.screen, QuitDialog)
        driven.session.shown = replace(driven.session.shown, liveness="ended")
        driven.session.changed = True
        await driven.tick(0.25)
        assert isinstance(driven.app.screen, OverviewScreen)
        assert driven.app.is_running

    drive(test, on_quit="ask")


def test_quit_does_not_ask_when_the_run_is_over() -> None:
    async def main() -> None:
        async with running("ended", on_quit="ask") as driven:
            await driven.pilot.press("q")
            await driven.pilot.pause()
            assert driven.app.return_value == "quit"

    asyncio.run(main())


def test_too_small_and_large_again() -> None:
    async def test(driven: Driven) -> None:
        await driven.pilot.resize_terminal(30, 8)
        await driven.settle()
        assert not driven.app.screen.query_one(Header).display
        await driven.pilot.resize_terminal(80, 24)
        await driven.settle()
        assert driven.app.screen.query_one(Header).display
        assert "LIVE" in driven.text(Header)

    drive(test)


def test_a_source_that_breaks_is_said_and_the_screen_stays() -> None:
    async def test(driven: Driven) -> None:
        driven.session.failure = SourceError("The recording is damaged after event 15,710.", 4)
        await driven.tick(0.25)
        screen = "\n".join(strip.text for strip in driven.app.screen._compositor.render_strips())
        assert "The recording is damaged after event 15,710." in screen
        assert "Request ceilings" in screen

    drive(test)


def test_a_bug_ends_the_app_and_is_kept_for_the_caller() -> None:
    async def main() -> None:
        async with running("storm") as driven:
            driven.session.failure = KeyError("broken")
            driven.app.request_frame()
            await driven.pilot.pause()
            await driven.app.settle()
        assert isinstance(driven.app.failure, KeyError)

    asyncio.run(main())


def test_a_frame_that_comes_while_the_console_is_left_is_no_failure() -> None:
    async def test(driven: Driven) -> None:
        app = driven.app

        async def late(*_: object) -> object:
            app.exit("quit")
            app._screen_stacks[app._current_mode].clear()  # as the app does while it ends
            return driven.session.shown

        app._session_thread.turn = late  # type: ignore[method-assign, assignment]
        app.request_frame()
        await app.settle()
        assert app.failure is None

    drive(test)
