"""`FrameScreen`, the base of all pages: header, notes, footer, wanted data and keys."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import ceil
from typing import ClassVar, Protocol, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget

from console.controls import GENERAL, LISTS, SCREENS, TIME, Control
from console.filter_history import FilterHistory
from console.formatting import duration
from console.paint import Row, StyledLine
from console.playback_mode import MIN_SIZE, PlaybackView, is_too_small
from console.sheet import Sheet
from console.span_compositor import SpanCompositor
from console.theme import Appearance
from console.widgets.crumbs import MarkedStretch
from console.widgets.header import Footer, Header, Notes
from console.widgets.line_widget import LineWidget
from replay.diagnosis.verdicts import clock
from replay.playback.focus import Focus
from replay.playback.frame import Frame, Want

_GROWTH_SECONDS = 5.0
_LEAST_SAMPLES = 20


class Console(Protocol):
    """What a page needs of its app."""

    @property
    def extra_controls(self) -> tuple[Control, ...]:
        """Controls that this run has beyond those of every run."""

    @property
    def filter_history(self) -> FilterHistory:
        """Filters that were used before."""

    def request_frame(self) -> None:
        """Ask for a frame now instead of at the next tick."""

    def seek_time(self, time: float) -> None:
        """Move the cursor to an instant, in monotonic seconds of the producer."""

    def seek_ordinal(self, ordinal: int) -> None:
        """Move the cursor to the event with this ordinal."""

    def seek_match(self, condition: str, direction: int) -> None:
        """Move the cursor to the next event (1), or the one before (-1), that meets this condition
        on the view `events`."""

    def action_step(self, delta: int) -> None:
        """Move the cursor by so many events, back where it is negative."""

    def action_go(self, page: str) -> None:
        """Show another page."""

    def leave_window(self) -> None:
        """Show the past of the cursor again, unless a stretch is marked."""

    def go_filtered(self, page: str, where: str) -> None:
        """Show another page with this filter."""

    def show_between(self, start: float, end: float) -> None:
        """Show this time on the timeline, with the cursor at its begin."""

    def open_page(self, focus: Focus, name: str) -> None:
        """Enter the page about one thing; `name` is its crumb."""

    @property
    def window(self) -> tuple[float, float] | None:
        """The time that charts show while a stretch is marked, in time of the producer; None: the
        past of the cursor."""


class TooSmall(LineWidget):
    """Shown in place of the page while the terminal is too small."""

    DEFAULT_CSS = "TooSmall { height: 1fr; display: none; }"

    def draw(self, width: int, height: int) -> list[StyledLine]:
        columns, rows = MIN_SIZE
        text = f"needs {columns}×{rows}, has {self.app.size.width}×{self.app.size.height}"
        return [Row().put(text, "bold bright", width).line()]


class FrameScreen(Screen[None]):
    """A page that draws frames; `controls` are its own keys, for bindings and help."""

    DEFAULT_CSS = """
    FrameScreen { background: $background; layout: vertical; overflow: hidden hidden; }
    FrameScreen #page { height: 1fr; overflow: hidden hidden; }
    FrameScreen.small #page, FrameScreen.small Header, FrameScreen.small Footer,
    FrameScreen.small Notes { display: none; }
    FrameScreen.small TooSmall { display: block; }
    """
    page_name: ClassVar[str] = ""
    controls: ClassVar[tuple[Control, ...]] = ()

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        super().__init__()
        self._compositor = SpanCompositor()
        self.appearance = appearance
        self._header = Header(appearance, run_title)
        self._notes = Notes(appearance)
        self._stretch = MarkedStretch(appearance)
        self._footer = Footer(appearance, (*LISTS, *SCREENS), self.page_name)
        self._too_small = TooSmall(appearance)
        self.frame: Frame | None = None

    @property
    def console(self) -> Console:
        return cast(Console, self.app)

    def compose(self) -> ComposeResult:
        yield self._header
        yield self._notes
        yield self._stretch
        with Vertical(id="page"):
            yield from self.compose_page()
        yield self._too_small
        yield self._footer

    def compose_page(self) -> ComposeResult:
        raise NotImplementedError

    def on_mount(self) -> None:
        self._footer.show(self.console.extra_controls + self.controls + TIME, GENERAL)

    def want(self) -> Want:
        """Return what the next frame must hold for this page at its present size."""
        raise NotImplementedError

    def show(self, frame: Frame, view: PlaybackView) -> None:
        """Draw a frame; each widget repaints only the lines that changed."""
        self.frame = frame
        self.show_view(frame, view)
        self._stretch.show(frame)
        self.show_page(frame)

    def show_view(self, frame: Frame, view: PlaybackView) -> None:
        """Draw only the header and notes, whose clock goes on between frames."""
        self._header.show(frame, view)
        self._notes.show(frame, view.problem)

    def markdown(self, frame: Frame) -> str:
        """What the page says, to be passed on: here what limits the run."""
        limit = frame.bottleneck
        name = frame.run.name or frame.run.run_id
        sentence = limit.sentence if limit is not None else "Nothing limits the run here."
        return f"**{name}** at {clock(frame.at - frame.t0)}: {sentence}"

    def show_page(self, frame: Frame) -> None:
        raise NotImplementedError

    def sheet(self, frame: Frame) -> Sheet:
        """What the page shows as rows: here the facts of each group."""
        return Sheet.of([asdict(group) for group in frame.groups])

    def span_in_view(self, frame: Frame) -> tuple[float, float]:
        """The time that the charts of this page show, in time of the producer."""
        want = self.want()
        edge = frame.at if want.until is None else want.until
        return edge - want.span, edge

    def redraw_all(self) -> None:
        """Draw everything again, after a change of colours."""
        for widget in self.query(LineWidget):
            widget.redraw()

    def on_resize(self, event: Resize) -> None:
        self.set_class(is_too_small(*event.size), "small")
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        """Divide the new room: a page whose frame does not change gets no other occasion."""
        if self.frame is not None:
            self._notes.fit_terminal()
            self.show_page(self.frame)
        self.console.request_frame()

    def on_screen_resume(self) -> None:
        for widget in self.query(LineWidget):  # another page was on the terminal meanwhile
            widget.refresh()
        self.console.request_frame()


def set_height(widget: Widget, height: int) -> None:
    """A fixed height; 0 hides the widget."""
    widget.display = height > 0
    if height > 0 and (widget.styles.height is None or widget.styles.height.value != height):
        widget.styles.height = height


def growing_span(frame: Frame, span: float) -> float:
    """A run younger than `span` fills its charts, in steps that keep them from creeping."""
    past = ceil((frame.at - frame.t0) / _GROWTH_SECONDS) * _GROWTH_SECONDS
    return min(span, max(_GROWTH_SECONDS, past))


def samples_for(width: int, span: float) -> int:
    """Samples for a chart of so many cells: series are known by the second, and finer ones only
    make a chart creep."""
    return max(_LEAST_SAMPLES, min(width, int(span)))


def in_window(want: Want, window: tuple[float, float] | None) -> Want:
    """The same of the window, where there is one, with as many samples as make sense."""
    if window is not None:
        want = replace(want, span=max(0.001, window[1] - window[0]), until=window[1])
    return replace(want, samples=samples_for(want.samples, want.span))


def period_of(frame: Frame, span: float) -> str:
    """The time that charts show: the last while, or from when to when."""
    if frame.edge is None:
        return f"last {duration(span)}"
    return f"{clock(max(0.0, frame.edge - span - frame.t0))} to {clock(frame.edge - frame.t0)}"
