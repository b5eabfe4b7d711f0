"""Compare: two runs or artifacts side by side."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.screen import ModalScreen

from console.controls import Control, bindings
from console.playback_mode import is_too_small
from console.screens.base import TooSmall
from console.screens.help import HelpScreen
from console.theme import Appearance
from console.widgets.compare_lines import compare_lines
from console.widgets.header import Footer
from console.widgets.line_widget import LineWidget
from console.widgets.pages import Pages
from replay.metrics.compare import Comparison


class CompareScreen(ModalScreen[None]):
    """What the comparison says, the most important first; dismissed with nothing."""

    page_name = "Compare"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("p", "p", "progress", "Align by progress, or at the start", "by progress"),
        Control("w", "w", "all_rows", "Only what differs, or all", "all"),
        Control("down,j", "↓", "scroll(1)", "A line down"),
        Control("up,k", "↑", "scroll(-1)", "A line up"),
        Control("pagedown,space", "PgDn", "scroll_page(1)", "A screen down", "page"),
        Control("pageup", "PgUp", "scroll_page(-1)", "A screen up"),
        Control("home", "Home", "scroll(-1000000)", "To the top"),
        Control("end", "End", "scroll(1000000)", "To the end"),
        Control("question_mark", "?", "help", "This help", "help"),
        Control("escape,q,8", "Esc", "dismiss", "Back to the list", "back"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = """
    CompareScreen { background: $background; layout: vertical; overflow: hidden hidden; }
    CompareScreen #page { height: 1fr; overflow: hidden hidden; }
    CompareScreen.small #page, CompareScreen.small Footer { display: none; }
    CompareScreen.small TooSmall { display: block; }
    """

    def __init__(self, appearance: Appearance, comparison: Comparison) -> None:
        super().__init__()
        self.appearance = appearance
        self._comparison = comparison
        self._by_progress = False
        self._differing_only = True
        self._pages = Pages(appearance, [], ground="text")
        self._footer = Footer(appearance, (), "")
        self._too_small = TooSmall(appearance)

    def compose(self) -> ComposeResult:
        with Vertical(id="page"):
            yield self._pages
        yield self._too_small
        yield self._footer

    def on_mount(self) -> None:
        pinned = tuple(control for control in self.controls if control.brief in ("help", "back"))
        self._footer.show(tuple(c for c in self.controls if c not in pinned), pinned)

    def on_resize(self, event: Resize) -> None:
        self.set_class(is_too_small(*event.size), "small")
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        width = self._pages.size.width or self.size.width
        lines = compare_lines(
            self._comparison, self.appearance, width, self._by_progress, self._differing_only
        )
        self._pages.replace_lines(lines)

    def redraw_all(self) -> None:
        for widget in self.query(LineWidget):
            widget.redraw()

    def action_progress(self) -> None:
        self._by_progress = not self._by_progress
        self._show()

    def action_all_rows(self) -> None:
        self._differing_only = not self._differing_only
        self._show()

    def action_scroll(self, by: int) -> None:
        self._pages.scroll_lines(by)

    def action_scroll_page(self, by: int) -> None:
        self._pages.scroll_lines(by * self._pages.page)

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self.appearance, self.page_name, self.controls))
