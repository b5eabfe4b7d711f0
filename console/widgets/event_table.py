"""The stream around the cursor, one event a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from console.formatting import count
from console.paint import Row, StyledLine, fit_tail
from console.theme import Appearance
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from engine.events import Event, RequestEvent, Significance, significance_of
from replay.diagnosis.verdicts import clock
from replay.playback.frame import EventRow, Frame

_HEAD = 2
_STYLES: dict[Significance, str] = {
    "failure": "vermillion",
    "wait": "orange",
    "progress": "green",
    "routine": "text",
    "background": "dim",
}


def kind_style(kind: str) -> str:
    """The style of an event kind, by its significance."""
    return _STYLES[significance_of(kind)]


def subject(event: Event) -> str:
    """Whose fact it is: the task, or the request attempt; the column beside an id without it."""
    correlation = event.captured_correlation
    column = (correlation.task_column if correlation else None) or ""
    if isinstance(event, RequestEvent):
        name = event.request_attempt_id or ""
    else:
        name = event.task_id or ""
    if not name or name.startswith(column + "/"):
        return name
    return f"{column} {fit_tail(name, 9).rstrip()}".strip()


def resource(event: Event) -> str:
    """What the event is about: its resource or its group; empty where it names none."""
    if isinstance(event, RequestEvent):
        key = event.request_resource_key
        return key.label if key else event.request_group_key or ""
    return event.scheduler_resource_key or str(event.diagnostics.get("group", ""))


def reason(event: Event) -> str:
    """Reason, result or outcome, then the plain values among the diagnostics."""
    result = event.reason_or_outcome if isinstance(event, RequestEvent) else event.reason_or_result
    parts = [result] if result else []
    for key, value in event.diagnostics.items():
        if key != "group" and not isinstance(value, dict | list):
            parts.append(f"{key} {_plain(value)}")
    return "  ".join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)


class EventTable(LineWidget):
    """The cursor's row is the replay's cursor; it moves within the window before that scrolls."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="event-table")
        self._frame: Frame | None = None
        self._top = 0
        self._chosen: frozenset[object] | None = None
        self._filter_text = ""

    class Moved(Message):
        """A row was asked for, by its ordinal."""

        def __init__(self, ordinal: int) -> None:
            super().__init__()
            self.ordinal = ordinal

    class Scrolled(Message):
        """The wheel turned: so many events further."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    @property
    def lines(self) -> int:
        return max(1, self.size.height - _HEAD)

    def show(
        self, frame: Frame, chosen: frozenset[object] | None = None, filter_text: str = ""
    ) -> None:
        """`chosen`: ordinals of the events that match a filter; the others are dim."""
        self._frame, self._chosen, self._filter_text = frame, chosen, filter_text
        self.redraw()

    def at_cursor(self) -> EventRow | None:
        """The event under the cursor: the last one folded into what the screens show."""
        if self._frame is None:
            return None
        ordinal = self._frame.ordinal
        return next((row for row in self._frame.events if row.ordinal == ordinal), None)

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame = self._frame
        total = frame.last_ordinal if frame else 0
        rows = [title(self.appearance, "Event stream", width, self._note(total))]
        if frame is None or not frame.events:
            return [*rows, Row().put(" no event yet", "dim").line()]
        wide = width >= 110
        ordinal = max(6, len(count(frame.last_ordinal)))
        head = Row().put("  ").put("#", "dim", ordinal, ">").put("  time", "dim", 12)
        kind = 28 if wide else 25
        subject_width, resource_width = self._columns(width, ordinal, kind)
        head.put("S ", "dim").put("kind", "dim", kind).put(
            " task / attempt", "dim", subject_width + 1
        )
        if resource_width:
            head.put(" resource / group", "dim", resource_width + 1)
        head.put(" reason", "dim")
        rows.append(head.line())
        window = self._window(frame, height - _HEAD)
        for entry in window:
            rows.append(
                self._row(entry, frame, ordinal, kind, subject_width, resource_width, width)
            )
        return rows

    def _note(self, total: int) -> str:
        note = f"{count(total)} events"
        return f"{note}, filter: {self._filter_text}" if self._filter_text else note

    @staticmethod
    def _columns(width: int, ordinal: int, kind: int) -> tuple[int, int]:
        """Cells for the subject and the resource; the reason gets the rest."""
        rest = width - ordinal - kind - 18
        if rest < 50:
            return 13, 0
        return min(28, rest * 3 // 10), min(34, rest * 3 // 10)

    def _window(self, frame: Frame, lines: int) -> list[EventRow]:
        events = frame.events
        index = next(
            (i for i, row in enumerate(events) if row.ordinal >= frame.ordinal), len(events) - 1
        )
        top = next((i for i, row in enumerate(events) if row.ordinal >= self._top), index)
        if not top - lines // 2 <= index < top + lines * 3 // 2:
            top = index - lines // 2
        top = min(index, max(top, index - lines + 1))
        top = max(0, min(top, len(events) - lines))
        self._top = events[top].ordinal
        return list(events[top : top + lines])

    def _row(
        self,
        entry: EventRow,
        frame: Frame,
        ordinal: int,
        kind: int,
        subject_width: int,
        resource_width: int,
        width: int,
    ) -> StyledLine:
        event = entry.event
        at_cursor = entry.ordinal == frame.ordinal
        ahead = entry.ordinal > frame.ordinal
        ground = " on select" if at_cursor else ""

        def tone(style: str) -> str:
            if self._chosen is not None and entry.ordinal not in self._chosen:
                return f"faint{ground}"
            if at_cursor:
                return f"{'bright' if style in ('dim', 'text', 'faint') else style}{ground}"
            return "dim" if ahead and style != "vermillion" else style

        at = event.captured_at_monotonic - frame.t0
        request = isinstance(event, RequestEvent)
        row = Row().put(self.appearance.glyphs.cursor if at_cursor else " ", f"bold bright{ground}")
        row.put(" ", tone("text"))
        row.put(count(entry.ordinal), tone("dim"), ordinal, ">").put("  ", tone("text"))
        row.put(_milliseconds(at), tone("text"), 9, ">").put(" ", tone("text"))
        row.put("R " if request else "S ", tone("purple" if request else "sky"))
        row.put(event.event_kind, tone(kind_style(event.event_kind)), kind).put(" ", tone("text"))
        row.put(fit_tail(subject(event), subject_width), tone("bright")).put(" ", tone("text"))
        if resource_width:
            row.put(fit_tail(resource(event), resource_width), tone("dim")).put(" ", tone("text"))
        row.put(reason(event), tone("text"), max(0, width - row.used))
        return row.line()

    def on_click(self, event: Click) -> None:
        line = event.y - _HEAD
        frame = self._frame
        if frame is None or line < 0:
            return
        window = self._window(frame, self.lines)
        if line < len(window):
            self.post_message(self.Moved(window[line].ordinal))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self.post_message(self.Scrolled(3))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self.post_message(self.Scrolled(-3))


def _milliseconds(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    return f"{clock(thousandths // 1000, tenths=False)}.{thousandths % 1000:03}"
