"""`DiagnosisState`: everything that a diagnosis keeps between two events."""

from __future__ import annotations

import msgspec

from replay.diagnosis.blame_log import BlameLog
from replay.diagnosis.cell_ledger import CellLedger
from replay.diagnosis.error_watch import ErrorWatch
from replay.diagnosis.invalidation import Changes, DirtySets
from replay.diagnosis.live_index import LiveIndex
from replay.diagnosis.loop_watch import LoopStalls
from replay.diagnosis.slot_division import Demand
from replay.diagnosis.slot_ledger import CapacityLedger
from replay.diagnosis.stalls import Stalls
from replay.diagnosis.timers import TimerQueue
from replay.diagnosis.wakeups import Wakeups

DIAGNOSIS_VERSION = 10
"""Of the rules; verdicts of a recording with an older one are recomputed on reading."""


class DiagnosisState(msgspec.Struct, forbid_unknown_fields=True):
    """The parts of a diagnosis, as they are dumped. `diagnosis.py` says who writes which."""

    # Unknown fields are forbidden so that a dump with other parts is refused, not half read.

    version: int = DIAGNOSIS_VERSION
    time: float | None = None
    """Monotonic time up to which everything is integrated; None before the first event."""
    ordinal: int = 0
    """Of the last event."""
    bin: int = 0
    """The open bin."""
    changes: Changes = msgspec.field(default_factory=Changes)
    index: LiveIndex = msgspec.field(default_factory=LiveIndex)
    dirty: DirtySets = msgspec.field(default_factory=DirtySets)
    cells: CellLedger = msgspec.field(default_factory=CellLedger)
    capacity: CapacityLedger = msgspec.field(default_factory=CapacityLedger)
    demand: Demand = msgspec.field(default_factory=Demand)
    stalls: Stalls = msgspec.field(default_factory=Stalls)
    wakeups: Wakeups = msgspec.field(default_factory=Wakeups)
    timers: TimerQueue = msgspec.field(default_factory=TimerQueue)
    blame: BlameLog = msgspec.field(default_factory=BlameLog)
    lost_events: int = 0
    """`State.lost_events` when it was last compared."""
    gaps_seen: int = 0
    """How many of `State.gaps` have their verdict."""
    loop: LoopStalls = msgspec.field(default_factory=LoopStalls)
    errors: ErrorWatch = msgspec.field(default_factory=ErrorWatch)
