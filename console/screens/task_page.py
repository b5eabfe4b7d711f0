"""Task: its whole life, with what kept each wait, its calls and its events."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from console.controls import Control, bindings
from console.formatting import count, duration, words
from console.screens.drill import DRILL, EVENT_COLUMNS, DrillScreen, event_row
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.diagnosis.report.task_history import QUEUED
from replay.diagnosis.verdicts import clock, model_of, phrase
from replay.playback.focus import CallFocus, Focused, TasksFocus
from replay.playback.frame import Frame
from replay.state.rows import AttemptRow

OF_TASK = (
    Control("tab", "Tab", "other_table", "Between its life and its events", "events"),
    Control("r", "r", "row", "All tasks of its row", "row"),
)


class TaskScreen(DrillScreen):
    """A task's whole life: each wait with what kept it, its calls, its events."""

    page_name = "Task"
    controls: ClassVar[tuple[Control, ...]] = (*DRILL, *OF_TASK)
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(OF_TASK)]

    def make_tables(self) -> tuple[SelectTable, ...]:
        steps = (
            TableColumn("what", 0, keeps_end=False),
            TableColumn("from", 10),
            TableColumn("for", 8),
            TableColumn("life", 26, "<", 110),
            TableColumn("kept by", 28, "<", 72, 0.8),
        )
        return (
            SelectTable(self.appearance, "Life", steps, "This run has no such task."),
            SelectTable(self.appearance, "Events", EVENT_COLUMNS, "No event is about it."),
        )

    def show_focused(self, frame: Frame, focused: Focused) -> None:
        history = focused.history
        steps, events = self.tables
        if history is None:
            steps.show((), "")
            events.show((), "")
            self.facts.show("", "", ())
            return
        end = frame.t1 - frame.t0
        begin = min((step.start for step in history.steps), default=0.0)
        until = max((end if step.end is None else step.end for step in history.steps), default=end)
        rows = []
        for index, step in enumerate(history.steps):
            stop = end if step.end is None else step.end
            kept = ", ".join(
                f"{phrase(name)} {duration(seconds)}" for name, seconds in step.verdicts.items()
            )
            style = _step_style(step.what)
            about = step.resource if step.what != QUEUED else None
            name = step.what + (f", {model_of(about)}" if about else "")
            rows.append(
                TableRow(
                    f"{index}",
                    (
                        Cell(name, style, index),
                        Cell(clock(step.start), "dim", step.start),
                        Cell(duration(stop - step.start), "bright", stop - step.start),
                        Cell(self._place(step.start, stop, begin, until), style, step.start),
                        Cell(kept, "orange", kept or "~"),
                    ),
                )
            )
        longest = max(
            range(len(rows)), key=lambda index: rows[index].cells[2].value or 0.0, default=0
        )
        steps.show(rows, f"{duration(until - begin)} in all", str(longest))
        events.show([event_row(line) for line in focused.events], count(len(focused.events)))
        self._show_facts(frame, focused)

    def _place(self, start: float, stop: float, begin: float, until: float) -> str:
        """The step's part of the life as a bar of 25 cells."""
        scale = 25 / (until - begin) if until > begin else 0.0
        first = min(24, int((start - begin) * scale))
        cells = max(1, min(25, round((stop - begin) * scale)) - first)
        return " " * first + self.appearance.glyphs.bar_full * cells

    def _show_facts(self, frame: Frame, focused: Focused) -> None:
        history = focused.history
        assert history is not None
        end = frame.t1 - frame.t0
        by_cause: dict[str, float] = {}
        by_kind: dict[str, float] = {}
        for step in history.steps:
            what = step.what.partition(" (")[0]
            length = (end if step.end is None else step.end) - step.start
            by_kind[what] = by_kind.get(what, 0.0) + length
            for verdict, seconds in step.verdicts.items():
                by_cause[verdict] = by_cause.get(verdict, 0.0) + seconds
        position = [f"column {history.column}"]
        position += [f"row group {history.row_group}"] if history.row_group is not None else []
        position += [f"row {history.row}"] if history.row is not None else []
        facts = [("what", ", ".join(position))]
        state = words(history.state)
        if history.position is not None:
            state += f", {count(history.position)} before it"
        facts.append(("state", state))
        facts.append(("time", ", ".join(f"{name} {duration(s)}" for name, s in _most(by_kind))))
        if by_cause:
            causes = ", ".join(f"{phrase(name)} {duration(s)}" for name, s in _most(by_cause))
            facts.append(("kept by", causes))
        bad = [call for call in focused.calls if call.outcome not in (None, "success")]
        calls = f"{count(len(focused.calls))}, {count(len(bad))} without success"
        facts.append(("calls", calls if bad else count(len(focused.calls))))
        self.facts.show(history.task_id, "", facts)

    def _step_call(self, key: str) -> AttemptRow | None:
        """The call of a step that waits for one or makes one."""
        focused = self.known
        history = focused.history if focused is not None else None
        if focused is None or history is None or not key.isdigit():
            return None
        start = history.steps[int(key)].start
        for call in focused.calls:
            for moment in (call.wait_started_at, call.started_at):
                if moment is not None and abs(moment - start) < 1e-6:
                    return call
        return None

    def open_row(self, key: str) -> None:
        call = self._step_call(key)
        if call is not None:
            self.console.open_page(CallFocus(call.attempt_id), f"call {call.attempt_id}")
        elif key.isdigit():
            self.action_begin()
            self.console.action_go("leases")
        else:
            super().open_row(key)

    def moment_of(self, key: str) -> float | None:
        focused = self.known
        history = focused.history if focused is not None else None
        if key.isdigit():
            return None if history is None else history.steps[int(key)].start
        return super().moment_of(key)

    def action_row(self) -> None:
        focused = self.known
        history = focused.history if focused is not None else None
        if history is not None and history.row is not None:
            self.console.open_page(TasksFocus(row=history.row), f"row {history.row}")


def _most(seconds: dict[str, float]) -> list[tuple[str, float]]:
    """The largest first; those of no length are left out."""
    kept = [(name, value) for name, value in seconds.items() if value >= 0.0005]
    return sorted(kept, key=lambda pair: (-pair[1], pair[0]))


def _step_style(what: str) -> str:
    if what.startswith("in the provider"):
        return "vermillion" if "(" in what else "sky"
    if what == "own work":
        return "green"
    return "orange" if what == "waiting to call" else "text"
