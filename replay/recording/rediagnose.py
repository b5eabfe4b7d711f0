"""Blame and verdicts of a recording whose stored ones are of an older diagnosis, made anew."""

from __future__ import annotations

from typing import Any, Literal

from replay.diagnosis.diagnosis import Diagnosis
from replay.diagnosis.diagnosis_state import DIAGNOSIS_VERSION
from replay.diagnosis.verdicts import VerdictRow
from replay.recording.gc_control import gc_disabled
from replay.recording.reader import RecordingReader
from replay.state.bins import within
from replay.state.model import State
from replay.state.reducer import reduce
from replay.state.rows import BlameRow

EVENTS_AT_ONCE = 10_000


class Recomputed:
    """A reader that answers with new blame and verdicts, and else with the recording's own.

    Folds the whole recording when it is made. The recording itself stays as it is.
    """

    def __init__(self, reader: RecordingReader) -> None:
        self._reader = reader
        run, bounds = reader.run(), reader.bounds()
        first, _ = reader.keyframe_bounds()
        state, diagnosis = reader.state_at(first), Diagnosis(run)
        self._blame: list[BlameRow] = []
        self._verdicts: list[VerdictRow] = []
        while first < bounds.last_ordinal:
            last = min(first + EVENTS_AT_ONCE, bounds.last_ordinal)
            with gc_disabled():
                for ordinal, event in reader.events(first + 1, last):
                    if event.captured_at_monotonic >= diagnosis.instant_end:
                        diagnosis.before(state, event, ordinal)
                    reduce(state, event, ordinal, run)
                    diagnosis.after(state, event, ordinal)
            self._take(diagnosis.drain())
            first = last
        status = reader.status()
        if not status.lost and state.outcome is None:
            state.outcome = status.outcome
        self._take(diagnosis.finish(state, state.time))
        self._end = bounds.last_ordinal
        self._state = state
        self._verdicts.sort(key=lambda row: (row.start, row.end))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]:
        return list(within((row for row in self._blame if row.scope == scope), bin0, bin1))

    def verdicts(self, t0: float | None = None, t1: float | None = None) -> list[VerdictRow]:
        first = float("-inf") if t0 is None else t0
        last = float("inf") if t1 is None else t1
        return [row for row in self._verdicts if row.end >= first and row.start <= last]

    def state_at(self, ordinal: int) -> State:
        """The end as it was folded; keyframes of an older recording lack what is kept today."""
        return self._state if ordinal == self._end else self._reader.state_at(ordinal)

    def _take(self, rows: tuple[list[BlameRow], list[VerdictRow]]) -> None:
        self._blame += rows[0]
        self._verdicts += rows[1]


def up_to_date(reader: RecordingReader) -> RecordingReader | Recomputed:
    """The recording itself where this diagnosis wrote it, or a newer one."""
    return reader if reader.diagnosis_version() >= DIAGNOSIS_VERSION else Recomputed(reader)
