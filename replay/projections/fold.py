"""`Fold`: a run's events into its state and the rows derived from them, as far as they are known.

The recorder and a live console run the same one. It can be put aside at any event and taken up
again without a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.events import Event, RunInfo
from replay.diagnosis.diagnosis import Diagnosis
from replay.diagnosis.verdicts import VerdictRow
from replay.projections.intervals import ENDS, CorrelatedRuntimeView
from replay.projections.series import MAY_REMOVE, Rollup
from replay.state.model import State
from replay.state.reducer import begin, reduce
from replay.state.rows import AttemptRow, BlameRow, LeaseRow, RollupRow
from replay.state.wire import decode_state, encode_state

RESUMED = "run_resumed"


class FoldOutput(msgspec.Struct):
    """Derived rows, each given out once."""

    leases: list[LeaseRow] = []
    attempts: list[AttemptRow] = []
    rollup: list[RollupRow] = []
    blame: list[BlameRow] = []
    verdicts: list[VerdictRow] = []


class _Dump(msgspec.Struct):
    layout: Literal[4]
    """Of the parts: a dump of another layout is no dump, and its events are folded again."""
    run: bytes
    """JSON: an integer of msgpack has 64 bits."""
    state: msgspec.Raw
    """A `State`."""
    rollup: bytes
    diagnosis: bytes
    pending: FoldOutput


class Fold:
    """Folds events in order of their ordinals. `state` is only to be read, and never kept."""

    def __init__(self, run: RunInfo) -> None:
        self.run = run
        self.state = begin(run)
        self._intervals = CorrelatedRuntimeView(run)
        self._rollup = Rollup(run)
        self._diagnosis = Diagnosis(run)
        self._pending = FoldOutput()

    def apply(self, events: Sequence[Event], first_ordinal: int) -> None:
        """Fold events; the first has the ordinal `first_ordinal`, the others follow."""
        state, run = self.state, self.run
        intervals, rollup, diagnosis = self._intervals, self._rollup, self._diagnosis
        for ordinal, event in enumerate(events, first_ordinal):
            kind = event.event_kind
            if kind == RESUMED:
                self._end_part()
            ends = kind in ENDS and intervals.before(state, event, ordinal)
            now = event.captured_at_monotonic
            if now >= rollup.bin_end or kind in MAY_REMOVE:
                rollup.before(state, event, ordinal)
            if now >= diagnosis.instant_end:
                diagnosis.before(state, event, ordinal)
            reduce(state, event, ordinal, run)
            if kind == RESUMED:
                diagnosis = self._begin_part(state, event, ordinal)
            if ends:
                intervals.after(state, event, ordinal)
            rollup.after(state, event, ordinal)
            diagnosis.after(state, event, ordinal)

    def drain(self) -> FoldOutput:
        """Rows that have become certain since the last time."""
        self._collect()
        output, self._pending = self._pending, FoldOutput()
        return output

    def open_verdicts(self) -> list[VerdictRow]:
        """Stalls that still go on, as far as they have come; changes nothing."""
        return self._diagnosis.open_verdicts(self.state.time)

    def open_series(self) -> list[RollupRow]:
        """Stretches of series that still go on, up to the last second that is over."""
        return self._rollup.open_rows()

    def open_blame(self) -> list[BlameRow]:
        """The same of blame."""
        return self._diagnosis.open_blame()

    def forget_stretches(self, blame_end: int) -> None:
        """Rows of seconds that are over are written already, by another version of this.

        Args:
            blame_end: The first bin of which no blame is written.
        """
        self._rollup.forget_stretches()
        self._diagnosis.forget_written(blame_end)

    def finish(self, outcome: str | None, lost: bool, going: bool = False) -> FoldOutput:
        """No event will follow here: what is open gets its row, with an open end.

        `outcome` is the source's word on how the run ended, where no event told. `going`: the run
        was not over when it was read, or that can't be told.
        """
        if not lost and self.state.outcome is None:
            self.state.outcome = outcome
        self._intervals.finish(self.state)
        self._rollup.finish(self.state)
        self._collect()
        blame, verdicts = self._diagnosis.finish(self.state, self.state.time, going)
        self._pending.blame += blame
        self._pending.verdicts += verdicts
        return self.drain()

    def _end_part(self) -> None:
        """An interruption: what is open gets its row, with an open end."""
        state = self.state
        self._intervals.finish(state)
        self._rollup.end_part(state)
        self._collect()
        blame, verdicts = self._diagnosis.finish(state, state.time, interrupted=True)
        self._pending.blame += blame
        self._pending.verdicts += verdicts

    def _begin_part(self, state: State, event: Event, ordinal: int) -> Diagnosis:
        """The run goes on, with nothing open. The time between is no time of the run."""
        self._diagnosis = self._diagnosis.after_interruption(state)
        self._diagnosis.before(state, event, ordinal)
        return self._diagnosis

    def dump(self) -> bytes:
        """All that `load` needs to go on as if nothing had happened."""
        self._collect()
        return msgspec.msgpack.encode(
            _Dump(
                4,
                msgspec.json.encode(self.run),
                msgspec.Raw(encode_state(self.state)),
                self._rollup.dump(),
                self._diagnosis.dump(),
                self._pending,
            )
        )

    @classmethod
    def load(cls, data: bytes) -> Fold:
        """Raises `ValueError` for what is no dump of this version."""
        try:
            dump = msgspec.msgpack.decode(data, type=_Dump)
            state = decode_state(dump.state)
            run = msgspec.json.decode(dump.run, type=RunInfo)
        except msgspec.MsgspecError as error:
            raise ValueError("not a fold") from error
        fold = cls(run)
        fold.state = state
        fold._rollup = Rollup.load(run, dump.rollup)
        fold._diagnosis = Diagnosis.load(run, dump.diagnosis)
        fold._pending = dump.pending
        return fold

    def _collect(self) -> None:
        pending, intervals, rollup = self._pending, self._intervals, self._rollup
        pending.leases += intervals.leases
        pending.attempts += intervals.attempts
        pending.rollup += rollup.drain()
        intervals.leases, intervals.attempts = [], []
        blame, verdicts = self._diagnosis.drain()
        pending.blame += blame
        pending.verdicts += verdicts
