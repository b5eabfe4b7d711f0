"""Errors: what failed, whose it was, how often, and what it cost."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from console.controls import Control, bindings
from console.formatting import count
from console.screens.table_screen import MOVES, TableScreen
from console.theme import Appearance
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.diagnosis.verdicts import clock
from replay.playback.frame import Frame
from replay.state.failures import class_of_failure, error_words
from replay.state.model import Failure

_COLUMNS = (
    TableColumn("error", 0),
    TableColumn("from", 24, "<", 64),
    TableColumn("column", 16, "<", 90),
    TableColumn("times", 8),
    TableColumn("rows lost", 11),
    TableColumn("first", 9, least=80),
    TableColumn("last", 9),
)


def key_of(failure: Failure) -> str:
    return "\n".join((failure.resource, failure.column, failure.error))


class ErrorsScreen(TableScreen):
    page_name = "Errors"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "to_event('last')", "The last event of it", "last event"),
        Control("e", "e", "to_event('first')", "The first event of it", "first"),
        *MOVES,
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        empty = "Nothing has failed so far."
        super().__init__(appearance, run_title, SelectTable(appearance, "Errors", _COLUMNS, empty))

    def show_rows(self, frame: Frame) -> None:
        lost = sum(failure.rows_dropped for failure in frame.errors)
        times = sum(failure.times for failure in frame.errors)
        note = f"{count(times)} errors, {count(lost)} rows lost" if frame.errors else ""
        self.table.show([_row(failure, frame.t0) for failure in frame.errors], note)

    def show_facts(self, frame: Frame, key: str | None) -> None:
        failure = self._failure(frame, key)
        if failure is None:
            self.facts.show("", "", ())
            return
        what = "calls" if failure.of_calls else "tasks"
        rows = count(failure.rows_dropped) if failure.rows_dropped else "none: it was tried again"
        facts = [
            ("class", class_of_failure(failure)),
            ("where", failure.resource or "the code of the run itself"),
            ("column", failure.column or "–"),
            ("times", f"{count(failure.times)} {what}"),
            ("rows lost", rows),
            (
                "when",
                f"{clock(failure.first_at - frame.t0)} (#{failure.first_ordinal}) to "
                f"{clock(failure.last_at - frame.t0)} (#{failure.last_ordinal})",
            ),
        ]
        self.facts.show(error_words(failure.error), failure.error, facts)

    @staticmethod
    def _failure(frame: Frame | None, key: str | None) -> Failure | None:
        failures = frame.errors if frame is not None else ()
        return next((failure for failure in failures if key_of(failure) == key), None)

    def action_to_event(self, which: str) -> None:
        failure = self._failure(self.frame, self.table.key_at_cursor())
        if failure is not None:
            last = which == "last" and failure.last_ordinal
            self.console.seek_ordinal(failure.last_ordinal if last else failure.first_ordinal)
            self.console.action_go("events")


def _row(failure: Failure, t0: float) -> TableRow:
    dropped = failure.rows_dropped
    return TableRow(
        key_of(failure),
        (
            Cell(error_words(failure.error), "bright", failure.error),
            Cell(failure.resource or "own code", "text", failure.resource or "~"),
            Cell(failure.column or "–", "text", failure.column or "~"),
            Cell(count(failure.times), "text", failure.times),
            Cell(count(dropped), "bold vermillion" if dropped else "faint", dropped),
            Cell(clock(failure.first_at - t0), "dim", failure.first_at),
            Cell(clock(failure.last_at - t0), "text", failure.last_at),
        ),
    )
