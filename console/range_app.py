"""`RangeApp`: a stretch of the run that is marked, and what the pages then speak of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from console.goto import Target, resolve_range
from console.playback_app import PlaybackApp
from console.screens.base import FrameScreen
from console.session_thread import Command, SessionLike
from console.widgets.line_widget import LineWidget
from replay.playback.frame import Frame, Want

NUDGE = 1 / 50
"""Part of the time in view that a step of the cursor crosses."""
SHORTEST_VIEW = 1.0


@dataclass(frozen=True, slots=True)
class Range:
    """Times of the producer."""

    anchor: float
    end: float
    growing: bool
    """Its end goes with the cursor."""

    @property
    def low(self) -> float:
        return min(self.anchor, self.end)

    @property
    def high(self) -> float:
        return max(self.anchor, self.end)


class RangeApp(PlaybackApp):
    """`v` marks from the cursor on; moving extends, `Enter` zooms, `L` loops, Esc lets go."""

    def __init__(self, session: SessionLike, **options: Any) -> None:
        super().__init__(session, **options)
        self.range: Range | None = None
        self._window: tuple[float, float] | None = None
        self._looping = False

    @property
    def window(self) -> tuple[float, float] | None:
        """The time that charts show while a stretch is marked; None: the past of the cursor."""
        return self._window

    def on_first_frame(self, frame: Frame) -> None:
        super().on_first_frame(frame)
        if self._at_end:
            self._window = (frame.t0, max(frame.t1, frame.t0 + SHORTEST_VIEW))

    def leave_window(self) -> None:
        """Show the past of the cursor again, unless a stretch is marked."""
        if self.range is None:
            self._window = None

    def _move(self, command: Command) -> None:
        self.leave_window()
        super()._move(command)

    def wanted(self, page: FrameScreen) -> Want:
        """What `page` needs of a frame, with what the marked stretch needs."""
        want = page.want()
        if self.range is not None:
            want = replace(want, stretch=(self.range.low, self.range.high))
        return want

    def on_frame(self, frame: Frame) -> None:
        marked = self.range
        if marked is None:
            return
        if marked.growing and frame.at != marked.end:
            self.range = replace(marked, end=frame.at)
            self.request_frame()
        if self._looping and self._playing and frame.at >= marked.high:
            self._command(lambda session: session.seek_time(marked.low))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of a marked stretch are others' where none is marked."""
        if action == "drop_range":
            shown = self.range is not None or self._window is not None
            return shown and self.screen is self.page
        if action in ("zoom_range", "loop_range"):
            return self.range is not None and self.screen is self.page
        if action == "extend_range":
            growing = self.range is not None and self.range.growing
            return growing and self.screen is self.page
        return super().check_action(action, parameters)

    def action_mark(self) -> None:
        """Begin a stretch at the cursor, or end the one that grows."""
        frame, page = self._frame, self.page
        if frame is None or page is None or not frame.last_ordinal:
            return
        if self.range is not None and self.range.growing:
            self.range = replace(self.range, growing=False)
        else:
            window = self._window or page.span_in_view(frame)
            self.range = Range(frame.at, frame.at, True)
            self._looping = False
            self._move(lambda session: None)
            self._window = window
        self.request_frame()

    def mark(self, start: float, end: float) -> None:
        """Mark this stretch and put the cursor at its end; times of the producer."""
        self.range = Range(start, end, False)
        self._looping = False
        margin = (self.range.high - self.range.low) / 4
        self._window = (self.range.low - margin, self.range.high + margin)
        self.seek_time(self.range.high)

    def on_line_widget_dragged(self, message: LineWidget.Dragged) -> None:
        """A stretch that is drawn with the mouse; it may begin or end outside the run."""
        frame = self._frame
        if frame is not None:
            start, end = max(message.start, frame.t0), min(message.end, frame.t1)
            if start < end:
                self.mark(start, end)

    def action_extend_range(self, steps: int) -> None:
        self.action_nudge(steps)

    def action_nudge(self, steps: int) -> None:
        """Move the cursor by a small part of what is in view."""
        frame, page = self._frame, self.page
        if frame is not None and page is not None:
            left, right = self._window or page.span_in_view(frame)
            self.seek_time(frame.at + steps * NUDGE * max(right - left, SHORTEST_VIEW))

    def action_zoom_range(self) -> None:
        marked = self.range
        if marked is not None:
            self.range = replace(marked, growing=False)
            middle, half = (marked.low + marked.high) / 2, (marked.high - marked.low) / 2
            half = max(half, SHORTEST_VIEW / 2)
            self._window = (middle - half, middle + half)
            self.request_frame()

    def action_loop_range(self) -> None:
        """Play the stretch over and over."""
        marked = self.range
        if marked is None:
            return
        self._looping = not self._looping
        if self._looping:
            self.range = replace(marked, growing=False)
            self.seek_time(marked.low)
        self._playing = self._looping
        self.request_frame()

    def action_drop_range(self) -> None:
        self.range = self._window = None
        self._looping = False
        self.request_frame()

    def _go_to(self, target: Target | None) -> None:
        frame = self._frame
        if target is not None and target.span is not None and frame is not None:
            stretch = resolve_range(target.span, frame)
            if isinstance(stretch, str):
                self._problem = stretch
            else:
                self.mark(*stretch)
        else:
            super()._go_to(target)
