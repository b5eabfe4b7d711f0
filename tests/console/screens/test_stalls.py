"""The Stalls screen: which stall is selected, and where its keys lead."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from console.screens.events import EventsScreen
from console.screens.leases import LeasesScreen
from console.screens.stalls import StallsScreen
from console.widgets.stall_list import StallDetail, StallList, StallSums
from replay.diagnosis.verdicts import phrase
from tests.console.driven import Driven, drive
from tests.console.frame_parts import T0


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
            assert "23 in line, longest verdict of row 17" in detail
            assert detail.rstrip().endswith("where the provider names no wait.")
            assert "0:39.2" in driven.text(StallList)

    drive(test, "storm", size=(80, 24))


def test_the_stall_before_and_after() -> None:
    async def test(driven: Driven) -> None:
        assert await driven.press("left_curly_bracket") == ["hold", "seek_stall -1"]
        assert await driven.press("right_curly_bracket") == ["hold", "seek_stall 1"]

    drive(test)


def test_sums_by_cause_come_first_and_the_list_is_sorted_in_three_ways() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5")
        rows = driven.session.shown.verdicts
        sums: dict[str, float] = {}
        for row in rows:
            sums[row.verdict] = sums.get(row.verdict, 0.0) + row.end - row.start
        largest = max(sums, key=lambda name: sums[name])
        assert phrase(largest) in driven.text(StallSums)[:40]
        page = driven.app.page
        assert page is not None
        listed = page.query_one(StallList)
        assert listed.rows == rows
        await driven.press("s")
        lengths = [row.end - row.start for row in listed.rows]
        assert lengths == sorted(lengths, reverse=True)
        await driven.press("s")
        causes = [row.verdict for row in listed.rows]
        assert causes == sorted(causes)
        await driven.press("s")
        assert listed.rows == rows

    drive(test)


def test_a_marked_stretch_has_its_stalls_alone() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5")
        page = driven.app.page
        assert page is not None
        listed = page.query_one(StallList)
        last = max(row.end for row in listed.rows) - T0
        end = int(last) - 1
        await driven.press("g", *f"{end - 2}-{end}", "enter")
        await driven.settle()
        expected = [
            row
            for row in driven.session.shown.verdicts
            if row.start < T0 + end and row.end > T0 + end - 2
        ]
        assert list(listed.rows) == expected

    drive(test, "paused")
