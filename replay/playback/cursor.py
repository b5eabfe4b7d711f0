"""`StateCursor`: the state after any event of a recording.

Near ones are folded, far ones come from a keyframe.
"""

from __future__ import annotations

from engine.events import Event, RunInfo
from replay.recording.reader import RecordingReader
from replay.state.model import State
from replay.state.reducer import reduce
from replay.state.wire import decode_state, encode_state

FORWARD = 2_000
"""Events that are rather folded one by one than reached from a keyframe."""
BACK = 32
"""How many earlier states a step back brings at once."""
STATES_KEPT = 256
MOST_TASKS_KEPT = 2_000
"""Of a state with more live tasks no earlier ones are kept: of a run with a million of them, a few
would take gigabytes."""
READ_AHEAD = 256


class StateCursor:
    """Over the events of `reader`, of which `first` is the ordinal of the first."""

    def __init__(self, reader: RecordingReader, first: int) -> None:
        self._reader = reader
        self._first = first
        self._states: dict[int, bytes] = {}
        self._ahead: list[tuple[int, Event]] = []

    def move(self, state: State, n: int, run: RunInfo) -> State:
        """From the state after one event to that after event `n`; the one given is used up."""
        current = state.ordinal
        if n == current:
            return state
        if 0 < n - current <= FORWARD and current >= self._first:
            self._fold_forward(state, n, run)
            return state
        if n in self._states:
            return decode_state(self._states[n])
        if current - BACK < n < current and len(state.tasks) <= MOST_TASKS_KEPT:
            return self._state_back(n, run)
        return self._reader.state_at(n)

    def _fold_forward(self, state: State, n: int, run: RunInfo) -> None:
        while state.ordinal < n:
            following = state.ordinal + 1
            if not self._ahead or not self._ahead[0][0] <= following <= self._ahead[-1][0]:
                amount = max(READ_AHEAD, n - following)
                self._ahead = self._reader.events(following, following + amount)
                if not self._ahead:
                    return
            for ordinal, event in self._ahead[following - self._ahead[0][0] :]:
                reduce(state, event, ordinal, run)
                if ordinal >= n:
                    return

    def _state_back(self, n: int, run: RunInfo) -> State:
        """The state after `n`; those before it are kept, as the next step back may want them."""
        base = max(self._first, n - BACK)
        state = self._reader.state_at(base)
        if len(self._states) > STATES_KEPT:
            self._states.clear()
        self._states[base] = encode_state(state)
        for ordinal, event in self._reader.events(base + 1, n):
            reduce(state, event, ordinal, run)
            self._states[ordinal] = encode_state(state)
        return state
