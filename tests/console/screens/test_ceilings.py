"""Ceilings: from one change of a ceiling to the next."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from console.theme import Appearance
from console.widgets.ceilings import CeilingPanel
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
