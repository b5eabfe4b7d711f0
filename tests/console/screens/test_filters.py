"""The filter of a page: typed with `/`, applied at once, cleared with Esc, walked with n and N."""

from __future__ import annotations

from pathlib import Path

from console.filter_history import FilterHistory
from console.screens.questions import FilterDialog
from console.screens.stalls import StallsScreen
from console.widgets.event_table import EventTable
from console.widgets.select_table import SelectTable
from console.widgets.stall_list import StallList
from console.widgets.timeline import Timeline
from tests.console.driven import Driven, drive


def test_stalls_are_filtered_as_it_is_typed() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5")
        assert driven.app.page is not None
        total = len(driven.session.shown.verdicts)
        await driven.press("slash", *"provider:beta")
        listed = driven.app.page.query_one(StallList)
        chosen = [row for row in driven.session.shown.verdicts if "beta/" in (row.resource or "")]
        assert 0 < len(listed.rows) < total
        assert list(listed.rows) == [row for row in chosen if (row.resource or "")[:5] == "beta/"]
        await driven.press("enter")
        assert f"{len(listed.rows)} of {total}: provider:beta" in driven.text(StallList)
        await driven.press("slash", *" and nothing", "escape")
        assert "provider:beta" in driven.text(StallList)
        await driven.press("escape")
        assert len(listed.rows) == total

    drive(test)


def test_a_mistake_is_shown_under_its_caret_and_keeps_the_dialog_open() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5", "slash", *"tier>2", "enter")
        dialog = driven.app.screen
        assert isinstance(dialog, FilterDialog)
        error = dialog.problem("tier>2")
        assert error is not None
        text = "\n".join(
            strip.text for strip in dialog._below.render_lines(dialog._below.size.region)
        )
        assert text[4:].startswith("^ tier is text: use : or !=")

    drive(test)


def test_leases_that_do_not_match_leave_the_timeline() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("4", "slash", *"column:critique held>1s", "enter")
        assert driven.app.page is not None
        timeline = driven.app.page.query_one(Timeline)
        assert timeline.bars
        for bar in timeline.bars:
            assert bar.column == "critique"
            assert bar.end is not None
            assert bar.end - bar.start > 1
        await driven.press("n")
        assert timeline.selected == timeline.bars[0].lease_id
        await driven.press("n", "n", "N")
        assert timeline.selected == timeline.bars[1].lease_id
        await driven.press("escape")
        assert len(timeline.bars) == len(driven.session.shown.bars)

    drive(test)


def test_n_asks_for_the_next_event_that_matches() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("6", "slash", *"kind:request_*", "enter")
        assert "filter: kind:request_*" in driven.text(EventTable)
        calls = await driven.press("n", "N")
        moves = [call for call in calls if call.startswith("seek_match")]
        assert [move.split()[1] for move in moves] == ["1", "-1"]
        assert "LIKE" in moves[0]

    drive(test)


def test_groups_are_filtered_by_where_their_tasks_are() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("2", "slash", *"queued>20 reason:cooldown*", "enter")
        text = driven.text(SelectTable)
        assert "critique" in text
        assert "question" not in text
        assert "of 5: queued>20 reason:cooldown*" in text
        await driven.press("escape")
        assert "question" in driven.text(SelectTable)

    drive(test)


def test_errors_are_filtered_by_what_they_cost() -> None:
    async def test(driven: Driven) -> None:
        total = len(driven.session.shown.errors)
        cost = [failure for failure in driven.session.shown.errors if failure.rows_dropped]
        assert 0 < len(cost) < total
        await driven.press("9", "slash", *"rows>0", "enter")
        assert f"{len(cost)} of {total}: rows>0" in driven.text(SelectTable)

    drive(test)


def test_filters_that_were_used_come_back_with_the_arrow_key(tmp_path: Path) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5", "slash", *"tier:c", "enter", "escape")
        await driven.press("slash", *"wait>1s", "enter", "escape")
        await driven.press("slash", "up", "up", "down", "up", "enter")
        page = driven.app.page
        assert isinstance(page, StallsScreen)
        assert page.filter_text == "tier:c"

    drive(test, copies=tmp_path)
    assert FilterHistory(tmp_path / "filters.json").of("stalls") == ["tier:c", "wait>1s"]


def test_a_history_that_is_no_history_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "filters.json"
    for content in ("[1]", "{", '{"stalls": 3}', "\xff"):
        path.write_text(content, "latin-1")
        history = FilterHistory(path)
        assert history.of("stalls") == []
        history.add("stalls", "x")
        assert FilterHistory(path).of("stalls") == ["x"]
