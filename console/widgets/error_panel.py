"""What has failed so far, the costliest first; the page of errors has all of it."""

from __future__ import annotations

from collections.abc import Sequence

from console.formatting import count, failure_line
from console.paint import Row, StyledLine
from console.theme import Appearance
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.playback.frame import Frame
from replay.state.model import Failure

MOST_SHOWN = 4


class ErrorPanel(LineWidget):
    """Without errors it takes no line."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="errors")
        self._failures: tuple[Failure, ...] = ()
        self._t0 = 0.0

    @staticmethod
    def lines_for(frame: Frame) -> int:
        """Lines that it takes where there is room."""
        return 1 + min(MOST_SHOWN, len(frame.errors)) if frame.errors else 0

    def show(self, frame: Frame) -> None:
        self._failures, self._t0 = frame.errors, frame.t0
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        shown = self._failures[: max(0, height - 1)]
        more = len(self._failures) - len(shown)
        note = f"{count(more)} more" if more and shown else ""
        rows = [title(self.appearance, "Errors", width, note)]
        for failure in shown:
            style = "vermillion" if failure.rows_dropped else "orange"
            line = failure_line(failure, self._t0)
            rows.append(Row().put(" ").put(line, style, max(0, width - 1)).line())
        return rows
