"""Everything that is drawn can be drawn at every size, whatever is in the frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from textual.geometry import Region, Size
from textual.widget import Widget

import console.app  # noqa: F401
from console.controls import GENERAL, OUTPUT, SCREENS, TIME
from console.paint import Row
from console.playback_mode import PlaybackView, mode_of
from console.screens.base import TooSmall
from console.screens.dialogs import FixedLines
from console.screens.event_detail import event_lines
from console.screens.help import help_lines
from console.screens.leases import LeasesScreen
from console.screens.output import output_lines
from console.theme import Appearance
from console.widgets.blame_bar import BlameBar
from console.widgets.ceilings import CeilingPanel
from console.widgets.crumbs import Crumbs, MarkedStretch
from console.widgets.error_panel import ErrorPanel
from console.widgets.event_table import EventTable
from console.widgets.group_table import GroupTable
from console.widgets.header import BottleneckLine, Footer, Header, Notes
from console.widgets.lease_detail import LeaseDetail
from console.widgets.line_widget import LineWidget
from console.widgets.pages import Pages
from console.widgets.run_list import RunDetail, RunList
from console.widgets.select_table import Cell, FactList, SelectTable, TableColumn, TableRow
from console.widgets.slots import Slots
from console.widgets.stacked import BlameOverTime, QueueDepth, Stacked
from console.widgets.stall_list import StallDetail, StallList, StallSums
from console.widgets.timeline import MODES, Timeline
from replay.playback.frame import Frame
from tests.console.frame_parts import make_stretch
from tests.console.odd_frames import ODD
from tests.console.run_entries import RUNS
from tests.effort import effort

FRAMES = {name: make() for name, make in ODD.items()}
WIDTHS = effort(
    (1, 2, 3, 8, 16, 40, 64, 110, 200),
    (*range(1, 14), 16, 21, 34, 39, 40, 41, 63, 64, 80, 99, 100, 110, 120, 200),
)
HEIGHTS = effort((1, 2, 3, 4, 5, 8, 24, 60), (*range(1, 10), 12, 16, 24, 60))

Act = Callable[[], object]


def header(appearance: Appearance, frame: Frame) -> tuple[Header, list[Act]]:
    widget = Header(appearance, frame.run.name)
    view = PlaybackView(mode_of(frame, True), 0.25, frame.at - frame.t0, 1e9, "a problem")
    return widget, [lambda: widget.show(frame, view)]


def notes(appearance: Appearance, frame: Frame) -> tuple[Notes, list[Act]]:
    widget = Notes(appearance)
    return widget, [lambda: widget.show(frame, "the file is gone " * 9)]


def footer(appearance: Appearance, frame: Frame) -> tuple[Footer, list[Act]]:
    widget = Footer(appearance, SCREENS, "Leases")
    controls = OUTPUT + LeasesScreen.controls + TIME
    return widget, [lambda: widget.show(controls, GENERAL)]


def timeline(appearance: Appearance, frame: Frame) -> tuple[Timeline, list[Act]]:
    widget = Timeline(appearance)

    def begin(mode: int) -> None:
        widget.mode = MODES[mode]
        widget.reset_scroll()
        widget.redraw()

    acts: list[Act] = [lambda: widget.show(frame)]
    for mode in range(len(MODES)):
        acts += [
            lambda mode=mode: begin(mode),  # type: ignore[misc]
            *(lambda by=by: widget.move(by) for by in (1, 1, 9, -3)),
            lambda: widget.along(1),
            lambda: widget.along(-2),
            *(lambda by=by: widget.scroll_lanes(by) for by in (-3, 99, -2)),
        ]
    return widget, acts


def lease_detail(appearance: Appearance, frame: Frame) -> tuple[LeaseDetail, list[Act]]:
    widget = LeaseDetail(appearance)
    bars = [None, *frame.bars[:2], *frame.bars[-2:]]
    return widget, [lambda bar=bar: widget.show(frame, bar) for bar in bars]  # type: ignore[misc]


def stall_list(appearance: Appearance, frame: Frame) -> tuple[StallList, list[Act]]:
    widget = StallList(appearance)
    return widget, [
        lambda: widget.show(frame),
        *(lambda by=by: widget.move(by) for by in (1, 9, -1)),
    ]


def stall_detail(appearance: Appearance, frame: Frame) -> tuple[StallDetail, list[Act]]:
    widget = StallDetail(appearance)
    rows = (None, *frame.verdicts)
    return widget, [lambda row=row: widget.show(frame, row) for row in rows]  # type: ignore[misc]


def stall_sums(appearance: Appearance, frame: Frame) -> tuple[StallSums, list[Act]]:
    widget = StallSums(appearance)
    return widget, [lambda: widget.show(frame.verdicts), lambda: widget.show(())]


def pages(appearance: Appearance, frame: Frame) -> tuple[Pages, list[Act]]:
    lines = help_lines(appearance, "Leases", LeasesScreen.controls)
    for row in frame.events[:3]:
        lines += event_lines(appearance, row, frame.t0)
    widget = Pages(appearance, lines)
    return (
        widget,
        [
            widget.redraw,
            *(lambda by=by: widget.scroll_lines(by) for by in (3, 999, -2)),
            lambda: widget.show(lines[:2]),
            lambda: widget.show(output_lines(appearance, Path("nowhere"))),
            widget.show_end,
            lambda: widget.scroll_lines(widget.page),
        ],
    )


def lines(appearance: Appearance, frame: Frame) -> tuple[FixedLines, list[Act]]:
    widget = FixedLines(appearance, [(Row().put(frame.run.name).line(), ""), ((), "")])
    return widget, [widget.redraw, lambda: widget.set_line(1, Row().put(frame.run.name * 9).line())]


def too_small(appearance: Appearance, frame: Frame) -> tuple[TooSmall, list[Act]]:
    widget = TooSmall(appearance)
    return widget, [widget.redraw]


def blame(appearance: Appearance, frame: Frame) -> tuple[BlameBar, list[Act]]:
    widget = BlameBar(appearance)
    return widget, [lambda: widget.show(frame.blame, "last 60 s")]


def plain(
    kind: type[BottleneckLine | ErrorPanel | Slots | EventTable | GroupTable],
) -> Callable[[Appearance, Frame], tuple[LineWidget, list[Act]]]:
    def make(appearance: Appearance, frame: Frame) -> tuple[LineWidget, list[Act]]:
        widget = kind(appearance)
        return widget, [lambda: widget.show(frame)]

    return make


def over_time(
    kind: type[CeilingPanel | BlameOverTime | QueueDepth],
) -> Callable[[Appearance, Frame], tuple[LineWidget, list[Act]]]:
    def make(appearance: Appearance, frame: Frame) -> tuple[LineWidget, list[Act]]:
        widget = kind(appearance)
        return widget, [lambda: widget.show(frame, "last 60 s")]

    return make


def run_list(appearance: Appearance, frame: Frame) -> tuple[RunList, list[Act]]:
    widget = RunList(appearance)
    return widget, [
        lambda: widget.show(RUNS, 9, ""),
        *(lambda by=by: widget.move(by) for by in (1, 9, -1)),
        lambda: widget.show((), 9, "x"),
    ]


def run_detail(appearance: Appearance, frame: Frame) -> tuple[RunDetail, list[Act]]:
    widget = RunDetail(appearance)
    return widget, [
        *(lambda entry=entry: widget.show(entry, "a cause", "") for entry in RUNS),
        lambda: widget.show(None, "", "a problem " * 9),
    ]


def select_table(appearance: Appearance, frame: Frame) -> tuple[SelectTable, list[Act]]:
    columns = (TableColumn("group", 0), TableColumn("queued", 8), TableColumn("why", 9, "<", 40))
    widget = SelectTable(appearance, "Queue", columns, "nothing")
    rows = [
        TableRow(row.key, (Cell(row.label), Cell(str(row.queued), "text", row.queued), Cell("x")))
        for row in frame.groups
    ]
    return widget, [
        lambda: widget.show(rows, "a note"),
        *(lambda by=by: widget.move(by) for by in (1, 9, -1)),
        widget.sort_next,
        widget.sort_next,
    ]


def facts(appearance: Appearance, frame: Frame) -> tuple[FactList, list[Act]]:
    widget = FactList(appearance)
    lines = [("name", frame.run.name), ("long", "words " * 99)]
    return widget, [lambda: widget.show("A title", frame.run.name, lines)]


def crumbs(appearance: Appearance, frame: Frame) -> tuple[Crumbs, list[Act]]:
    widget = Crumbs(appearance)
    return widget, [
        lambda: widget.show(("Queue", frame.run.name)),
        lambda: widget.show(("Queue", frame.run.name, "row 17 " * 9)),
    ]


def marked_stretch(appearance: Appearance, frame: Frame) -> tuple[MarkedStretch, list[Act]]:
    widget = MarkedStretch(appearance)
    return widget, [
        lambda: widget.show(frame),
        lambda: widget.show(replace(frame, stretch=make_stretch(frame))),
    ]


DRAWINGS: dict[type[LineWidget], Callable[[Appearance, Frame], tuple[LineWidget, list[Act]]]] = {
    Header: header,
    Notes: notes,
    Footer: footer,
    Timeline: timeline,
    LeaseDetail: lease_detail,
    StallList: stall_list,
    StallDetail: stall_detail,
    StallSums: stall_sums,
    Pages: pages,
    FixedLines: lines,
    TooSmall: too_small,
    BlameBar: blame,
    BottleneckLine: plain(BottleneckLine),
    ErrorPanel: plain(ErrorPanel),
    Slots: plain(Slots),
    EventTable: plain(EventTable),
    GroupTable: plain(GroupTable),
    CeilingPanel: over_time(CeilingPanel),
    BlameOverTime: over_time(BlameOverTime),
    Crumbs: crumbs,
    MarkedStretch: marked_stretch,
    QueueDepth: over_time(QueueDepth),
    RunList: run_list,
    RunDetail: run_detail,
    SelectTable: select_table,
    FactList: facts,
}


def kinds_of(kind: type[LineWidget]) -> Iterator[type[LineWidget]]:
    for below in kind.__subclasses__():
        yield below
        yield from kinds_of(below)


def test_no_drawing_is_left_out() -> None:
    assert set(kinds_of(LineWidget)) - {Stacked} == set(DRAWINGS)


@pytest.fixture
def size(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size that a layout would have given to every widget."""
    given = [1, 1]
    monkeypatch.setattr(Widget, "size", property(lambda self: Size(*given)))
    monkeypatch.setattr(Widget, "app", SimpleNamespace(size=Size(40, 10)))
    monkeypatch.setattr(Widget, "refresh", lambda self, *regions: None)
    return given


@pytest.mark.parametrize("ascii_only", [False, True], ids=["unicode", "ascii"])
@pytest.mark.parametrize("kind", DRAWINGS, ids=lambda kind: kind.__name__)
def test_every_drawing_at_every_size(
    kind: type[LineWidget], ascii_only: bool, size: list[int]
) -> None:
    """A sample shows every other state with each of the two sets of characters, and draws at every
    other size."""
    names = list(FRAMES)[effort(ascii_only, 0) :: effort(2, 1)]
    for name, frame in ((name, FRAMES[name]) for name in names):
        widget, acts = DRAWINGS[kind](
            Appearance(ascii_only=ascii_only, colour=not ascii_only), frame
        )
        for number, width in enumerate(WIDTHS):
            for height in HEIGHTS[effort(number % 2, 0) :: effort(2, 1)]:
                size[:] = width, height
                where = f"{name} {width}x{height}"
                try:
                    for act in acts:
                        act()
                    strips = widget.render_lines(Region(0, 0, width, height))
                except Exception as error:
                    raise AssertionError(where) from error
                assert len(strips) == height, where
                for text in (strip.text for strip in strips):
                    assert cell_len(text) == width, (where, text)
                    assert not ascii_only or text.isascii(), (where, text)
                    assert text.isprintable(), (where, text)
