"""Going from a row into what it is about, and back."""

from __future__ import annotations

import pytest

from console.app import ConsoleApp
from console.screens.call_page import CallScreen
from console.screens.drill import DrillScreen
from console.screens.events import EventsScreen
from console.screens.leases import LeasesScreen
from console.screens.queue import QueueScreen
from console.screens.stalls import StallsScreen
from console.screens.task_list import TasksScreen
from console.screens.task_page import TaskScreen
from console.widgets.blame_bar import BlameBar
from console.widgets.crumbs import Crumbs
from console.widgets.group_table import GroupTable
from console.widgets.select_table import FactList, SelectTable
from replay.playback.focus import CallFocus, TaskFocus, TasksFocus
from tests.console.driven import Driven, drive


def drilled(driven: Driven) -> DrillScreen:
    screen = driven.app.screen
    assert isinstance(screen, DrillScreen)
    return screen


def test_from_a_group_to_a_task_to_its_call_and_back() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("2", "down", "enter")
        tasks = drilled(driven)
        assert isinstance(tasks, TasksScreen)
        assert isinstance(tasks.focus_on, TasksFocus)
        assert driven.session.wants[-1].focus == tasks.focus_on
        assert "critique/0" in driven.text(SelectTable)
        await driven.press("down", "enter")
        task = drilled(driven)
        assert isinstance(task, TaskScreen)
        assert task.focus_on == TaskFocus("critique/1")
        assert "cooldown after 429s 5.0 s" in driven.text(SelectTable)
        assert "cooldown after 429s 9.0 s" in driven.text(FactList)
        await driven.press("up", "up", "enter")
        call = drilled(driven)
        assert isinstance(call, CallScreen)
        assert call.focus_on == CallFocus("a71")
        assert "6.2 s from 1:04.4" in driven.text(FactList)
        assert "› critique/1 › call a71" in driven.text(Crumbs)
        await driven.press("c")
        assert drilled(driven).focus_on == TaskFocus("critique/17")
        for kind in (CallScreen, TaskScreen, TasksScreen, QueueScreen):
            await driven.press("escape")
            assert isinstance(driven.app.screen, kind)

    drive(test)


def test_a_digit_leaves_all_that_was_entered() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("2", "enter", "enter", "6")
        assert isinstance(driven.app.screen, EventsScreen)
        assert not any(isinstance(screen, DrillScreen) for screen in driven.app.screen_stack)

    drive(test)


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 60)])
def test_the_selected_lease_shows_its_task_and_its_row(size: tuple[int, int]) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("4", "down", "enter")
        assert isinstance(drilled(driven), TaskScreen)
        await driven.press("r")
        assert drilled(driven).focus_on == TasksFocus(row=17)
        await driven.press("escape", "tab", "enter")
        assert isinstance(driven.app.screen, EventsScreen)

    drive(test, size=size)


def test_a_step_without_a_call_shows_its_moment_on_the_timeline() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("4", "down", "enter", "pageup")
        calls = await driven.press("enter")
        assert calls == ["hold", "seek_time 1060.0"]
        assert isinstance(driven.app.screen, LeasesScreen)

    drive(test)


def test_an_event_leads_to_what_it_is_about() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("6", "enter", "enter")
        assert isinstance(driven.app.screen, DrillScreen)

    drive(test)


def test_an_error_leads_to_the_tasks_that_met_it() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("9", "enter")
        focus = drilled(driven).focus_on
        assert isinstance(focus, TasksFocus)
        assert focus.failure is not None

    drive(test)


def test_the_row_of_a_number_in_five_keys() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("g", "r", "1", "7", "enter")
        assert drilled(driven).focus_on == TasksFocus(row=17)
        app = driven.app
        assert isinstance(app, ConsoleApp)
        assert app.view_command.endswith("--open row:17")

    drive(test, "paused")


def test_the_largest_loss_leads_to_its_stalls() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("1", "enter")
        page = driven.app.screen
        assert isinstance(page, StallsScreen)
        assert page.filter_text == "verdict:request_cooldown"

    drive(test)


def test_a_click_goes_into_a_group_and_into_a_part_of_the_blame() -> None:
    async def test(driven: Driven) -> None:
        await driven.pilot.click(GroupTable, offset=(4, 5))
        await driven.settle()
        assert drilled(driven).focus_on == TasksFocus(group=driven.session.shown.groups[3].key)
        await driven.press("escape")
        bar = driven.app.screen.query_one(BlameBar)
        await driven.pilot.click(BlameBar, offset=(bar.size.width // 2, 1))
        await driven.settle()
        page = driven.app.screen
        assert isinstance(page, StallsScreen)
        assert page.filter_text == "verdict:request_cooldown"

    drive(test)


def test_the_palette_knows_what_the_run_has() -> None:
    async def test(driven: Driven) -> None:
        app = driven.app
        assert isinstance(app, ConsoleApp)
        commands = {
            command.title: command.callback for command in app.get_system_commands(app.screen)
        }
        assert "Stalls about beta/judge-large/chat" in commands
        commands["Tasks of critique"]()
        await driven.settle()
        assert isinstance(driven.app.screen, TasksScreen)

    drive(test)
