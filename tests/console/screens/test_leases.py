"""The Leases screen: window, selection and lanes of the timeline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from console.widgets.timeline import Timeline
from tests.console.driven import Driven, drive


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
        want = driven.session.wants[-1]
        assert want.until == pytest.approx(at - 15)
        assert want.span >= 60
        await driven.press("right")
        assert timeline.right is None
        await driven.press("a")
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
        assert await driven.press("b") == ["hold", f"seek_time {after.start:.1f}"]
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


def test_a_cursor_in_the_past_has_both_sides() -> None:
    async def test(driven: Driven) -> None:
        at = driven.session.shown.at - 20
        driven.session.shown = replace(driven.session.shown, at=at, following=False)
        driven.session.changed = True
        await driven.press("4")
        want = driven.session.wants[-1]
        assert want.until is not None
        assert want.until > at
        assert want.until - want.span < at

    drive(test)


def test_zooming_keeps_the_selected_lease_in_view() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("4", "down", "comma", "comma", "comma")
        timeline = driven.app.screen.query_one(Timeline)
        bar = timeline.bar(timeline.selected)
        assert bar is not None
        for _ in range(4):
            await driven.press("plus")
            left = timeline.left(driven.session.shown.at)
            assert left <= (bar.start + (bar.end or bar.start)) / 2 <= left + timeline.span

    drive(test)
