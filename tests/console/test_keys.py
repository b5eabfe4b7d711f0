"""Each key, pressed in the running app, on a session that writes down what is asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from textual.events import Key
from textual.pilot import Pilot

from console.app import ConsoleApp
from console.controls import GENERAL, SCREENS, TIME
from console.screens.dialogs import GoToDialog, QuitDialog, parse_target
from console.screens.event_detail import EventDetail
from console.screens.events import EventsScreen
from console.screens.help import HelpScreen, help_lines
from console.screens.leases import LeasesScreen
from console.screens.overview import OverviewScreen
from console.screens.stalls import StallsScreen
from console.widgets.ceilings import CeilingPanel
from console.widgets.event_table import EventTable
from console.widgets.group_table import GroupTable
from console.widgets.header import BottleneckLine, Footer, Header
from console.widgets.stall_list import StallDetail, StallList
from console.widgets.timeline import Timeline
from replay.sources.base import SourceError
from tests.console.frames import FRAMES, T0
from tests.console.session_double import RecordingSession


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Driven:
    """A running app with what tests look at."""

    app: ConsoleApp
    session: RecordingSession
    pilot: Pilot[Any]
    clock: Clock

    async def press(self, *keys: str) -> list[str]:
        """What the session was asked for by these keys."""
        before = len(self.session.calls)
        for key in keys:
            await self.pilot.press(key)
            await self.settle()
        return self.session.calls[before:]

    async def settle(self) -> None:
        await self.pilot.pause()
        await self.app.settle()
        await self.pilot.pause()

    async def tick(self, seconds: float) -> list[str]:
        before = len(self.session.calls)
        self.clock.now += seconds
        self.app.ask_frame()
        await self.settle()
        return self.session.calls[before:]

    def text(self, widget: type[Any]) -> str:
        found = self.app.screen.query_one(widget)
        return "\n".join(strip.text for strip in found.render_lines(found.size.region))


@asynccontextmanager
async def running(
    name: str, size: tuple[int, int] = (120, 40), **options: Any
) -> AsyncIterator[Driven]:
    session = RecordingSession(FRAMES[name]())
    clock = Clock()
    app = ConsoleApp(session, tick_seconds=None, clock=clock, **options)
    async with app.run_test(size=size) as pilot:
        driven = Driven(app, session, pilot, clock)
        await driven.settle()
        yield driven


def drive(test: Callable[[Driven], Any], name: str = "storm", **options: Any) -> None:
    async def main() -> None:
        async with running(name, **options) as driven:
            await test(driven)

    asyncio.run(main())


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


def test_a_live_run_is_followed_from_the_start() -> None:
    async def test(driven: Driven) -> None:
        assert driven.session.calls == ["follow"]
        assert "LIVE" in driven.text(Header)

    drive(test)


def test_space_holds_a_live_run_and_lets_it_go_on() -> None:
    async def test(driven: Driven) -> None:
        assert await driven.press("space") == ["hold"]
        driven.session.shown = replace(driven.session.shown, last_ordinal=16_000)
        driven.session.changed = True
        await driven.tick(1.0)
        header = driven.text(Header)
        assert "PAUSED" in header
        assert "+290 since" in header
        assert await driven.press("space") == ["follow"]

    drive(test)


def test_brackets_step_by_one_event() -> None:
    async def test(driven: Driven) -> None:
        assert await driven.press("left_square_bracket") == ["hold", "step -1"]
        assert await driven.press("right_square_bracket") == ["hold", "step 1"]

    drive(test)


def test_after_a_step_space_plays_from_there() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("left_square_bracket")
        assert await driven.press("space") == ["hold"]
        assert await driven.tick(0.25) == ["advance 0.25"]
        assert "REPLAY ×1" in driven.text(Header)
        assert await driven.press("space") == ["hold"]
        assert await driven.tick(0.25) == []

    drive(test, "replaying")


def test_speed_keys() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("space", "greater_than_sign", "greater_than_sign")
        assert "REPLAY ×4" in driven.text(Header)
        assert await driven.tick(0.5) == ["advance 2"]
        await driven.press(*["less_than_sign"] * 6)
        assert "REPLAY ×¼" in driven.text(Header)
        assert await driven.tick(1.0) == ["advance 0.25"]
        await driven.press(*["greater_than_sign"] * 12)
        assert "REPLAY max" in driven.text(Header)
        assert await driven.tick(1.0) == ["advance 128"]

    drive(test, "replaying")


def test_playing_stops_at_the_end_of_a_recording() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("space")
        driven.session.shown = replace(driven.session.shown, ordinal=31_402)
        await driven.tick(0.25)
        assert "ENDED" in driven.text(Header)
        assert await driven.tick(0.25) == []

    drive(test, "replaying")


def test_a_replay_begins_to_play_at_the_first_event() -> None:
    async def test(driven: Driven) -> None:
        assert driven.session.calls[0] == "seek_ordinal 1"
        assert await driven.tick(0.25) == ["advance 0.25"]

    drive(test, "replaying", follow=False)


def test_what_is_still_being_read_does_not_end_the_replay() -> None:
    async def test(driven: Driven) -> None:
        driven.session.shown = replace(driven.session.shown, ordinal=31_402, recorded=False)
        driven.session.left_to_read = 3
        await driven.tick(0.25)
        assert driven.session.left_to_read == 0
        assert driven.session.calls.count("advance 0.25") >= 1

    drive(test, "replaying", follow=False)


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        (("home",), ["hold", "seek_ordinal 1"]),
        (("end",), ["follow"]),
        (("f",), ["follow"]),
    ],
    ids=["home", "end", "f"],
)
def test_ends(keys: tuple[str, ...], asked: list[str]) -> None:
    async def test(driven: Driven) -> None:
        assert await driven.press(*keys) == asked

    drive(test, "replaying")


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("1:23.5", f"seek_time {T0 + 83.5:.1f}"),
        ("+5", f"seek_time {T0 + 89.2:.1f}"),
        ("-5", f"seek_time {T0 + 79.2:.1f}"),
        ("#1234", "seek_ordinal 1234"),
        ("#99999999", "seek_ordinal 31402"),
    ],
)
def test_go_to(typed: str, asked: str) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("g")
        assert isinstance(driven.app.screen, GoToDialog)
        for character in typed:
            await driven.pilot.press(character)
        assert await driven.press("enter") == ["hold", asked]

    drive(test, "replaying")


def test_go_to_refuses_what_is_no_time() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("g", "x")
        assert await driven.press("enter") == []
        assert isinstance(driven.app.screen, GoToDialog)
        assert await driven.press("escape") == []
        assert isinstance(driven.app.screen, OverviewScreen)

    drive(test, "replaying")


def test_targets() -> None:
    for text, field, value in (
        ("83.5", "run_time", 83.5),
        ("1:02:03", "run_time", 3723.0),
        (" +1:00 ", "offset", 60.0),
        ("-0.5", "offset", -0.5),
        ("#1,234", "ordinal", 1234),
    ):
        target = parse_target(text)
        assert target is not None
        assert getattr(target, field) == value
    for text in ("", "abc", "1:2:3:4", "#", "#-1", "#٣", "1e5", "--5"):
        assert parse_target(text) is None


def test_stalls_are_picked_by_what_they_are_and_lead_to_their_moment() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5")
        assert isinstance(driven.app.page, StallsScreen)
        assert "Provider beta asked to slow down" in driven.text(StallDetail)
        await driven.press("down")
        assert "task slots of beta/judge-large" in driven.text(StallDetail)
        first = driven.session.shown.verdicts[0]
        newest = msgspec.structs.replace(first, start=T0 + 80.0)
        driven.session.shown = replace(
            driven.session.shown, verdicts=(newest, *driven.session.shown.verdicts)
        )
        driven.session.changed = True
        await driven.tick(0.25)
        assert "task slots of beta/judge-large" in driven.text(StallDetail)
        assert "\x1b" not in driven.text(StallList)
        assert await driven.press("enter") == ["hold", f"seek_time {T0 + 31.0:.1f}"]
        assert isinstance(driven.app.page, LeasesScreen)
        await driven.press("5")
        for ordinal in (9801, 9950, 9801):
            assert await driven.press("e") == ["hold", f"seek_ordinal {ordinal}"]
            assert isinstance(driven.app.page, EventsScreen)
            await driven.press("5")

    drive(test, "storm")


def test_the_stall_of_the_moment_is_shown_where_none_was_picked() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5")
        for at, said in ((33.0, "task slots of beta/judge-large"), (20.0, "asked to slow down")):
            driven.session.shown = replace(driven.session.shown, at=T0 + at)
            driven.session.changed = True
            await driven.tick(0.25)
            assert said in driven.text(StallDetail)

    drive(test, "storm")


def test_one_stall_in_words_has_room_in_the_smallest_terminal() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5")
        rows = driven.session.shown.verdicts
        for verdicts in (rows, rows * 20):
            driven.session.shown = replace(driven.session.shown, verdicts=verdicts)
            driven.session.changed = True
            await driven.tick(0.25)
            detail = driven.text(StallDetail)
            assert "429s: from 0:39.2 to 1:24.0" in detail
            assert "needs 1 more, 0 free of 9; 23 in line, longest verdict of row 17" in detail
            assert detail.rstrip().endswith("where the provider names no wait.")
            assert "0:39.2" in driven.text(StallList)

    drive(test, "storm", size=(80, 24))


def test_the_stall_before_and_after() -> None:
    async def test(driven: Driven) -> None:
        assert await driven.press("left_curly_bracket") == ["hold", "seek_stall -1"]
        assert await driven.press("right_curly_bracket") == ["hold", "seek_stall 1"]

    drive(test)


def test_help_lists_every_key_of_the_screen() -> None:
    async def test(driven: Driven) -> None:
        for key in ("1", "4", "5", "6"):
            await driven.press(key)
            page = driven.app.page
            assert page is not None
            await driven.press("question_mark")
            assert isinstance(driven.app.screen, HelpScreen)
            lines = help_lines(driven.app.appearance, page.name_shown, page.controls)
            shown = "\n".join("".join(text for text, _ in line) for line in lines)
            for control in (*page.controls, *SCREENS, *TIME, *GENERAL):
                assert control.help in shown
            await driven.press("pagedown", "down", "up", "pageup", "escape")
            assert isinstance(driven.app.screen, type(page))

    drive(test)


def test_every_binding_of_a_screen_is_declared_once() -> None:
    for screen in (OverviewScreen, LeasesScreen, StallsScreen, EventsScreen):
        keys = [
            key
            for control in (*screen.controls, *SCREENS, *TIME, *GENERAL)
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


def test_overview_spans() -> None:
    async def test(driven: Driven) -> None:
        assert driven.session.wants[-1].span == 60
        await driven.press("plus")
        assert driven.session.wants[-1].span == 30
        await driven.press("minus", "minus")
        assert driven.session.wants[-1].span == 85

    drive(test)


def test_leases_zoom_and_pan() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("4")
        timeline = driven.app.screen.query_one(Timeline)
        at = driven.session.shown.at
        assert timeline.span == 30
        await driven.press("plus")
        assert timeline.span == 15
        await driven.press("minus", "minus")
        assert timeline.span == 60
        await driven.press("left")
        assert timeline.right == pytest.approx(at - 15)
        assert driven.session.wants[-1].span >= 60 + 14
        await driven.press("right")
        assert timeline.right is None
        await driven.press("0")
        assert timeline.span == pytest.approx(84.2 * 1.05)

    drive(test)


def test_leases_selection_and_lanes() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("4", "down")
        timeline = driven.app.screen.query_one(Timeline)
        first = timeline.selected
        assert first is not None
        await driven.press("down")
        second = timeline.selected
        assert second != first
        await driven.press("up")
        assert timeline.selected is not None
        await driven.press("comma")
        before = timeline.bar(timeline.selected)
        await driven.press("full_stop")
        after = timeline.bar(timeline.selected)
        assert before is not None
        assert after is not None
        assert before.start < after.start
        kept = timeline.selected
        for mode in ("packed", "lease", "column"):
            await driven.press("l")
            assert timeline.mode == mode
            assert timeline.selected == kept
        await driven.press("pagedown", "pageup")
        assert await driven.press("enter") == ["hold", f"seek_time {after.start:.1f}"]
        await driven.press("escape")
        assert timeline.selected is None

    drive(test)


def test_a_click_selects_a_lease() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("4")
        timeline = driven.app.screen.query_one(Timeline)
        lines = [strip.text for strip in timeline.render_lines(timeline.size.region)]
        y = next(i for i, line in enumerate(lines) if i > 2 and "▆▆▆" in line)
        await driven.pilot.click(Timeline, offset=(lines[y].index("▆▆▆") + 1, y))
        await driven.settle()
        assert timeline.selected is not None

    drive(test)


def test_lanes_stay_where_they_are_as_time_goes_on() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("4")
        timeline = driven.app.screen.query_one(Timeline)
        lane_of = {b.lease_id: i for i, lane in enumerate(timeline._lanes) for b in lane.bars}
        shown = driven.session.shown
        driven.session.shown = replace(shown, at=shown.at + 4, bars=shown.bars[30:])
        driven.session.changed = True
        await driven.tick(0.25)
        number = {label: i for i, label in enumerate(lane.label for lane in timeline._lanes)}
        assert number["question"] > 0
        later = {b.lease_id: i for i, lane in enumerate(timeline._lanes) for b in lane.bars}
        same = [later[key] - lane_of[key] for key in later]
        assert len(set(same)) <= 5

    drive(test)


def test_events_move_the_cursor() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("6")
        table = driven.app.screen.query_one(EventTable)
        assert await driven.press("up") == ["hold", "step -1"]
        row = table.at_cursor()
        assert row is not None
        assert row.ordinal == 15_709
        assert await driven.press("down") == ["hold", "step 1"]
        page = table.lines
        assert await driven.press("pageup") == ["hold", f"step {-page}"]
        assert await driven.press("pagedown") == ["hold", f"step {page}"]

    drive(test, "replaying")


def test_a_step_moves_the_marked_line_and_not_the_table() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("6")

        def marked() -> tuple[int, str]:
            lines = driven.text(EventTable).splitlines()
            return next((i, line) for i, line in enumerate(lines) if line.startswith("▸"))

        before, first = marked()
        await driven.press("right_square_bracket")
        after, second = marked()
        assert after == before + 1
        assert "15,710" in first
        assert "15,711" in second

    drive(test, "replaying")


def test_event_detail() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("6", "enter")
        assert isinstance(driven.app.screen, EventDetail)
        await driven.press("down", "pagedown", "up", "pageup", "escape")
        assert isinstance(driven.app.screen, EventsScreen)

    drive(test)


def test_a_click_on_an_event_goes_there() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("6")
        line = driven.text(EventTable).splitlines()[5]
        ordinal = int(line[1:9].strip().replace(",", ""))
        before = len(driven.session.calls)
        await driven.pilot.click(EventTable, offset=(20, 5))
        await driven.settle()
        assert driven.session.calls[before:] == ["hold", f"seek_ordinal {ordinal}"]

    drive(test, "replaying")


def test_a_click_in_the_footer() -> None:
    async def test(driven: Driven) -> None:
        x = driven.text(Footer).index("Leases")
        await driven.pilot.click(Footer, offset=(x, 0))
        await driven.settle()
        assert isinstance(driven.app.screen, LeasesScreen)

    drive(test)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (120, 40)])
@pytest.mark.parametrize("page", ["1", "4", "5", "6"])
def test_the_footer_always_says_how_to_get_help_and_out(page: str, size: tuple[int, int]) -> None:
    async def test(driven: Driven) -> None:
        await driven.press(page)
        said = driven.text(Footer)
        assert "? help" in said
        assert "q quit" in said
        assert all(f" {control.shown} " in said for control in SCREENS)

    drive(test, size=size)


def test_a_time_may_be_typed_before_its_dialog_is_there() -> None:
    async def test(driven: Driven) -> None:
        before = len(driven.session.calls)
        for key, character in (("g", "g"), ("plus", "+"), ("5", "5"), ("enter", "\r")):
            driven.app.post_message(Key(key, character))
        await driven.pilot.pause()
        await driven.settle()
        if isinstance(driven.app.screen, GoToDialog):  # Enter came too early as well
            await driven.press("enter")
        assert driven.session.calls[before:][0] == "hold"
        assert driven.session.calls[before:][1].startswith("seek_time")

    drive(test)


def test_the_bottleneck_line_says_what_stands_still_now() -> None:
    async def wide(driven: Driven) -> None:
        sentence = driven.session.shown.verdicts[0].sentence
        assert f"now: {sentence}" in driven.text(BottleneckLine)
        over = replace(driven.session.shown, outcome="success", liveness="ended")
        driven.session.shown, driven.session.changed = over, True
        await driven.tick(1.0)
        assert "now:" not in driven.text(BottleneckLine)

    async def narrow(driven: Driven) -> None:
        shown = driven.session.shown
        assert shown.bottleneck is not None
        brief = replace(shown.bottleneck, sentence="limited by beta/judge-large: cooldown")
        driven.session.shown, driven.session.changed = replace(shown, bottleneck=brief), True
        await driven.tick(1.0)
        assert "now: beta/judge-large: cooldown after 429s, for " in driven.text(BottleneckLine)

    drive(wide, size=(200, 60))
    drive(narrow, size=(80, 24))


def test_what_was_held_when_the_producer_was_lost_is_in_doubt() -> None:
    async def test(driven: Driven) -> None:
        frame = driven.session.shown
        table, panel = driven.text(GroupTable), driven.text(CeilingPanel)
        for group in frame.groups:
            if group.leased:
                assert f" {group.leased}? " in table
        for row in frame.ceilings:
            assert f"in flight {row.ceiling.in_flight}?" in panel
        # Before its end the same recording says what was so.
        driven.session.shown = replace(frame, ordinal=frame.last_ordinal - 100)
        driven.session.changed = True
        await driven.tick(1.0)
        assert "?" not in driven.text(GroupTable) + driven.text(CeilingPanel)

    drive(test, "lost")


def test_leases_begin_with_the_columns_that_call() -> None:
    async def test(driven: Driven) -> None:
        shown = driven.session.shown
        quick = [bar for bar in shown.bars if bar.column == "topic"]
        more = [replace(bar, lease_id=f"{bar.lease_id}-{lane}") for bar in quick for lane in "ab"]
        driven.session.shown = replace(shown, bars=(*shown.bars, *more))
        await driven.press("4")
        lines = driven.text(Timeline).splitlines()
        assert lines[2].strip() == "3 more lanes above"
        assert lines[3].startswith(" question")
        assert "lanes below" in lines[-1]
        await driven.press("pageup")
        assert driven.text(Timeline).splitlines()[2].startswith(" topic")
        await driven.tick(1.0)
        assert driven.text(Timeline).splitlines()[2].startswith(" topic")

    drive(test, size=(80, 24))


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


def test_a_live_clock_goes_on_without_events() -> None:
    async def test(driven: Driven) -> None:
        assert "1:24" in driven.text(Header)
        frames = len(driven.session.wants)
        await driven.tick(7.0)
        assert len(driven.session.wants) == frames
        header = driven.text(Header)
        assert "1:31" in header
        assert "no event for 7.0 s" in header

    drive(test)


def test_nothing_is_asked_of_a_recording_that_stands_still() -> None:
    async def test(driven: Driven) -> None:
        frames, refreshed = len(driven.session.wants), driven.session.refreshed
        for _ in range(5):
            await driven.tick(0.25)
        assert len(driven.session.wants) == frames
        assert driven.session.refreshed == refreshed

    drive(test, "replaying")


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
            driven.app.ask_frame()
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
        app.ask_frame()
        await app.settle()
        assert app.failure is None

    drive(test)
