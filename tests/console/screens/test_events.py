"""The Events screen: the cursor in the table, and one event in full."""

from __future__ import annotations

from console.screens.event_detail import EventDetail
from console.screens.events import EventsScreen
from console.widgets.event_table import EventTable
from tests.console.driven import Driven, drive


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
