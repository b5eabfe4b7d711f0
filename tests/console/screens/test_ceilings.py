"""Ceilings: from one change of a ceiling to the next."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from console.formatting import duration
from console.theme import Appearance
from console.widgets.ceilings import UNTOLD, CeilingPanel
from console.widgets.chart import log_sparkline, wait_bar
from console.widgets.select_table import SelectTable
from tests.console.driven import Driven, drive
from tests.console.frames import FRAMES


def test_the_changes_of_a_ceiling_one_after_the_other() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("3")
        calls = [*await driven.press("n"), *await driven.press("up", "N")]
        moves = [call for call in calls if call.startswith("seek_match")]
        assert moves == [
            "seek_match 1 kind IN ('request_limit_decreased', 'request_limit_increased')"
            " AND resource = 'beta/judge-large/chat'",
            "seek_match -1 kind IN ('request_limit_decreased', 'request_limit_increased')"
            " AND resource = 'alpha/gen-8b/chat'",
        ]

    drive(test)


def test_more_ceilings_than_lines_are_a_heat_map() -> None:
    frame = FRAMES["storm"]()
    ceilings = tuple(
        replace(row, ceiling=msgspec.structs.replace(row.ceiling, resource=f"p{n}/model-{n}/chat"))
        for n in range(60)
        for row in frame.ceilings[n % len(frame.ceilings) :][:1]
    )
    panel = CeilingPanel(Appearance())
    panel.show(replace(frame, ceilings=ceilings), "")
    text = ["".join(part for part, _ in line) for line in panel.draw(150, 13)]
    assert len(text) <= 13
    assert all(len(line) <= 150 for line in text)
    shown = [n for n in range(60) if any(f"p{n}/model-{n} " in line for line in text)]
    assert shown == list(range(60))
    text = ["".join(part for part, _ in line) for line in panel.draw(80, 13)]
    assert "25 more" in text[-1]


def test_at_80_columns_the_domain_goes_before_the_name_is_cut() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("3")
        assert "beta/judge-large " in driven.text(SelectTable)
        assert "/chat" not in driven.text(SelectTable)

    drive(test, size=(80, 24))


def test_lanes_below_the_chart_tell_of_calls_and_their_highest_value() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("3")
        lanes = driven.text(CeilingPanel).splitlines()
        starts = [line[:14].split() for line in lanes]
        (beta,) = [row for row in driven.session.shown.ceilings if row.ceiling.rate_limited]
        assert ["waiting", "23"] in starts
        assert ["failed", str(max(beta.failed))] in starts
        assert ["429s", "1"] in starts
        (latency,) = [start[1:] for start in starts if start[:1] == ["latency"]]
        assert " ".join(latency) == duration(max(beta.latency or ()))
        (p95,) = [start[1:] for start in starts if start[:1] == ["p95"]]
        assert " ".join(p95) == duration(max(beta.latency_p95))

    drive(test)


def test_a_recording_that_does_not_tell_how_long_calls_took_says_so() -> None:
    async def test(driven: Driven) -> None:
        untold = [replace(row, latency=None) for row in driven.session.shown.ceilings]
        driven.session.shown = replace(driven.session.shown, ceilings=tuple(untold))
        driven.session.changed = True
        await driven.press("3")
        assert UNTOLD in driven.text(CeilingPanel)

    drive(test)


def test_only_the_ceilings_screen_has_calls_read() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("1", "3")
        assert [want.calls for want in driven.session.wants][-1]
        assert not driven.session.wants[0].calls

    drive(test)


def test_each_step_of_a_lane_of_times_is_twice_as_long() -> None:
    glyphs = Appearance().glyphs
    times = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    assert log_sparkline(times, len(times), 16.0, glyphs) == glyphs.sparks
    assert log_sparkline((1e-9, 16.0), 2, 16.0, glyphs) == glyphs.sparks[1] + glyphs.sparks[-1]


def test_a_bar_of_a_wait_has_three_cells_for_ten_times_as_long() -> None:
    glyphs = Appearance().glyphs
    lengths = [len(wait_bar(10.0**power, glyphs)) for power in range(-3, 6)]
    assert lengths == [0, 1, 3, 6, 9, 12, 15, 15, 15]
    assert wait_bar(None, glyphs) == ""
