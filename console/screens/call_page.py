"""Call: one request attempt, and the page of whatever a focus is on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType

from console.controls import Control, bindings
from console.formatting import count, duration, words
from console.screens.drill import DRILL, EVENT_COLUMNS, DrillScreen, event_row
from console.screens.spending_page import SpendingScreen
from console.screens.task_list import TasksScreen
from console.screens.task_page import TaskScreen
from console.theme import Appearance
from console.widgets.select_table import SelectTable
from replay.diagnosis.verdicts import clock
from replay.playback.focus import CallFocus, Focus, Focused, SpendingFocus, TaskFocus, TasksFocus
from replay.playback.frame import Frame


class CallScreen(DrillScreen):
    """One request attempt: how long it waited, how long the provider took, what came of it."""

    page_name = "Call"
    controls: ClassVar[tuple[Control, ...]] = (
        *DRILL,
        Control("c", "c", "owner", "The task whose call it is", "task"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls[len(DRILL) :])]

    def make_tables(self) -> tuple[SelectTable, ...]:
        return (
            SelectTable(self.appearance, "Events", EVENT_COLUMNS, "This run has no such call."),
        )

    def show_focused(self, frame: Frame, focused: Focused) -> None:
        self.table.show([event_row(line) for line in focused.events], count(len(focused.events)))
        if not focused.calls:
            self.facts.show("", "", ())
            return
        call = focused.calls[0]
        end = frame.t1 - frame.t0
        outcome = words(call.outcome) if call.outcome else "not known yet"
        facts = [("to", f"{call.resource}" + (f", column {call.column}" if call.column else ""))]
        for name, start, stop in (
            ("waited", call.wait_started_at, call.acquired_at or call.released_at),
            ("in provider", call.started_at, call.completed_at),
        ):
            if start is not None:
                length = duration((end if stop is None else stop) - start)
                facts.append((name, f"{length} from {clock(start)}"))
        facts.append(("outcome", outcome))
        if focused.owner is not None:
            facts.append(("task", f"{focused.owner.task_id}, attempt {focused.owner.attempt}"))
        self.facts.show(f"Call {call.attempt_id}", "", facts)

    def action_owner(self) -> None:
        focused = self.known
        if focused is not None and focused.owner is not None:
            task_id = focused.owner.task_id
            self.console.open_page(TaskFocus(task_id), task_id)


def drill_screen(
    appearance: Appearance, run_title: str, focus: Focus, trail: Sequence[str]
) -> DrillScreen:
    """The page about this focus."""
    kinds: dict[type[Focus], type[DrillScreen]] = {
        TaskFocus: TaskScreen,
        CallFocus: CallScreen,
        TasksFocus: TasksScreen,
        SpendingFocus: SpendingScreen,
    }
    return kinds[type(focus)](appearance, run_title, focus, trail)
