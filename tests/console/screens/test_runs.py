"""The list of runs: what it shows, what its keys do, and that a thousand runs are no burden."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.worker import WorkerCancelled

from console.outcome import OpenRun
from console.runs_app import RunsApp
from console.screens.compare import CompareScreen
from console.screens.questions import ConfirmDialog, FilterDialog
from console.screens.runs import RunsScreen
from console.widgets.pages import Pages
from console.widgets.run_list import RunDetail, RunList
from tests.console.driven import Driven, running
from tests.console.run_entries import RUNS, Deeds


@dataclass
class Listed:
    app: RunsApp
    pilot: Pilot[Any]
    deeds: Deeds

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause()
        with suppress(WorkerCancelled):  # by the next of its group
            await self.app.workers.wait_for_complete()
        await self.pilot.pause()

    def text(self, kind: type[RunList | RunDetail]) -> list[str]:
        widget = self.app.page.query_one(kind)
        return [strip.text.rstrip() for strip in widget.render_lines(widget.size.region)]

    @property
    def names(self) -> list[str]:
        return [entry.path.name for entry in self.app.page.query_one(RunList).entries]


@asynccontextmanager
async def listed(size: tuple[int, int], deeds: Deeds | None = None) -> AsyncIterator[Listed]:
    deeds = Deeds() if deeds is None else deeds
    app = RunsApp(actions=deeds.actions())
    async with app.run_test(size=size) as pilot:
        await app.page.loaded.wait()
        shown = Listed(app, pilot, deeds)
        await shown.press()
        yield shown


def drive(
    test: Callable[[Listed], Awaitable[None]],
    size: tuple[int, int] = (120, 40),
    deeds: Deeds | None = None,
) -> RunsApp:
    async def main() -> RunsApp:
        async with listed(size, deeds) as shown:
            await test(shown)
        return shown.app

    return asyncio.run(main())


def test_a_line_says_what_a_run_is_and_how_it_ended() -> None:
    async def test(shown: Listed) -> None:
        title, _, live, dropped, *_ = shown.text(RunList)
        assert "1 live, 5" in title
        assert live.split() == [
            *("▸", "support-dialogues", "2026-09-21", "14:10", "live"),
            *("–/1,000", "–", "2:43", "4.3", "MB"),
        ]
        assert "9,988/10,000" in dropped
        assert dropped.split()[-4:] == ["12", "13:32", "61", "MB"]
        await shown.press("down")
        assert (
            "12 rows dropped · most time lost: cooldown after 429s 42 %" in shown.text(RunDetail)[1]
        )
        assert shown.text(RunDetail)[2] == " /data/runs/translations"

    drive(test)


def test_enter_opens_the_run_under_the_cursor() -> None:
    async def test(shown: Listed) -> None:
        await shown.press("down", "enter")

    assert drive(test).return_value == OpenRun(Path("/data/runs/translations"), False)


def test_a_run_whose_folder_is_away_is_not_opened() -> None:
    async def test(shown: Listed) -> None:
        await shown.press("end", "enter")
        assert "Its folder is away: /mnt/away/old" in shown.text(RunDetail)[2]

    assert drive(test).return_value is None


def test_the_list_is_filtered_as_it_is_typed() -> None:
    async def test(shown: Listed) -> None:
        await shown.press("slash", *"dropped>0")
        assert shown.names == ["translations"]
        assert "1 of 5: dropped>0" in shown.text(RunList)[0]
        await shown.press("enter")
        assert not isinstance(shown.app.screen, FilterDialog)
        assert shown.names == ["translations"]
        await shown.press("slash", *" or nothing:")
        assert shown.names == ["translations"]  # a mistake leaves the last filter that was one
        await shown.press("escape")
        assert shown.names == ["translations"]
        await shown.press("escape")
        assert len(shown.names) == len(RUNS)
        await shown.press("slash", *"support", "enter")
        assert shown.names == ["support-1", "support-0"]

    drive(test)


def test_a_new_run_does_not_move_the_cursor() -> None:
    async def test(shown: Listed) -> None:
        await shown.press("down", "down")
        shown.deeds.entries.insert(0, replace(RUNS[0], path=Path("/data/runs/new"), name="new"))
        await shown.app.page.reload()
        entry = shown.app.page.query_one(RunList).at_cursor()
        assert entry is not None
        assert entry.path.name == "support-0"

    drive(test)


def test_two_marked_runs_are_compared() -> None:
    async def test(shown: Listed) -> None:
        await shown.press("down", "space", "c")
        assert "Mark two runs" in shown.text(RunDetail)[2]
        await shown.press("down", "space")
        assert shown.deeds.calls == ["compare translations support-0"]
        compared = shown.app.screen
        assert isinstance(compared, CompareScreen)
        text = page_text(compared)
        first = text.index("rows a second")
        assert text.index("Outcome") < first < text.index("Where capacity went")
        assert "12 → 16" in text
        await shown.press("p", "w", "pagedown")
        assert "by progress" in page_text(compared)
        await shown.press("escape")
        assert isinstance(shown.app.screen, RunsScreen)

    drive(test)


def page_text(screen: CompareScreen) -> str:
    pages = screen.query_one(Pages)
    return "\n".join(strip.text for strip in pages.render_lines(pages.size.region))


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (200, 60)])
def test_a_comparison_fits_every_size(size: tuple[int, int]) -> None:
    async def test(shown: Listed) -> None:
        await shown.press("down", "space", "down", "space", "pagedown", "end", "home")
        compared = shown.app.screen
        assert isinstance(compared, CompareScreen)
        assert "support-dialogues" in page_text(compared)

    drive(test, size=size)


@pytest.mark.parametrize(
    ("answer", "calls"), [("y", ["stop support-1"]), ("enter", []), ("escape", [])]
)
def test_a_live_run_is_stopped_after_a_question(answer: str, calls: list[str]) -> None:
    async def test(shown: Listed) -> None:
        await shown.press("s")
        assert isinstance(shown.app.screen, ConfirmDialog)
        await shown.press(answer)
        assert shown.deeds.calls == calls
        await shown.press("down", "s")
        assert "Only a live run can be stopped." in shown.text(RunDetail)[2]

    drive(test)


@pytest.mark.parametrize("answer", ["y", "enter", "n"])
def test_a_run_is_deleted_after_a_question(answer: str) -> None:
    async def test(shown: Listed) -> None:
        await shown.press("d")
        assert "can't be deleted" in shown.text(RunDetail)[2]
        await shown.press("down", "d")
        assert isinstance(shown.app.screen, ConfirmDialog)
        await shown.press(answer)
        assert ("translations" in shown.names) is (answer != "y")

    drive(test)


def test_what_can_not_be_done_is_said() -> None:
    async def test(shown: Listed) -> None:
        shown.deeds.refuses = "it belongs to another user"
        await shown.press("s", "y")
        assert "it belongs to another user" in shown.text(RunDetail)[2]

    drive(test)


def test_a_thousand_runs_are_moved_through_and_filtered_at_once() -> None:
    many = [
        replace(RUNS[1], path=Path(f"/data/{nth}"), name=f"run-{nth}", run_id=f"id-{nth}")
        for nth in range(1000)
    ]

    async def test(shown: Listed) -> None:
        started = time.process_time()
        for _ in range(50):
            shown.app.page.action_move(1)
        moved = (time.process_time() - started) / 50
        started = time.process_time()
        shown.app.page._apply_filter("run-99 or row")
        filtered = time.process_time() - started
        assert len(shown.names) == 11
        assert moved < 0.02
        assert filtered < 0.25

    drive(test, deeds=Deeds(many))


@pytest.mark.parametrize("size", [(40, 10), (41, 11), (80, 12), (30, 8)])
def test_every_key_at_the_smallest_sizes(size: tuple[int, int]) -> None:
    async def test(shown: Listed) -> None:
        await shown.press("down", "space", "pagedown", "pageup", "end", "home", "s", "escape")
        await shown.press("question_mark", "escape", "slash", "x", "escape", "d")
        assert shown.names

    drive(test, size)


def test_inside_a_script_s_run_its_runs_are_on_a_key() -> None:
    async def main() -> None:
        its_runs = list(RUNS[1:3])
        actions = Deeds().actions()
        async with running("storm", run_actions=actions, script_runs=lambda: its_runs) as driven:
            await driven.pilot.press("R")
            await driven.pilot.pause()
            assert isinstance(driven.app.screen, RunsScreen)
            await driven.app.screen.loaded.wait()
            await driven.pilot.pause()
            listed = driven.text(RunList)
            assert "Runs of this script" in listed
            assert "translations" in listed
            assert "judge-eval" not in listed
            await driven.pilot.press("down", "enter")
            await driven.pilot.pause()
            assert driven.app.return_value == OpenRun(Path("/data/runs/support-0"), False)

    asyncio.run(main())


def test_without_a_script_the_key_does_nothing() -> None:
    async def main() -> None:
        async with running("storm", run_actions=Deeds().actions()) as driven:
            await driven.press("R")
            assert driven.app.screen is driven.app.page

    asyncio.run(main())


def test_inside_a_run_0_opens_the_list_and_enter_leaves_for_another() -> None:
    async def main() -> None:
        async with running("storm", run_actions=Deeds().actions()) as driven:
            await leave(driven)
            assert driven.app.return_value == OpenRun(Path("/data/runs/translations"), False)

    async def leave(driven: Driven) -> None:
        for key in ("0", "escape", "0"):
            await driven.pilot.press(key)
            await driven.pilot.pause()
            if isinstance(driven.app.screen, RunsScreen):
                await driven.app.screen.loaded.wait()
                await driven.pilot.pause()
        await driven.pilot.press("down", "enter")
        await driven.pilot.pause()

    asyncio.run(main())
