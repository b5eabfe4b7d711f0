"""Leases: who held what when, with the request attempts inside."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.controls import Control, bindings
from console.screens.base import growing_span, set_height
from console.screens.filters import FILTER, Filtered
from console.sheet import Sheet
from console.theme import Appearance
from console.widgets.lease_detail import LeaseDetail
from console.widgets.timeline import MODES, Timeline
from replay.playback.focus import TaskFocus, TasksFocus
from replay.playback.frame import Frame, LeaseBar, Want
from replay.recording.filters import LEASES

_MOST_BARS = 1500
_SAMPLES = 20
"""For the rates in the header."""
_SPAN = 30.0
"""Seconds in view until someone zooms."""
_DETAIL, _BRIEF_DETAIL = 6, 3
"""Lines that the selected lease has in words; the few where the lanes need the room, and only then
while one is selected."""
_ROOMY = 14
_LEAST_MARGIN = 1.0
"""Seconds on both sides of a stall."""
_SHORTEST, _LONGEST = 0.05, 7 * 86400.0


class LeasesScreen(Filtered):
    """The leases as lanes over time, with the selected one in words."""

    page_name = "Leases"
    subject = LEASES
    controls: ClassVar[tuple[Control, ...]] = (
        Control("down", "↓", "pick(1)", "Select a lease one lane further down", "select"),
        Control("up", "↑", "pick(-1)", "Select a lease one lane further up"),
        Control("full_stop", ".", "along(1)", "Next lease in the same lane"),
        Control("comma", ",", "along(-1)", "Previous lease in the same lane"),
        Control("plus,equals_sign", "+", "zoom(0.5)", "Zoom in", "zoom"),
        Control("minus", "-", "zoom(2.0)", "Zoom out"),
        Control("left", "←", "pan(-0.25)", "Earlier"),
        Control("right", "→", "pan(0.25)", "Later"),
        Control("a", "a", "fit", "Fit the whole run", "fit"),
        Control("l", "l", "lanes", "Lanes by column, packed, or one for each lease", "lanes"),
        Control("pagedown", "PgDn", "scroll_lanes(10)", "Further lanes"),
        Control("pageup", "PgUp", "scroll_lanes(-10)", "Back up the lanes"),
        Control("enter", "Enter", "open", "The whole life of the selected lease's task", "task"),
        Control("b", "b", "to_start", "Go to the moment the selected lease was acquired"),
        Control("r", "r", "row", "All tasks of the selected lease's row", "row"),
        *FILTER,
        Control("escape", "Esc", "unpick", "Clear the filter; then nothing selected"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        super().__init__(appearance, run_title)
        self._timeline = Timeline(appearance)
        self._detail = LeaseDetail(appearance)
        self._zoomed = self._in_window = False

    DEFAULT_CSS = """
    LeasesScreen Timeline { height: 1fr; margin: 1 0 0 0; }
    """

    def compose_page(self) -> ComposeResult:
        yield self._timeline
        yield self._detail

    def want(self) -> Want:
        timeline, frame = self._timeline, self.frame
        if frame is None:
            return Want(samples=_SAMPLES, span=timeline.span, bars=_MOST_BARS)
        edge = timeline.edge(frame)
        span = max(timeline.span, edge - timeline.left(frame.at))
        until = None if edge == frame.at else edge
        return Want(samples=_SAMPLES, span=span, bars=_MOST_BARS, until=until)

    def show_page(self, frame: Frame) -> None:
        timeline = self._timeline
        edges = timeline.span, timeline.edge(frame)
        window = self.console.window if frame.stretch is not None else None
        if window is not None:
            timeline.span, timeline.right = max(_SHORTEST, window[1] - window[0]), window[1]
            self._in_window = True
        elif self._in_window:
            self._in_window, self._zoomed, timeline.right = False, False, None
        if not self._zoomed and window is None:
            timeline.span = growing_span(frame, _SPAN)
        if edges != (timeline.span, timeline.edge(frame)):
            self.console.request_frame()
        if self.filter_text:
            chosen = tuple(bar for bar in frame.bars if self.matches(_view_row(bar, frame.t0)))
            note = self.filter_note(len(chosen), len(frame.bars))
            timeline.show(replace(frame, bars=chosen), note)
        else:
            timeline.show(frame)
        self._show_detail()

    def frame_between(self, start: float, end: float) -> None:
        """Show this time with a margin on both sides; times of the producer."""
        margin = max((end - start) / 4, _LEAST_MARGIN)
        self._zoomed = True
        self._timeline.span = max(_SHORTEST, end - start + 2 * margin)
        self._timeline.right = end + margin

    def _show_detail(self) -> None:
        roomy = self.query_one("#page").size.height >= _ROOMY
        brief = _BRIEF_DETAIL if self._timeline.selected else 0
        set_height(self._detail, _DETAIL if roomy else brief)
        if self.frame is not None:
            self._detail.show(self.frame, self._timeline.bar(self._timeline.selected))

    def _refresh_page(self) -> None:
        self._timeline.redraw()
        self._show_detail()
        self.console.request_frame()

    def sheet(self, frame: Frame) -> Sheet:
        return Sheet.of([_view_row(bar, frame.t0) for bar in self._timeline.bars])

    def action_pick(self, lanes: int) -> None:
        self._timeline.move(lanes)
        self._show_detail()

    def action_along(self, bars: int) -> None:
        self._timeline.along(bars)
        self._show_detail()

    def action_match(self, by: int) -> None:
        """Select the next of the leases that match, by start."""
        ids = [bar.lease_id for bar in self._timeline.bars]
        if ids:
            selected = self._timeline.selected
            at = ids.index(selected) + by if selected in ids else (0 if by > 0 else -1)
            self._timeline.selected = ids[max(-1, min(at, len(ids) - 1))]
            self._refresh_page()

    def action_unpick(self) -> None:
        if self.clear_filter():
            return
        self._timeline.selected = None
        self._timeline.right = None
        self._zoomed = False
        self._refresh_page()

    def action_zoom(self, factor: float) -> None:
        """Around the selected lease where there is one, so that it stays in view."""
        timeline, frame = self._timeline, self.frame
        self._zoomed = True
        span = max(_SHORTEST, min(_LONGEST, timeline.span * factor))
        bar = timeline.bar(timeline.selected)
        if frame is not None and (bar is not None or timeline.right is not None):
            right = timeline.edge(frame)
            middle = right - timeline.span / 2
            if bar is not None:
                left, end = right - timeline.span, frame.at if bar.end is None else bar.end
                middle = (max(left, bar.start) + min(right, max(end, bar.start))) / 2
            timeline.right = middle + (right - middle) * span / timeline.span
            if timeline.right >= self._latest(frame):
                timeline.right = None if frame.following else self._latest(frame)
        timeline.span = span
        self._refresh_page()

    @staticmethod
    def _latest(frame: Frame) -> float:
        return frame.at if frame.following else frame.t1

    def action_pan(self, part: float) -> None:
        if self.frame is None:
            return
        timeline, frame = self._timeline, self.frame
        right = timeline.edge(frame) + part * timeline.span
        right = max(right, frame.t0 + timeline.span * 0.25)
        latest = self._latest(frame)
        timeline.right = right if right < latest else None if frame.following else latest
        self._refresh_page()

    def action_fit(self) -> None:
        if self.frame is not None:
            self._zoomed = True
            latest = self._latest(self.frame)
            self._timeline.span = max(1.0, (latest - self.frame.t0) * 1.05)
            self._timeline.right = None if self.frame.following else latest
            self._refresh_page()

    def action_lanes(self) -> None:
        index = MODES.index(self._timeline.mode)
        self._timeline.mode = MODES[(index + 1) % len(MODES)]
        self._timeline.reset_scroll()
        self._refresh_page()

    def action_scroll_lanes(self, by: int) -> None:
        self._timeline.scroll_lanes(by)

    def action_open(self) -> None:
        bar = self._timeline.bar(self._timeline.selected)
        if bar is not None:
            self.console.open_page(TaskFocus(bar.task_id), bar.task_id)

    def action_row(self) -> None:
        bar = self._timeline.bar(self._timeline.selected)
        if bar is not None and bar.row is not None:
            self.console.open_page(TasksFocus(row=bar.row), f"row {bar.row}")

    def action_to_start(self) -> None:
        bar = self._timeline.bar(self._timeline.selected)
        if bar is not None:
            self.console.seek_time(bar.start)

    def on_timeline_picked(self, message: Timeline.Picked) -> None:
        again = self._timeline.selected == message.lease_id
        self._timeline.selected = message.lease_id
        self._timeline.redraw()
        self._show_detail()
        if again:
            self.action_open()


def _view_row(bar: LeaseBar, t0: float) -> dict[str, object]:
    """The row of the view `leases`, as far as it is known at the cursor."""
    enqueued = bar.enqueued_at
    return {
        "lease_id": bar.lease_id,
        "task_id": bar.task_id,
        "task_column": bar.column,
        "task_group": bar.group,
        "row_group": bar.row_group,
        "row_index": bar.row,
        "attempt": bar.attempt,
        "acquired_at": bar.start - t0,
        "result": bar.result,
        "error": bar.error,
        "ready_to_lease_gap": None if enqueued is None else max(0.0, bar.start - enqueued),
        "held": None if bar.end is None else bar.end - bar.start,
    }
