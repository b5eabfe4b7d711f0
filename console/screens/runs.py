"""Runs: what is running, what was recorded, and how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.screen import ModalScreen
from textual.worker import WorkType

from console.controls import Control, bindings
from console.formatting import byte_count
from console.outcome import OpenRun
from console.paint import clean
from console.playback_mode import is_too_small
from console.screens.base import TooSmall, set_height
from console.screens.help import HelpScreen
from console.screens.questions import ConfirmDialog, FilterDialog
from console.theme import Appearance
from console.widgets.header import Footer
from console.widgets.line_widget import LineWidget
from console.widgets.run_list import RunDetail, RunList
from engine.events import UserError
from replay.recording.filters import RUNS
from replay.runs.catalogue import RunEntry, delete_run, list_entries, top_cause
from replay.runs.stop import stop_run
from replay.sources.base import SourceError

if TYPE_CHECKING:
    from replay.metrics.compare import Comparison

REFRESH_SECONDS = 2.0
_DETAIL, _ROOMY = 3, 16


def compare_runs(a: Path, b: Path) -> Comparison:
    """What `headgate compare` tells."""
    from replay.metrics.compare import compare

    return compare(str(a), str(b), lambda sentence: None)


@dataclass(frozen=True, slots=True)
class RunActions:
    """What the page reads and does; tests put others in their place."""

    entries: Callable[[], list[RunEntry]] = list_entries
    cause: Callable[[RunEntry], str] = top_cause
    stop: Callable[[Path], str] = stop_run
    delete: Callable[[RunEntry], None] = delete_run
    compare: Callable[[Path, Path], Comparison] = compare_runs
    refresh_seconds: float | None = REFRESH_SECONDS
    local: Callable[[float], time.struct_time] = time.localtime
    now: Callable[[], float] = time.time


class RunsScreen(ModalScreen[OpenRun | None]):
    """Dismissed with the run that is to be opened, or None."""

    page_name = "Runs"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "open", "Open this run", "open"),
        Control("slash", "/", "filter", "Filter the list as you type", "filter"),
        Control("space", "space", "mark", "Mark it; a second mark compares the two", "mark"),
        Control("c", "c", "compare", "Compare the two that are marked again", "compare"),
        Control("s", "s", "stop", "Stop this live run, after a question", "stop"),
        Control("d", "d", "delete", "Delete this run, after a question", "delete"),
        Control("down,j", "↓", "move(1)", "The next run"),
        Control("up,k", "↑", "move(-1)", "The run before"),
        Control("pagedown", "PgDn", "move_page(1)", "A screen further"),
        Control("pageup", "PgUp", "move_page(-1)", "A screen back"),
        Control("home", "Home", "move(-1000000)", "The first run"),
        Control("end", "End", "move(1000000)", "The last run"),
        Control("question_mark", "?", "help", "This help", "help"),
        Control("escape", "Esc", "back", "Clear the filter; without one, back"),
        Control("q", "q", "leave", "Back to the run, or quit", "quit"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = """
    RunsScreen { background: $background; layout: vertical; overflow: hidden hidden; }
    RunsScreen #page { height: 1fr; overflow: hidden hidden; }
    RunsScreen RunList { height: 1fr; }
    RunsScreen.small #page, RunsScreen.small Footer { display: none; }
    RunsScreen.small TooSmall { display: block; }
    """

    def __init__(
        self,
        appearance: Appearance,
        actions: RunActions | None = None,
        problem: str = "",
        mark: str = "",
        heading: str = "Runs",
    ) -> None:
        """Create the page.

        Args:
            appearance: How it is drawn.
            actions: What it reads and does.
            problem: A sentence to begin with.
            mark: Id of a run that is to be compared with another.
            heading: Title of the list.
        """
        super().__init__()
        self.appearance = appearance
        self._actions = RunActions() if actions is None else actions
        self._list = RunList(appearance, self._actions.local, heading)
        self._detail = RunDetail(appearance)
        self._footer = Footer(appearance, (), "")
        self._too_small = TooSmall(appearance)
        self._entries: list[RunEntry] = []
        self._filter = ""
        self._causes: dict[Path, str] = {}
        self._problem = problem
        self._mark = mark
        self.loaded = asyncio.Event()
        """Set once the list has been read."""

    def compose(self) -> ComposeResult:
        with Vertical(id="page"):
            yield self._list
            yield self._detail
        yield self._too_small
        yield self._footer

    def on_mount(self) -> None:
        pinned = tuple(c for c in self.controls if c.brief in ("help", "quit"))
        self._footer.show(tuple(c for c in self.controls if c not in pinned), pinned)
        self._work(self.reload, "runs")
        if self._actions.refresh_seconds is not None:
            self.set_interval(self._actions.refresh_seconds, self._refresh)

    def _refresh(self) -> None:
        self._work(self.reload, "runs")

    def _work(self, work: WorkType[None], group: str) -> None:
        """Run it in the background, in place of what its group was at."""
        self.run_worker(work, name=group, group=group, exclusive=True)

    async def reload(self) -> None:
        """Read the list again."""
        self._entries = await asyncio.to_thread(self._actions.entries)
        marked = next((run.path for run in self._entries if run.run_id == self._mark), None)
        if self._mark:
            self._mark = ""
            self._problem = "Mark the other run with the space bar to compare them."
            if marked is None:
                self._problem = "This run is not in the list: mark two others to compare them."
            else:
                self._list.marked = (marked,)
        self.loaded.set()
        self._show()

    def _show(self) -> None:
        matches = RUNS.predicate(self._filter)
        now = self._actions.now()
        shown = [entry for entry in self._entries if matches(entry.row(now))]
        paths = {entry.path for entry in self._entries}
        self._list.marked = tuple(path for path in self._list.marked if path in paths)
        self._list.show(shown, len(self._entries), self._filter)
        self._show_detail()

    def _show_detail(self) -> None:
        entry = self._list.at_cursor()
        set_height(self._detail, _DETAIL if self.size.height >= _ROOMY or self._problem else 1)
        cause = "" if entry is None else self._causes.get(entry.path, "")
        self._detail.show(entry, cause, self._problem)
        if entry is not None and entry.path not in self._causes and not entry.live:
            self._work(partial(self._read_cause, entry), "cause")

    async def _read_cause(self, entry: RunEntry) -> None:
        """Once the cursor rests on a run: not for each that it passes."""
        await asyncio.sleep(0.15 if self._actions.refresh_seconds is not None else 0)
        self._causes[entry.path] = await asyncio.to_thread(self._actions.cause, entry)
        self._show_detail()

    def redraw_all(self) -> None:
        for widget in self.query(LineWidget):
            widget.redraw()

    def on_resize(self, event: Resize) -> None:
        self.set_class(is_too_small(*event.size), "small")
        self.call_after_refresh(self._show)

    def on_run_list_picked(self, message: RunList.Picked) -> None:
        again = self._list.selected == message.path
        self._list.selected = message.path
        self.action_move(0)
        if again:
            self.action_open()

    def action_move(self, by: int) -> None:
        self._problem = ""
        self._list.move(by)
        self._show_detail()

    def action_move_page(self, by: int) -> None:
        self.action_move(by * self._list.page)

    def action_open(self) -> None:
        entry = self._list.at_cursor()
        if entry is None:
            return
        if entry.state in ("away", "unreadable"):
            self._tell(f"Its folder is {entry.state}: {entry.path}")
        else:
            self.dismiss(OpenRun(entry.path, entry.live))

    def action_filter(self) -> None:
        dialog = FilterDialog(self.appearance, RUNS, self._filter, self._apply_filter)
        self.app.push_screen(
            dialog, lambda text: None if text is None else self._apply_filter(text)
        )

    def _apply_filter(self, text: str) -> None:
        self._filter = text
        self._show()

    def action_mark(self) -> None:
        entry, marked = self._list.at_cursor(), self._list.marked
        if entry is None:
            return
        if entry.path in marked:
            self._list.marked = tuple(path for path in marked if path != entry.path)
        else:
            self._list.marked = (*marked, entry.path)[-2:]
        self.action_move(0)
        if len(self._list.marked) == 2 and entry.path in self._list.marked:
            self.action_compare()

    def action_compare(self) -> None:
        marked = self._list.marked
        if len(marked) < 2:
            self._tell("Mark two runs with the space bar, then compare them.")
            return
        self._work(partial(self._compare, *marked), "compare")

    async def _compare(self, a: Path, b: Path) -> None:
        self._tell("Comparing …")
        try:
            comparison = await asyncio.to_thread(self._actions.compare, a, b)
        except (UserError, SourceError, OSError) as error:
            self._tell(f"They can't be compared: {error}")
            return
        self._tell("")
        from console.screens.compare import CompareScreen

        self.app.push_screen(CompareScreen(self.appearance, comparison))

    def action_stop(self) -> None:
        entry = self._list.at_cursor()
        if entry is None or not entry.live:
            self._tell("Only a live run can be stopped.")
            return
        question = [f"Stop {clean(entry.name)}?", "Its running tasks may finish."]
        dialog = ConfirmDialog(self.appearance, question, "Stop it")
        self.app.push_screen(dialog, lambda yes: self._stop(entry) if yes else None)

    def _stop(self, entry: RunEntry) -> None:
        try:
            self._tell(f"Asked {self._actions.stop(entry.path)} to stop; s again aborts it.")
        except (UserError, OSError) as error:
            self._tell(str(error))

    def action_delete(self) -> None:
        entry = self._list.at_cursor()
        if entry is None or entry.live:
            self._tell("A live run can't be deleted: stop it first.")
            return
        question = [
            f"Delete {clean(entry.name)} for good?",
            f"Recording and journal, {byte_count(entry.bytes)}, and its dataset:",
            clean(str(entry.path)),
        ]
        dialog = ConfirmDialog(self.appearance, question, "Delete it")
        self.app.push_screen(dialog, lambda yes: self._delete(entry) if yes else None)

    def _delete(self, entry: RunEntry) -> None:
        try:
            self._actions.delete(entry)
        except (UserError, OSError) as error:
            self._tell(str(error))
            return
        self._tell(f"Deleted {entry.name}.")
        self._refresh()

    def _tell(self, sentence: str) -> None:
        self._problem = sentence
        self._show_detail()

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self.appearance, self.page_name, self.controls))

    def action_back(self) -> None:
        if self._filter:
            self._apply_filter("")
        else:
            self.dismiss(None)

    def action_leave(self) -> None:
        self.dismiss(None)
