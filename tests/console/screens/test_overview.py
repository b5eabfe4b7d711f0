"""The Overview: its span, what stands still now, and what is in doubt."""

from __future__ import annotations

from dataclasses import replace

from console.widgets.ceilings import CeilingPanel
from console.widgets.group_table import GroupTable
from console.widgets.header import BottleneckLine
from tests.console.driven import Driven, drive


def test_overview_spans() -> None:
    async def test(driven: Driven) -> None:
        assert driven.session.wants[-1].span == 60
        await driven.press("plus")
        assert driven.session.wants[-1].span == 30
        await driven.press("minus", "minus")
        assert driven.session.wants[-1].span == 85

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
