"""Help: every key, from the same declarations that bind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from console.controls import GENERAL, LISTS, RANGE, SCREENS, SHARE, TIME, Control
from console.formatting import WAITS
from console.paint import Row, StyledLine
from console.screens.event_detail import READING, ReadingScreen, section
from console.theme import Appearance, verdict_look
from replay.diagnosis.report.text_layout import wrap
from replay.diagnosis.verdicts import VERDICTS
from replay.diagnosis.verdicts.base import name_of

_RAISED = " on raised"


class HelpScreen(ReadingScreen):
    """The help of one page."""

    def __init__(self, appearance: Appearance, page: str, controls: Sequence[Control]) -> None:
        super().__init__(appearance, help_lines(appearance, page, controls))


def help_lines(appearance: Appearance, page: str, controls: Sequence[Control]) -> list[StyledLine]:
    """All keys that do something on `page`, whose own are `controls`, in sections."""
    lines: list[StyledLine] = []
    own = {control.keys for control in controls}
    for name, table in (
        (page, controls),
        ("Screens", (*LISTS, *SCREENS)),
        ("Time", [control for control in TIME if control.keys not in own]),
        ("A marked stretch", RANGE),
        ("Console", (*SHARE, *GENERAL)),
        ("In a window like this one", READING),
    ):
        if not table:
            continue
        lines.append(section(appearance, name, 76))
        for control in table:
            key = appearance.shown_key(control.id, control.shown)
            row = Row().put(f"  {key}", f"bold sky{_RAISED}", 10)
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
    lines += ((), *_glossary(appearance))
    return lines


def _glossary(appearance: Appearance) -> Iterator[StyledLine]:
    """What takes capacity or keeps a cell, with its letter, and the name of it in JSON and SQL."""
    yield section(appearance, "Words", 76)
    for verdict in VERDICTS:
        name = name_of(verdict)
        look = verdict_look(name)
        front = "bright" if look.colour == "faint" else "ink"
        row = Row().put("  ", f"text{_RAISED}").put(f" {look.letter} ", f"{front} on {look.colour}")
        row.put(f" {verdict.phrase}", f"bright{_RAISED}").put(f"  {name}", f"dim{_RAISED}")
        yield row.line()
        for text in wrap(verdict.proof, 64, max_lines=3):
            yield Row().put(" " * 10, f"text{_RAISED}").put(text, f"text{_RAISED}").line()
    for reason, meaning in WAITS.items():
        row = Row().put(f"  {meaning}", f"bright{_RAISED}").put(f"  {reason}", f"dim{_RAISED}")
        yield row.line()
