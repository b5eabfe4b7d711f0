"""Task leases as bars over run time, their request attempts inside."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil

from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from console.formatting import duration
from console.paint import Row, StyledLine, fit_tail
from console.theme import Appearance
from console.widgets.chart import nice_step
from console.widgets.lanes import Lane, LaneBook, LaneMode
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.diagnosis.verdicts import clock
from replay.playback.frame import Frame, LeaseBar, Segment

MODES: tuple[LaneMode, ...] = ("column", "packed", "lease")
_HEAD = 2
"""Lines above the lanes: title with legend, and the axis."""
_ROOM_FOR_BELOW, _ROOM_FOR_ABOVE = 2, 3
"""Lines from which on one of them may say how many lanes are not shown."""
_AHEAD = 0.4
"""Part of the time in view that lies behind a cursor in the past."""
_JUMPS = 10
"""In so many jumps time in view moves on by all of itself."""
_MARGIN = 3
"""Columns kept free behind now, for the arrows of open bars."""

Piece = tuple[int, int, str, str]
"""From column, to column, glyph, style."""


class Timeline(LineWidget):
    """The window [left, right) in run time, at `span` seconds."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="timeline")
        self.mode: LaneMode = "column"
        self.span = 30.0
        self.right: float | None = None
        """Right edge in producer time; None: the cursor, wherever it goes."""
        self.selected: str | None = None
        self._frame: Frame | None = None
        self._note = ""
        self._book = LaneBook()
        self._lanes: list[Lane] = []
        self._top = 0
        self._scrolled = False
        self._drawn_width = 80

    class Picked(Message):
        """A bar was clicked."""

        def __init__(self, lease_id: str) -> None:
            super().__init__()
            self.lease_id = lease_id

    def show(self, frame: Frame, note: str = "") -> None:
        """`note` stands in the title in place of the legend."""
        self._frame, self._note = frame, note
        self.redraw()

    def bar(self, lease_id: str | None) -> LeaseBar | None:
        """The bar of this lease, if it is in the frame."""
        if self._frame is None or lease_id is None:
            return None
        return next((bar for bar in self._frame.bars if bar.lease_id == lease_id), None)

    @property
    def bars(self) -> tuple[LeaseBar, ...]:
        return self._frame.bars if self._frame is not None else ()

    @property
    def columns(self) -> int:
        """Cells that time has."""
        return max(1, self._drawn_width - self._gutter - 1)

    @property
    def _gutter(self) -> int:
        return 12 if self._drawn_width < 100 else 18

    @property
    def step(self) -> float:
        """Seconds in one cell."""
        return self.span / self.columns

    def edge(self, frame: Frame) -> float:
        """Time at the right edge: behind a cursor in the past there is what followed."""
        if self.right is not None:
            return self.right
        if frame.following or frame.at >= frame.t1:
            return frame.at
        return frame.at + min(_AHEAD * self.span, frame.t1 - frame.at)

    def left(self, at: float) -> float:
        """Time at the left edge. Whole cells, so that bars do not flicker as time goes on; while a
        run is followed several at once, so that most updates only let the open bars grow."""
        right = at if self._frame is None else self.edge(self._frame)
        frame = self._frame
        follows = frame is not None and frame.following and self.right is None
        jump = self.step * (max(1, self.columns // _JUMPS) if follows else 1)
        edge = ceil(right / jump) * jump
        margin = _MARGIN if self.right is None else 0
        return edge - (self.columns - margin) * self.step

    def move(self, lanes: int) -> None:
        """Select the bar that is nearest in time `lanes` lanes further down (or up)."""
        position = self._position()
        if position is None:
            self._select_any()
        else:
            lane, bar = position
            time = (bar.start + (bar.end if bar.end is not None else self._at)) / 2
            row = lane + lanes
            while 0 <= row < len(self._lanes) and not self._visible(self._lanes[row]):
                row += 1 if lanes > 0 else -1
            if 0 <= row < len(self._lanes):
                near = min(
                    self._visible(self._lanes[row]),
                    key=lambda b: max(b.start - time, time - (b.end or self._at), 0.0),
                )
                self.selected = near.lease_id
        self._scroll_to_selection()
        self.redraw()

    def along(self, bars: int) -> None:
        """Select the next (or previous) bar of the same lane."""
        position = self._position()
        if position is None:
            self._select_any()
        else:
            lane, bar = position
            members = self._lanes[lane].bars
            index = members.index(bar) + bars
            if 0 <= index < len(members):
                self.selected = members[index].lease_id
        self._scroll_to_selection()
        self.redraw()

    def reset_scroll(self) -> None:
        """Return to the lanes that are shown before anyone scrolls."""
        self._scrolled = False

    def scroll_lanes(self, by: int) -> None:
        room = max(0, self.size.height - _HEAD)
        self._top = max(0, min(self._top + by, len(self._lanes) - room))
        self._scrolled = True
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame, glyphs = self._frame, self.appearance.glyphs
        self._drawn_width = width
        rows = [title(self.appearance, "Task leases", width, self._note or self._legend(width))]
        if frame is None:
            return rows
        left = self.left(frame.at)
        rows.append(self._axis(frame, left, width))
        columns = [column.name for column in frame.run.columns]
        gap = self.step if self.mode != "lease" else 0.0
        self._lanes = [
            lane
            for lane in self._book.lay_out(frame.bars, self.mode, gap, frame.at, columns)
            if lane.bars or lane.label
        ]
        if not frame.bars:
            rows.append(Row().put(" no task holds a lease in this window", "dim").line())
            return rows
        room = max(0, height - _HEAD)
        if not self._scrolled and self.selected is None:
            self._top = len(self._lanes) if self.mode == "lease" else self._first_calls()
        self._top = max(0, min(self._top, len(self._lanes) - room))
        window = (left, self.step, self.columns)
        now = int((frame.at - left) / self.step)
        for lane in self._lanes[self._top : self._top + room]:
            row = Row().put(" ").put(fit_tail(lane.label, self._gutter - 2), "bright")
            row.put(glyphs.now, "faint")
            rows.append(row.line() + self._lane(lane, frame, window, now))
        below = len(self._lanes) - self._top - room
        if self._top > 0 and room >= _ROOM_FOR_ABOVE:
            rows[_HEAD] = Row().put(f" {self._top + 1} more lanes above", "dim").line()
        if below > 0 and room >= _ROOM_FOR_BELOW:
            rows[-1] = Row().put(f" {below + 1} more lanes below", "dim").line()
        return rows

    def _first_calls(self) -> int:
        """Where to begin until someone scrolls: columns that call nothing are soon read."""
        first = (
            index for index, lane in enumerate(self._lanes) if any(b.segments for b in lane.bars)
        )
        return max(0, next(first, 0) - 1)

    def _legend(self, width: int) -> str:
        glyphs = self.appearance.glyphs
        parts = [
            f"{glyphs.waiting * 2} waiting",
            f"{glyphs.in_provider * 2} in provider",
            *([f"{glyphs.failed * 2} no success"] if width >= 100 else []),
            f"{glyphs.own * 2} own time",
        ]
        if width >= 100:
            parts.append(f"{glyphs.open_end} open")
            parts.append(f"{glyphs.unknown_end} unknown")
            parts.append(f"lanes by {self.mode}")
        return "  ".join(parts)

    def _axis(self, frame: Frame, left: float, width: int) -> StyledLine:
        row = Row().put(
            f" {duration(self.span)} wide",
            "dim",
            self._gutter,
        )
        step = nice_step(self.span, max(2, self.columns // 14))
        tick = ceil((left - frame.t0) / step) * step
        while True:
            column = round((tick + frame.t0 - left) / self.step)
            if column >= self.columns - 6:
                break
            if tick >= 0 and column >= 0:
                row.to(self._gutter + column)
                row.put(self.appearance.glyphs.tick, "faint").put(
                    clock(tick, tenths=step < 1), "dim"
                )
            tick += step
        stretch = frame.stretch
        if stretch is None:
            return row.line()
        text = "".join(text for text, _ in row.line()).ljust(width)
        first = self._gutter + max(0, int((stretch.start - left) / self.step))
        last = max(first + 1, min(width, self._gutter + round((stretch.end - left) / self.step)))
        marked = Row().put(text[:first], "dim").put(text[first:last], "bold ink on sky")
        return marked.put(text[last:], "dim").line()

    def _lane(
        self, lane: Lane, frame: Frame, window: tuple[float, float, int], now: int
    ) -> StyledLine:
        left, step, total = window
        runs: list[tuple[str, str]] = []
        used = 0
        marker = self.appearance.glyphs.now
        for bar in _between(lane, left, left + total * step):
            for start, end, glyph, style in self._pieces(bar, frame, left, 1 / step):
                start, end = max(start, used), min(end, total)
                if end <= start:
                    continue
                if start > used:
                    runs.extend(self._space(used, start, now, marker))
                runs.append((glyph * (end - start), style))
                used = end
        if used < total:
            runs.extend(self._space(used, total, now, marker))
        return tuple(runs)

    @staticmethod
    def _space(start: int, end: int, now: int, marker: str) -> list[tuple[str, str]]:
        if not start <= now < end:
            return [(" " * (end - start), "text")]
        parts = [(" " * (now - start), "text"), (marker, "faint"), (" " * (end - now - 1), "text")]
        return [part for part in parts if part[0]]

    def _pieces(self, bar: LeaseBar, frame: Frame, left: float, scale: float) -> list[Piece]:
        """The bar cut into stretches of cells; a cell shows what its middle falls in."""
        glyphs = self.appearance.glyphs
        selected = bar.lease_id == self.selected
        unknown = bar.result == "unknown"
        end = frame.at if bar.end is None else bar.end
        first = int((bar.start - left) * scale + 0.5)
        last = max(first + 1, int((end - left) * scale + 0.5))
        ground = " on select" if selected else ""
        own = f"{'bold bright' if selected else 'grey' if unknown else 'green'}{ground}"
        pieces: list[Piece] = []
        column = first
        for segment in bar.segments:
            until = frame.at if segment.end is None else segment.end
            start = max(column, int((segment.start - left) * scale + 0.5))
            stop = min(last, int((until - left) * scale + 0.5))
            if stop <= start:
                continue
            if start > column:
                pieces.append((column, start, glyphs.own, own))
            glyph, style = self._segment_look(segment, unknown)
            if selected and style == "sky":
                style = "bright"
            pieces.append((start, stop, glyph, style + ground))
            column = stop
        if column < last:
            glyph, style = glyphs.own, own
            if not pieces and last - first == 1 and bar.segments:
                longest = max(bar.segments, key=lambda s: (s.end or frame.at) - s.start)
                glyph, style = self._segment_look(longest, unknown)
            pieces.append((column, last, glyph, style))
        if unknown:
            pieces.append((last, last + 1, glyphs.unknown_end, "bold vermillion"))
        elif bar.end is None:
            pieces.append((last, last + 1, glyphs.open_end, "bright" + ground))
        elif selected:
            pieces.append((last, last + 1, glyphs.now, "bold bright"))
        return pieces

    def _segment_look(self, segment: Segment, unknown: bool) -> tuple[str, str]:
        glyphs = self.appearance.glyphs
        if segment.kind == "waiting":
            return glyphs.waiting, "grey" if unknown else "orange"
        if segment.kind == "returned":
            return glyphs.own, "grey" if unknown else "green"
        glyph = glyphs.in_provider if segment.kind == "in_provider" else glyphs.leased
        if unknown:
            return glyph, "grey"
        if segment.outcome not in (None, "success"):
            return glyphs.failed, "vermillion"
        return glyph, "sky"

    @property
    def _at(self) -> float:
        return self._frame.at if self._frame else 0.0

    def _visible(self, lane: Lane) -> Sequence[LeaseBar]:
        """The lane's bars that are in the window."""
        left = self.left(self._at)
        return _between(lane, left, left + self.columns * self.step)

    def _position(self) -> tuple[int, LeaseBar] | None:
        for index, lane in enumerate(self._lanes):
            for bar in lane.bars:
                if bar.lease_id == self.selected:
                    return index, bar
        return None

    def _select_any(self) -> None:
        for lane in self._lanes[self._top + self._counts_above :]:
            visible = self._visible(lane)
            if visible:
                begun = [bar for bar in visible if bar.start <= self._at]
                self.selected = (begun or visible)[-1].lease_id
                return

    @property
    def _counts_above(self) -> bool:
        """Whether the first line of the lanes counts those above."""
        return self._top > 0 and self.size.height - _HEAD >= _ROOM_FOR_ABOVE

    def _scroll_to_selection(self) -> None:
        position = self._position()
        room = max(0, self.size.height - _HEAD)
        first = self._top + self._counts_above
        if position is not None and not first <= position[0] < self._top + room - (
            room >= _ROOM_FOR_BELOW
        ):
            self._top = max(0, position[0] - room // 2)
            self._scrolled = True

    def time_at(self, x: int) -> float | None:
        if self._frame is None or x < self._gutter:
            return None
        return self.left(self._at) + (x - self._gutter) * self.step

    def on_click(self, event: Click) -> None:
        if self.was_dragged:
            return
        lane = self._top + event.y - _HEAD
        if self._frame is None or event.y < _HEAD or lane >= len(self._lanes):
            return
        left = self.left(self._at)
        column = event.x - self._gutter
        for bar in self._visible(self._lanes[lane]):
            pieces = self._pieces(bar, self._frame, left, 1 / self.step)
            if pieces[0][0] <= column < pieces[-1][1]:
                self.post_message(self.Picked(bar.lease_id))
                return

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self.scroll_lanes(3)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self.scroll_lanes(-3)


def _between(lane: Lane, left: float, right: float) -> Sequence[LeaseBar]:
    """The lane's bars that reach into [left, right); they are in order and do not overlap."""
    end = bisect_right(lane.bars, right, key=_start_of)
    first = bisect_right(lane.bars, left, hi=end, key=_end_of)
    return lane.bars[first:end]


def _start_of(bar: LeaseBar) -> float:
    return bar.start


def _end_of(bar: LeaseBar) -> float:
    return float("inf") if bar.end is None else bar.end
