"""`ErrorWatch`: failures of one class at one resource that follow each other, as one verdict."""

from __future__ import annotations

import msgspec

from replay.diagnosis.verdicts import Context, VerdictRow, row_of
from replay.diagnosis.verdicts.errors import ColumnErrors, DroppedRows, EarlyStop, failure_verdict
from replay.state.ending import parted
from replay.state.failures import (
    ErrorClass,
    class_of_failure,
    error_of,
    failure_words,
    http_status,
)
from replay.state.model import Failure, State

SAME_SPELL_SECONDS = 10.0
"""Failures no further apart than this are one spell, whatever succeeded between them."""
SAME_SPELL_SUCCESSES = 20
"""Those with fewer successes between them are one, however far apart they are."""
_EVIDENCE_KEPT = 8


class Spell(msgspec.Struct):
    """Failures that follow each other."""

    resource: str
    error: str
    start: float
    last: float
    times: int
    rows_dropped: int
    columns: list[str]
    evidence: list[int]
    completed_before: int
    """Calls of the resource that had succeeded when it began."""
    completed: int
    """And at its last failure."""
    error_class: ErrorClass
    of_calls: bool
    """Calls failed, by the request stream; otherwise only tasks tell of it."""
    message: str = ""
    """What the first of them said."""


class ErrorWatch(msgspec.Struct):
    """The spells of failures that are open, and what of `State.failures` they have counted."""

    spells: dict[str, Spell] = {}
    """By resource, or column, and class."""
    seen: dict[str, tuple[int, int]] = {}
    """Failures and lost rows by key of `State.failures`, as last counted."""

    unnamed: dict[str, int] = {}
    """Tasks that are to be tried again for a reason that no event tells, by column."""

    def update(self, state: State, ordinal: int) -> list[VerdictRow]:
        """A failure may have been recorded by the event `ordinal`. Returns spells that are over."""
        ended: list[VerdictRow] = []
        for key, failure in state.failures.items():
            counts = (failure.times, failure.rows_dropped)
            known = self.seen.get(key, (0, 0))
            if counts == known:
                continue
            self.seen[key] = counts
            over = self._add(state, failure, counts[0] - known[0], counts[1] - known[1], ordinal)
            ended += [] if over is None else [over]
        return ended

    def end(
        self, state: State, records: int | None, start: float, now: float, ordinal: int
    ) -> list[VerdictRow]:
        """The run is over: everything has its verdict. `start` is when it began."""
        rows = self.end_spells(state, ordinal)
        return rows + _of_the_end(state, self.unnamed, records, start, now, ordinal)

    def end_spells(self, state: State, ordinal: int) -> list[VerdictRow]:
        """Nothing follows on what has failed so far."""
        rows = self.update(state, ordinal)
        for spell in self.spells.values():
            ceiling = state.ceilings.get(spell.resource)
            rows.append(_row(spell, None if ceiling is None else ceiling.completed))
        self.spells = {}
        return rows

    def open_verdicts(self) -> list[VerdictRow]:
        """Spells that may go on, as far as they have come."""
        return [_row(spell) for spell in self.spells.values()]

    def _add(
        self, state: State, failure: Failure, times: int, dropped: int, ordinal: int
    ) -> VerdictRow | None:
        """Returns the verdict of the spell that is over by it."""
        ended: VerdictRow | None = None
        error_class = class_of_failure(failure)
        key = f"{failure.resource or failure.column}\n{error_class}"
        ceiling = state.ceilings.get(failure.resource)
        completed = 0 if ceiling is None else ceiling.completed
        now = failure.last_at
        spell = self.spells.get(key)
        if spell is not None and (
            now - spell.last > SAME_SPELL_SECONDS
            and completed - spell.completed >= SAME_SPELL_SUCCESSES
        ):
            ended = _row(spell, completed)
            spell = None
        if spell is None:
            spell = self.spells[key] = Spell(
                failure.resource,
                error_of(failure),
                now,
                now,
                0,
                0,
                [],
                [],
                completed,
                completed,
                error_class,
                failure.of_calls,
                failure.message,
            )
        spell.times += times
        spell.rows_dropped += dropped
        spell.last = max(spell.last, now)
        spell.completed = completed
        if failure.column and failure.column not in spell.columns:
            spell.columns.append(failure.column)
        if len(spell.evidence) < _EVIDENCE_KEPT:
            spell.evidence.append(ordinal)
        else:
            spell.evidence[-1] = ordinal
        return ended


def _row(spell: Spell, completed: int | None = None) -> VerdictRow:
    """`completed`: calls of its resource that have succeeded by now; None where it may go on."""
    since = None if completed is None or not spell.of_calls else completed - spell.completed
    detail = failure_verdict(spell.error_class)(
        error=spell.error,
        error_class=spell.error_class,
        times=spell.times,
        columns=sorted(spell.columns),
        rows_dropped=spell.rows_dropped,
        succeeded=spell.completed - spell.completed_before if spell.of_calls else None,
        status=http_status(spell.error),
        succeeded_since=since,
    )
    if isinstance(detail, ColumnErrors):
        detail.reason = spell.message
    about = spell.resource
    return row_of(detail, about, spell.start, spell.last, list(spell.evidence), Context())


def _of_the_end(
    state: State,
    unnamed: dict[str, int],
    records: int | None,
    start: float,
    now: float,
    ordinal: int,
) -> list[VerdictRow]:
    """What the end of a run says of it."""
    rows: list[VerdictRow] = []
    progress = state.progress
    failures = state.failures.values()
    worst = max(failures, key=lambda failure: (failure.rows_dropped, failure.times), default=None)
    because = "" if worst is None else failure_words(worst)
    first = min((failure.first_at for failure in failures), default=start)
    part = parted(failures, progress.rows_dropped, state.outcome, state.stop_reason)
    dropped = progress.rows_dropped + part.made_again
    if dropped:
        lost = DroppedRows(
            rows_dropped=dropped,
            rows_done=progress.rows_done,
            because=because,
            by_stop=part.by_stop,
            made_again=part.made_again,
            records=records,
        )
        if not because and unnamed:
            lost.column = max(unnamed, key=lambda column: (unnamed[column], column))
            lost.tried_again = unnamed[lost.column]
        rows.append(row_of(lost, "", first, now, [ordinal], Context()))
    if state.stop_reason == "early_shutdown":
        stop = EarlyStop(because=because, rows_done=progress.rows_done, records=records)
        rows.append(row_of(stop, "", now, now, [ordinal], Context()))
    return rows
