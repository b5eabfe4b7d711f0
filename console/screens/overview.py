"""Overview: what limits the run now, and what it looked like over the last while."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize

from console.blame import by_verdict
from console.controls import Control, bindings
from console.screens.base import (
    FrameScreen,
    growing_span,
    in_window,
    period_of,
    set_height,
)
from console.sheet import Sheet
from console.theme import Appearance
from console.widgets.blame_bar import BlameBar
from console.widgets.ceilings import CeilingPanel
from console.widgets.error_panel import ErrorPanel
from console.widgets.group_table import GroupTable
from console.widgets.header import BottleneckLine
from console.widgets.slots import Slots
from console.widgets.stacked import BlameOverTime, QueueDepth
from replay.diagnosis.verdicts import WORKING, clock
from replay.playback.focus import TasksFocus
from replay.playback.frame import Frame, Want

_SPANS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 43200.0, 86400.0)


class OverviewScreen(FrameScreen):
    """Two columns from 110×30 on, one below the other before that."""

    DEFAULT_CSS = """
    OverviewScreen #body { height: 1fr; layout: vertical; }
    OverviewScreen #left, OverviewScreen #right { width: 1fr; height: auto; }
    OverviewScreen.wide #body { layout: horizontal; }
    OverviewScreen.wide #left, OverviewScreen.wide #right { height: 1fr; }
    OverviewScreen.wide #right { width: 4fr; }
    OverviewScreen.wide #left { width: 5fr; }
    """
    page_name = "Overview"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "largest", "The stalls of what cost most", "stalls"),
        Control("plus,equals_sign", "+", "shorter", "Look at a shorter past"),
        Control("minus", "-", "longer", "Look at a longer past"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        super().__init__(appearance, run_title)
        self._bottleneck = BottleneckLine(appearance)
        self._groups = GroupTable(appearance)
        self._blame_chart = BlameOverTime(appearance)
        self._slots = Slots(appearance)
        self._depth = QueueDepth(appearance)
        self._ceilings = CeilingPanel(appearance)
        self._errors = ErrorPanel(appearance)
        self._blame = BlameBar(appearance)
        self._span = self._requested_span = 60.0
        self._arranged: tuple[int, ...] | None = None

    def compose_page(self) -> ComposeResult:
        yield self._bottleneck
        yield self._errors
        with Horizontal(id="body"):
            with Vertical(id="right"):
                yield self._ceilings
            with Vertical(id="left"):
                yield self._groups
                yield self._depth
                yield self._blame_chart
                yield self._slots
        yield self._blame

    def want(self) -> Want:
        width = self.size.width // 2 if self.has_class("wide") else self.size.width
        self._requested_span = self._shown_span(self.frame)
        return in_window(
            Want(
                samples=width,
                span=self._requested_span,
                standing=True,
                queue=True,
                blame=True,
            ),
            self.console.window,
        )

    def _shown_span(self, frame: Frame | None) -> float:
        return self._span if frame is None else growing_span(frame, self._span)

    def show_page(self, frame: Frame) -> None:
        if self._shown_span(frame) != self._requested_span:
            self.console.request_frame()
        period = period_of(frame, self.want().span)
        seconds, blamed = 0.0, period
        if frame.stretch is not None:
            stretch = frame.stretch
            seconds = stretch.seconds
            begin, end = clock(stretch.start - frame.t0), clock(stretch.end - frame.t0)
            blamed = f"{begin} to {end}, seconds of it"
            frame = replace(
                frame,
                bottleneck=stretch.bottleneck,
                blame=stretch.shares,
                answer=stretch.answer,
                standing=(),
            )
        self._arrange(frame)
        self._bottleneck.show(frame)
        self._errors.show(frame)
        self._groups.show(frame)
        self._ceilings.show(frame, period)
        self._blame_chart.show(frame, period)
        self._slots.show(frame)
        self._depth.show(frame, period)
        self._blame.show(frame.blame, blamed, seconds)

    def sheet(self, frame: Frame) -> Sheet:
        """The series of the charts, a row for each sample."""
        names = ["at"]
        columns: list[tuple[float, ...]] = [
            tuple(round(time - frame.t0, 3) for time in frame.sample_times)
        ]
        for verdict, values in frame.blame_series:
            names.append(f"blame {verdict}")
            columns.append(values)
        for group, depth in zip(frame.groups, frame.queue_depth, strict=False):
            names.append(f"queued {group.label}")
            columns.append(depth)
        for row in frame.ceilings:
            resource = row.ceiling.resource
            names += [f"{resource} {what}" for what in ("limit", "in flight", "waiting")]
            columns += [row.limits, row.in_flight, row.waiters]
        return Sheet(tuple(names), tuple(zip(*columns, strict=False)))

    def on_resize(self, event: Resize) -> None:
        super().on_resize(event)
        if self.frame is not None:
            self._arrange(self.frame)

    def _arrange(self, frame: Frame) -> None:
        """Give each panel its lines, by what there is to show and how much room there is."""
        width, height = self.size
        groups, ceilings = max(1, len(frame.groups)), max(1, len(frame.ceilings))
        slots = len(frame.limits)
        notes = self._notes.lines_for(width) + (frame.stretch is not None)
        legend = self._blame.legend_lines(frame.blame, width) if frame.blame else 1
        errors = self._error_lines(frame, height)
        key = (width, height, groups, ceilings, slots, notes, legend, errors)
        if key == self._arranged:
            return
        self._arranged = key
        wide = width >= 110 and height >= 30
        self.set_class(wide, "wide")
        set_height(self._bottleneck, self._answer_lines(height))
        set_height(self._errors, errors)
        most = 4 if height >= 30 else 2 if height >= 24 else 1
        blame = 2 + min(legend, most) + (1 if height >= 50 else 0)
        if height < 14:
            blame = 2
        set_height(self._blame, blame)
        body = height - 2 - notes - self._answer_lines(height) - errors - 1 - blame - 1
        if wide:
            self._arrange_wide(body, groups, ceilings, slots)
        else:
            self._arrange_narrow(body, groups, ceilings)

    @staticmethod
    def _error_lines(frame: Frame, height: int) -> int:
        """Lines for what failed: none on a small screen, where the answer begins with it."""
        most = 5 if height >= 36 else 3 if height >= 28 else 2 if height >= 22 else 0
        return min(most, ErrorPanel.lines_for(frame))

    @staticmethod
    def _answer_lines(height: int) -> int:
        """Lines for what limits the run: the short form, and more of it where there is room."""
        return 1 if height < 16 else 2 if height < 36 else 4

    def _arrange_wide(self, body: int, groups: int, ceilings: int, slots: int) -> None:
        set_height(self._ceilings, body)
        table = min(groups + 3, body // 2)
        set_height(self._groups, table)
        left = body - table
        shown = slots + 2 if slots and left - slots - 2 >= 6 else 0
        set_height(self._slots, shown)
        left -= shown
        depth = left // 2 if left >= 16 else 0
        set_height(self._depth, depth)
        set_height(self._blame_chart, left - depth)

    def _arrange_narrow(self, body: int, groups: int, ceilings: int) -> None:
        set_height(self._slots, 0)
        set_height(self._depth, 0)
        compact = min(ceilings + 1, max(2, body // 2))
        table = min(groups + 2, max(2, body - compact))
        spare = body - compact - table
        blocks = min(8, spare) if spare >= 4 else 0
        spare -= blocks
        if spare >= 3 * ceilings:
            compact += spare
            spare = 0
        set_height(self._ceilings, compact if body >= 2 else 0)  # more than its title
        set_height(self._groups, table + max(0, spare) if body - compact >= 2 else 0)
        set_height(self._blame_chart, blocks)

    def action_largest(self) -> None:
        """The stalls of what took most capacity from work."""
        shares = by_verdict(self.frame.blame) if self.frame is not None else []
        lost = [share for share in shares if share.verdict != WORKING]
        if lost:
            self.console.go_filtered("stalls", f"verdict:{lost[0].verdict}")

    def on_blame_bar_picked(self, message: BlameBar.Picked) -> None:
        if message.verdict != WORKING:
            self.console.go_filtered("stalls", f"verdict:{message.verdict}")

    def on_group_table_picked(self, message: GroupTable.Picked) -> None:
        self.console.open_page(TasksFocus(group=message.key), message.label)

    def action_shorter(self) -> None:
        self._change_span(-1)

    def action_longer(self) -> None:
        self._change_span(1)

    def _change_span(self, by: int) -> None:
        index = _SPANS.index(self._span) + by
        self._span = _SPANS[max(0, min(index, len(_SPANS) - 1))]
        self.console.leave_window()
        self.console.request_frame()
