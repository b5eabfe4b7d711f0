"""Tasks: those of a group, of a row, or that met a failure."""

from __future__ import annotations

from console.formatting import count, duration, words
from console.screens.drill import DrillScreen
from console.theme import Glyphs
from console.widgets.chart import WAIT_BAR_CELLS, wait_bar
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.diagnosis.verdicts import clock
from replay.playback.focus import Focused, TaskFocus, TaskLine, TasksFocus
from replay.playback.frame import Frame


class TasksScreen(DrillScreen):
    """The tasks of a `TasksFocus` as a table."""

    page_name = "Tasks"

    def make_tables(self) -> tuple[SelectTable, ...]:
        columns = (
            TableColumn("task", 0),
            TableColumn("column", 14, "<", 72),
            TableColumn("row group", 10, least=110),
            TableColumn("row", 8, least=80),
            TableColumn("state", 12, "<"),
            TableColumn("attempt", 8, least=90),
            TableColumn("ready at", 10),
            TableColumn("queued", 8, least=90),
            TableColumn("wait, log scale", WAIT_BAR_CELLS + 1, "<", 150),
            TableColumn("took", 8),
            TableColumn("error", 14, "<", 100, 0.5),
        )
        return (SelectTable(self.appearance, "Tasks", columns, "There are none here."),)

    def show_focused(self, frame: Frame, focused: Focused) -> None:
        now = self._now(frame)
        rows = [_task_row(line, now, self.appearance.glyphs) for line in focused.tasks]
        more = focused.total - len(rows)
        note = f"{count(focused.total)}" + (f", the first {count(len(rows))}" if more > 0 else "")
        self.table.show(rows, note)
        self._show_facts(focused, now)

    def _now(self, frame: Frame) -> float:
        """A group's tasks are those at the cursor, others those of the whole run; in run time."""
        of_group = isinstance(self.focus_on, TasksFocus) and self.focus_on.group is not None
        return (frame.at if of_group else frame.t1) - frame.t0

    def _show_facts(self, focused: Focused, now: float) -> None:
        line = self._line(focused, self.table.key_at_cursor())
        if line is None:
            self.facts.show("", "", ())
            return
        took = (now if line.ended is None else line.ended) - (line.began or 0.0)
        facts = [
            ("column", line.column),
            ("state", f"{words(line.phase)}, attempt {line.attempt}"),
            ("from ready", f"{clock(line.began or 0.0)} for {duration(took)}"),
            ("queued for", duration(line.queued)),
        ]
        if line.error:
            facts.append(("error", line.error))
        self.facts.show(line.task_id, "Enter shows its whole life", facts)

    @staticmethod
    def _line(focused: Focused | None, key: str | None) -> TaskLine | None:
        tasks = focused.tasks if focused is not None else ()
        return next((line for line in tasks if line.task_id == key), None)

    def action_move(self, by: int) -> None:
        super().action_move(by)
        if self.known is not None and self.frame is not None:
            self._show_facts(self.known, self._now(self.frame))

    def open_row(self, key: str) -> None:
        self.console.open_page(TaskFocus(key), key)

    def moment_of(self, key: str) -> float | None:
        line = self._line(self.known, key)
        return None if line is None else line.began


def _task_row(line: TaskLine, now: float, glyphs: Glyphs) -> TableRow:
    took = None if line.began is None else (now if line.ended is None else line.ended) - line.began
    bad = line.error is not None or line.phase == "dropped"
    return TableRow(
        line.task_id,
        (
            Cell(line.task_id, "bright", line.task_id),
            Cell(line.column, "text", line.column),
            _optional(line.row_group),
            _optional(line.row),
            Cell(words(line.phase), "vermillion" if bad else "text", line.phase),
            Cell(str(line.attempt), "orange" if line.attempt > 1 else "text", line.attempt),
            Cell("–" if line.began is None else clock(line.began), "dim", line.began),
            Cell(duration(line.queued), "text", line.queued or 0.0),
            Cell(wait_bar(line.queued, glyphs), "text", line.queued or 0.0),
            Cell(duration(took), "text", took or 0.0),
            Cell(line.error or "", "vermillion", line.error or "~"),
        ),
    )


def _optional(value: int | None) -> Cell:
    return Cell("–" if value is None else str(value), "text", -1 if value is None else value)
