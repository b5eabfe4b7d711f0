"""Help: every key, from the same declarations that bind it."""

from __future__ import annotations

from collections.abc import Sequence

from console.controls import GENERAL, LISTS, SCREENS, SHARE, TIME, Control
from console.paint import Row, StyledLine
from console.screens.event_detail import READING, ReadingScreen, section
from console.theme import Appearance

_RAISED = " on raised"


class HelpScreen(ReadingScreen):
    def __init__(self, appearance: Appearance, page: str, controls: Sequence[Control]) -> None:
        super().__init__(appearance, help_lines(appearance, page, controls))


def help_lines(appearance: Appearance, page: str, controls: Sequence[Control]) -> list[StyledLine]:
    lines: list[StyledLine] = []
    for name, table in (
        (page, controls),
        ("Screens", (*LISTS, *SCREENS)),
        ("Time", TIME),
        ("Console", (*SHARE, *GENERAL)),
        ("In a window like this one", READING),
    ):
        if not table:
            continue
        lines.append(section(appearance, name, 76))
        for control in table:
            row = Row().put(f"  {control.shown}", f"bold sky{_RAISED}", 10)
            lines.append(row.put(control.help, f"text{_RAISED}").line())
        lines.append(())
    glyphs = appearance.glyphs
    lines.append(section(appearance, "Marks", 76))
    for mark, colour, meaning in (
        (glyphs.waiting * 2, "orange", "a request waits for admission"),
        (glyphs.in_provider * 2, "sky", "a request is in the provider"),
        (glyphs.failed * 2, "vermillion", "a request in the provider that did not succeed"),
        (glyphs.own * 2, "green", "the task's own time"),
        (glyphs.open_end, "bright", "still open"),
        (glyphs.unknown_end, "vermillion", "end unknown: the producer is gone"),
        (glyphs.rate_limited, "vermillion", "a provider answered 429"),
        (glyphs.cooling * 2, "dim", "a ceiling cools down"),
        (glyphs.limit_mid * 2, "orange", "the adaptive limit; the area below is in flight"),
    ):
        row = Row().put(f"  {mark}", f"{colour}{_RAISED}", 10)
        lines.append(row.put(meaning, f"text{_RAISED}").line())
    return lines
