"""Errors: what failed, whose it was, how often, and what it cost."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from console.controls import Control, bindings
from console.formatting import count
from console.screens.filters import FILTER
from console.screens.table_screen import MOVES, TableScreen
from console.theme import Appearance
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.diagnosis.verdicts import clock
from replay.playback.focus import SpendingFocus, TasksFocus
from replay.playback.frame import Frame
from replay.recording.filters import ERRORS
from replay.state.failures import NEVER_A_FAILURE, class_of_failure, error_words
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
_FAILED = (
    "(kind = 'model_request_completed' AND coalesce(reason, '') NOT IN ("
    + ", ".join(f"'{outcome}'" for outcome in sorted(NEVER_A_FAILURE))
    + ")) OR kind = 'non_retryable_dropped'"
)
"""Events that are failures: of calls, and of rows that are given up."""


def key_of(failure: Failure) -> str:
    """The key of a failure's row in the table."""
    return "\n".join((failure.resource, failure.column, failure.error))


class ErrorsScreen(TableScreen):
    """The failures as a table, each with its class, its number and its cost."""

    page_name = "Errors"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "open", "The tasks that met it", "tasks"),
        Control("e", "e", "to_event('last')", "The last event of it", "last event"),
        Control("E", "E", "to_event('first')", "The first event of it"),
        Control("c", "c", "cost", "Tokens by column and model, and those for nothing", "tokens"),
        *MOVES,
        FILTER[0],
        Control("n", "n", "match(1)", "The next failure in time", "next"),
        Control("N", "N", "match(-1)", "The failure before it"),
        Control("escape", "Esc", "clear", "Clear the filter"),
    )
    subject = ERRORS
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        empty = "Nothing has failed so far."
        super().__init__(appearance, run_title, SelectTable(appearance, "Errors", _COLUMNS, empty))

    def show_rows(self, frame: Frame) -> None:
        chosen = [failure for failure in frame.errors if self.matches(view_row(failure, frame.t0))]
        lost = sum(failure.rows_dropped for failure in chosen)
        times = sum(failure.times for failure in chosen)
        note = f"{count(times)} errors, {count(lost)} rows lost" if chosen else ""
        if self.filter_text:
            note = self.filter_note(len(chosen), len(frame.errors))
        self.table.show([_row(failure, frame.t0) for failure in chosen], note)

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

    def action_open(self) -> None:
        failure = self._failure(self.frame, self.table.key_at_cursor())
        if failure is not None:
            place = (failure.resource, failure.column, failure.error)
            self.console.open_page(TasksFocus(failure=place), error_words(failure.error))

    def action_cost(self) -> None:
        self.console.open_page(SpendingFocus(), "tokens")

    def action_match(self, by: int) -> None:
        """Move the cursor to the next failure in time, and show it in the stream."""
        self.console.seek_match(_FAILED, by)
        self.console.action_go("events")

    def action_to_event(self, which: str) -> None:
        failure = self._failure(self.frame, self.table.key_at_cursor())
        if failure is not None:
            last = which == "last" and failure.last_ordinal
            self.console.seek_ordinal(failure.last_ordinal if last else failure.first_ordinal)
            self.console.action_go("events")


def view_row(failure: Failure, t0: float) -> dict[str, object]:
    """A failure by the columns that filters know; times are run time."""
    return {
        "error": failure.error,
        "class": class_of_failure(failure),
        "resource": failure.resource or None,
        "column": failure.column or None,
        "times": failure.times,
        "rows_dropped": failure.rows_dropped,
        "first_at": failure.first_at - t0,
        "last_at": failure.last_at - t0,
    }


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
