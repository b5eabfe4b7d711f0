"""One event in full, as JSON to scroll through."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from console.controls import Control, bindings
from console.formatting import count
from console.paint import Row, StyledLine
from console.theme import Appearance
from console.widgets.pages import Pages
from console.widgets.panel import title
from engine.events import Event, RequestEvent
from replay.diagnosis.verdicts import clock
from replay.playback.focus import CallFocus, Focus, TaskFocus
from replay.playback.frame import EventRow

READING = (
    Control("escape,enter,q", "Esc", "dismiss", "Back"),
    Control("down,j", "↓", "scroll(1)", "A line down"),
    Control("up,k", "↑", "scroll(-1)", "A line up"),
    Control("pagedown,space", "PgDn", "scroll_page(1)", "A page down"),
    Control("pageup", "PgUp", "scroll_page(-1)", "A page up"),
)
_KEY = re.compile(r'^(\s*)("(?:[^"\\]|\\.)*":)(.*)$')
_RAISED = " on raised"


class ReadingScreen(ModalScreen[None]):
    """A window of lines over the page below it."""

    DEFAULT_CSS = """
    ReadingScreen { align: center middle; background: $background 60%; }
    ReadingScreen > Vertical {
        width: 90%; max-width: 100; height: 86%; background: $surface; padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(READING)]

    def __init__(self, appearance: Appearance, lines: list[StyledLine]) -> None:
        super().__init__()
        self._pages = Pages(appearance, lines)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._pages

    def action_scroll(self, by: int) -> None:
        self._pages.scroll_lines(by)

    def action_scroll_page(self, by: int) -> None:
        self._pages.scroll_lines(by * self._pages.page)


class EventDetail(ReadingScreen, inherit_bindings=False):
    """Enter goes on to the task or call that the event is about."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(
            (
                Control("enter", "Enter", "open", "The task or call that it is about"),
                Control("escape,q", "Esc", "dismiss", "Back"),
                *READING[1:],
            )
        )
    ]

    def __init__(
        self,
        appearance: Appearance,
        row: EventRow,
        t0: float,
        open_page: Callable[[Focus, str], None] = lambda focus, name: None,
    ) -> None:
        self.event_row = row
        self._open_page = open_page
        super().__init__(appearance, event_lines(appearance, row, t0))

    def action_open(self) -> None:
        focus = focus_of(self.event_row.event)
        self.dismiss()
        if focus is not None:
            self.app.call_later(self._open_page, *focus)


def focus_of(event: Event) -> tuple[Focus, str] | None:
    """The task or call that an event is about, and its name; None where it is about neither."""
    if isinstance(event, RequestEvent):
        attempt = event.request_attempt_id
        return None if attempt is None else (CallFocus(attempt), f"call {attempt}")
    return None if event.task_id is None else (TaskFocus(event.task_id), event.task_id)


def event_lines(appearance: Appearance, row: EventRow, t0: float) -> list[StyledLine]:
    """A head line, then the event as indented JSON; keys stand out."""
    event = row.event
    at = clock(event.captured_at_monotonic - t0)
    head = Row().put(f" {event.event_kind}", f"bold bright{_RAISED}")
    about = "" if focus_of(event) is None else "   Enter: what it is about"
    head.put(f"   event {count(row.ordinal)} at {at}   Esc back{about}", f"dim{_RAISED}")
    lines: list[StyledLine] = [head.line(), ()]
    text = msgspec.json.format(msgspec.json.encode(event), indent=2).decode()
    for line in text.splitlines():
        match = _KEY.match(line)
        row_line = Row().put(" ", f"text{_RAISED}")
        if match:
            indent, key, rest = match.groups()
            row_line.put(indent, f"text{_RAISED}").put(key, f"sky{_RAISED}")
            row_line.put(rest, f"text{_RAISED}")
        else:
            row_line.put(line, f"text{_RAISED}")
        lines.append(row_line.line())
    return lines


def section(appearance: Appearance, name: str, width: int) -> StyledLine:
    """A title line for a window of lines."""
    return tuple((text, f"{style}{_RAISED}") for text, style in title(appearance, name, width))
