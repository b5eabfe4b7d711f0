"""Everyday questions of an operator: keys that answer them, counted, and what is read then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from console.app import ConsoleApp
from console.outcome import OpenRun
from console.screens.capacity import CapacityScreen
from console.screens.compare import CompareScreen
from console.screens.questions import ConfirmDialog
from console.screens.runs import RunsScreen
from console.screens.spending_page import SpendingScreen
from console.screens.task_list import TasksScreen
from console.widgets.blame_bar import BlameBar
from console.widgets.ceilings import CeilingPanel
from console.widgets.crumbs import MarkedStretch
from console.widgets.event_table import EventTable
from console.widgets.header import Header
from console.widgets.select_table import FactList, SelectTable
from console.widgets.timeline import Timeline
from tests.console.driven import Driven, drive
from tests.console.frame_parts import BETA
from tests.console.run_entries import Deeds


class Answered:
    """Presses keys within a budget."""

    def __init__(self, driven: Driven, budget: int) -> None:
        self.driven = driven
        self._left = budget

    async def press(self, *keys: str) -> list[str]:
        self._left -= len(keys)
        assert self._left >= 0, "more keys than the question may cost"
        return await self.driven.press(*keys)


def test_which_provider_slowed_the_run_between_two_times_and_by_how_many_seconds() -> None:
    async def test(driven: Driven) -> None:
        await Answered(driven, 8).press("g", *"40-60", "enter")
        assert "0:40.0 to 1:00.0" in driven.text(MarkedStretch)
        assert "cooldown after 429s beta/judge-large/chat 29 % 5.8 s" in driven.text(BlameBar)

    drive(test, "paused")


def test_tasks_of_one_column_that_waited_for_more_than_two_seconds() -> None:
    """The column and the wait, as short as the language lets one write them."""

    async def test(driven: Driven) -> None:
        await Answered(driven, 20).press("4", "slash", *"critique wait>2", "enter")
        assert driven.app.page is not None
        bars = driven.app.page.query_one(Timeline).bars
        assert all(bar.column == "critique" for bar in bars)
        waits = [bar.start - bar.enqueued_at for bar in bars if bar.enqueued_at is not None]
        assert all(wait > 2 for wait in waits)

    drive(test)


def test_what_changed_since_yesterday() -> None:
    async def test(driven: Driven) -> None:
        keys = Answered(driven, 6)
        await keys.press("0")
        runs = driven.app.screen
        assert isinstance(runs, RunsScreen)
        await runs.loaded.wait()
        await keys.press("down", "space", "down", "space")
        for _ in range(100):
            if isinstance(driven.app.screen, CompareScreen):
                break
            await driven.pilot.pause()
        assert isinstance(driven.app.screen, CompareScreen)

    drive(test, run_actions=Deeds().actions())


def test_when_it_will_finish_and_how_sure_that_is() -> None:
    async def test(driven: Driven) -> None:
        assert "ETA 1:57" in driven.text(Header)
        shown = replace(driven.session.shown, eta_error_seconds=12.0)
        driven.session.shown, driven.session.changed = shown, True
        await driven.tick(1.0)
        assert "ETA 1:57 ± 0:12" in driven.text(Header)

    drive(test)


def test_which_429_caused_a_cooldown_and_what_the_ceiling_did_then() -> None:
    async def test(driven: Driven) -> None:
        keys = Answered(driven, 5)
        await keys.press("3", "down")
        assert "rate limited" in driven.text(FactList)
        assert "→" in driven.text(FactList)
        assert "seek_ordinal 15702" in await keys.press("enter")
        assert driven.app.screen.query_one(EventTable).display

    drive(test)


def test_one_row_and_its_life() -> None:
    async def test(driven: Driven) -> None:
        keys = Answered(driven, 8)
        await keys.press("g", *"r17", "enter")
        assert isinstance(driven.app.screen, TasksScreen)
        await keys.press("enter")
        assert "waiting to call" in driven.text(SelectTable)

    drive(test, "paused")


def test_settings_and_where_they_come_from() -> None:
    async def test(driven: Driven) -> None:
        await Answered(driven, 1).press("7")
        assert isinstance(driven.app.screen, CapacityScreen)
        assert "source" in driven.text(SelectTable)

    drive(test)


def test_send_what_is_seen(tmp_path: Path) -> None:
    async def test(driven: Driven) -> None:
        await Answered(driven, 1).press("y")

    drive(test, "paused", copies=tmp_path)
    assert (tmp_path / "copied.txt").read_text("utf-8").startswith("headgate replay ")


def test_a_run_of_last_week() -> None:
    async def test(driven: Driven) -> None:
        keys = Answered(driven, 10)
        await keys.press("0")
        runs = driven.app.screen
        assert isinstance(runs, RunsScreen)
        await runs.loaded.wait()
        await keys.press("slash", *"judge", "enter")
        await keys.press("enter")
        assert isinstance(driven.app.return_value, OpenRun)

    drive(test, run_actions=Deeds().actions())


def test_the_deepest_queue() -> None:
    async def test(driven: Driven) -> None:
        await Answered(driven, 3).press("2", "s", "s")
        table = driven.app.screen.query_one(SelectTable)
        deepest = max(driven.session.shown.groups, key=lambda group: group.queued)
        assert table._rows[0].key == deepest.key

    drive(test)


def test_two_ceilings_over_time() -> None:
    async def test(driven: Driven) -> None:
        keys = Answered(driven, 2)
        text = driven.text(CeilingPanel)
        assert BETA in text
        assert "alpha/gen-8b/chat" in text
        await keys.press("3")

    drive(test)


def test_stop_a_run_that_was_left() -> None:
    deeds = Deeds()

    async def test(driven: Driven) -> None:
        keys = Answered(driven, 4)
        await keys.press("0")
        runs = driven.app.screen
        assert isinstance(runs, RunsScreen)
        await runs.loaded.wait()
        await keys.press("s")
        assert isinstance(driven.app.screen, ConfirmDialog)
        await keys.press("y")
        assert deeds.calls == ["stop support-1"]

    drive(test, run_actions=deeds.actions())


def test_the_next_error() -> None:
    async def test(driven: Driven) -> None:
        keys = Answered(driven, 3)
        await keys.press("9")
        (call,) = [call for call in await keys.press("n") if call.startswith("seek_match 1")]
        assert "reason" in call
        app = driven.app
        assert isinstance(app, ConsoleApp)
        assert app.page is not None

    drive(test, "paused")


def test_tokens_that_retries_took() -> None:
    async def test(driven: Driven) -> None:
        await Answered(driven, 3).press("9", "c")
        assert isinstance(driven.app.screen, SpendingScreen)
        shown = driven.text(SelectTable)
        assert "61,300 (6 %) for nothing" in shown
        assert "critique" in shown

    drive(test)
