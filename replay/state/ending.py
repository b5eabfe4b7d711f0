"""How a run ended, said honestly: what its producer calls a success may have lost every row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from replay.state.failures import failure_words
from replay.state.model import Failure, State


class Ending(NamedTuple):
    """How a run ended, in words."""

    words: str
    good: bool
    """All rows were made."""
    nothing_made: bool = False
    """Not a single row was made."""
    message: str = ""
    """What the producer said of it, where no failure of calls or tasks says as much."""

    @property
    def sentence(self) -> str:
        said = f": {self.message.rstrip('.')}" if self.message else ""
        return f"{self.words[:1].upper()}{self.words[1:]}{said}."


def ending(
    outcome: str | None,
    rows_done: int,
    rows_dropped: int,
    records: int | None,
    failures: Iterable[Failure] = (),
    stop_reason: str | None = None,
) -> Ending | None:
    """How the run ended and what it cost; None while no end is known.

    Args:
        outcome: The producer's own word: `success`, `failed`, `cancelled`.
        rows_done: Rows that were written.
        rows_dropped: Rows that were given up.
        records: Rows that were to be made, where that is known.
        failures: What failed in the run.
        stop_reason: Why the producer stopped before its work was done.
    """
    if outcome is None:
        return None
    failures = tuple(failures)
    part = parted(failures, rows_dropped, outcome, stop_reason)
    lost = _lost(rows_done, rows_dropped + part.made_again, records, outcome)
    lost += part.words
    cause = _cause(failures, bool(lost) or outcome != "success")
    if outcome == "success" and not lost:
        return Ending("success", True)
    head = {"early_shutdown": "stopped early"}.get(stop_reason or "", outcome)
    parts = [part for part in ("" if head == "success" else head, lost, cause) if part]
    return Ending(": ".join(parts), False, rows_done == 0)


class Parted(NamedTuple):
    """Dropped rows that are not simply those of failures."""

    by_stop: int = 0
    """No failure of their own cost them: the producer stopped early."""
    made_again: int = 0
    """They failed in row groups that were not finished, which a resumed run makes anew."""

    @property
    def words(self) -> str:
        if self.by_stop:
            return f", {self.by_stop:,} of them because the run stopped"
        if self.made_again:
            return f", {self.made_again:,} of them in row groups that a resumed run makes again"
        return ""


def parted(
    failures: Iterable[Failure], rows_dropped: int, outcome: str | None, stop_reason: str | None
) -> Parted:
    """What the rows that failures cost and those that the producer counts at its end differ by."""
    charged = sum(failure.rows_dropped for failure in failures)
    if stop_reason == "early_shutdown" and 0 < charged < rows_dropped:
        return Parted(by_stop=rows_dropped - charged)
    if outcome not in (None, "success") and stop_reason is None and charged > rows_dropped:
        return Parted(made_again=charged - rows_dropped)
    return Parted()


def _lost(rows_done: int, rows_dropped: int, records: int | None, outcome: str) -> str:
    if rows_dropped:
        return f"{rows_dropped:,} of {records or rows_done + rows_dropped:,} rows dropped"
    if records and 0 < rows_done < records and outcome == "success":
        return f"{rows_done:,} of {records:,} rows made"
    return ""


def _cause(failures: Iterable[Failure], wanted: bool) -> str:
    """The failure that cost most rows, else the most frequent one."""
    worst = max(failures, key=lambda failure: (failure.rows_dropped, failure.times), default=None)
    return "" if worst is None or not wanted else failure_words(worst)


def ending_of(state: State, outcome: str | None, records: int | None) -> Ending | None:
    """How a run ended by its state; `outcome` is the source's word where no event tells."""
    ended = ending(
        state.outcome or outcome,
        state.progress.rows_done,
        state.progress.rows_dropped,
        records,
        state.failures.values(),
        state.stop_reason,
    )
    tells_more = state.outcome == "failed" or (state.outcome == "stopped" and not state.failures)
    return ended._replace(message=state.end_message) if ended and tells_more else ended
