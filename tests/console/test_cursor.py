"""Keys that move the cursor: what the session is asked for, and when playing stops."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.events import Key

from console.goto import parse_target
from console.screens.dialogs import GoToDialog
from console.screens.overview import OverviewScreen
from console.widgets.header import Header
from tests.console.driven import Driven, drive
from tests.console.frame_parts import T0


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
    ("keys", "requested"),
    [
        (("home",), ["hold", "seek_ordinal 1"]),
        (("end",), ["follow"]),
        (("f",), ["follow"]),
    ],
    ids=["home", "end", "f"],
)
def test_ends(keys: tuple[str, ...], requested: list[str]) -> None:
    async def test(driven: Driven) -> None:
        assert await driven.press(*keys) == requested

    drive(test, "replaying")


@pytest.mark.parametrize(
    ("typed", "requested"),
    [
        ("1:23.5", f"seek_time {T0 + 83.5:.1f}"),
        ("+5", f"seek_time {T0 + 89.2:.1f}"),
        ("-5", f"seek_time {T0 + 79.2:.1f}"),
        ("#1234", "seek_ordinal 1234"),
        ("#31402", "seek_ordinal 31402"),
    ],
)
def test_go_to(typed: str, requested: str) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("g")
        assert isinstance(driven.app.screen, GoToDialog)
        for character in typed:
            await driven.pilot.press(character)
        assert await driven.press("enter") == ["hold", requested]

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


def test_a_recording_opens_at_its_end_with_all_of_it_in_view_and_plays_from_the_start() -> None:
    async def test(driven: Driven) -> None:
        assert driven.session.calls == ["follow"]
        frame = driven.session.shown
        want = driven.session.wants[-1]
        assert want.until == frame.t1
        assert want.until - want.span == pytest.approx(frame.t0)
        assert "REPLAY" not in driven.text(Header)
        await driven.press("4")
        assert driven.session.wants[-1].span < want.span  # as many leases as can be drawn
        await driven.press("1")
        driven.session.shown = replace(frame, ordinal=frame.last_ordinal)
        await driven.press("f")
        assert "seek_ordinal 1" in await driven.press("p")
        assert "advance 1" in await driven.tick(1.0)
        await driven.press("left_square_bracket")
        assert driven.session.wants[-1].until is None

    drive(test, "ended", follow=False, at_end=True)


def test_what_is_still_being_read_is_not_called_live() -> None:
    async def test(driven: Driven) -> None:
        assert " LIVE " in driven.text(Header)
        driven.app._began = False  # as long as the source has more
        driven.app._show_header()
        assert " READING " in driven.text(Header)

    drive(test, "healthy", follow=False, at_end=True)


def test_another_length_of_past_leaves_the_view_of_the_whole_run() -> None:
    async def test(driven: Driven) -> None:
        assert driven.session.wants[-1].until is not None
        await driven.press("plus")
        want = driven.session.wants[-1]
        assert (want.until, want.span) == (None, 30.0)

    drive(test, "ended", follow=False, at_end=True)
