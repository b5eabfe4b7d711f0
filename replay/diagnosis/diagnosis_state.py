"""`DiagnosisState`: all that a diagnosis keeps between two events."""

from __future__ import annotations

import heapq

import msgspec

from replay.diagnosis.cell_ledger import CellLedger, Key
from replay.diagnosis.live_index import LiveIndex
from replay.diagnosis.slot_division import Demand
from replay.diagnosis.slot_ledger import CapacityLedger
from replay.diagnosis.stalls import Stalls
from replay.diagnosis.wakeups import PENDING, Wakeup, harmless, pending
from replay.state.bins import BlameStretches
from replay.state.model import State
from replay.state.rows import BlameRow

DIAGNOSIS_VERSION = 6


class DiagnosisState(msgspec.Struct):
    version: int = DIAGNOSIS_VERSION
    time: float | None = None
    """Up to here everything is integrated; None before the first event."""
    ordinal: int = 0
    bin: int = 0
    """The open bin."""
    cells: CellLedger = msgspec.field(default_factory=CellLedger)
    capacity: CapacityLedger = msgspec.field(default_factory=CapacityLedger)
    index: LiveIndex = msgspec.field(default_factory=LiveIndex)
    stalls: Stalls = msgspec.field(default_factory=Stalls)
    standing: Demand = msgspec.field(default_factory=Demand)
    timers: list[tuple[float, str, str]] = []
    """A heap of (when, kind, resource)."""
    touched_tasks: dict[str, int] = {}
    """Told of by the events of this instant, with the ordinal of the last; so the next three."""
    touched_calls: dict[str, int] = {}
    touched_resources: dict[str, None] = {}
    touched_groups: dict[str, None] = {}
    lost_events: int = 0
    """As the state counted them when they were last looked at."""
    doubtful_meters: dict[Key, None] = {}
    """To be looked at again before time moves on."""
    doubtful_resources: dict[str, None] = {}
    levels: dict[str, int] = {}
    """Free amount of each scheduler resource, up to the most that one task takes."""
    presence: dict[str, tuple[bool, bool]] = {}
    """Whether each group has queued tasks and leases."""
    capped: dict[Key, None] = {}
    """Meters of the groups that the last blocked event calls capped."""
    siblings: dict[str, dict[str, None]] = {}
    """Request resources by provider/model."""
    pending: dict[Key, None] = {}
    """Meters of heads that nothing keeps from going on."""
    wakeups: dict[str, Wakeup] = {}
    """By request resource, "" for the task queue."""
    stretches: BlameStretches = msgspec.field(default_factory=BlameStretches)
    held_rows: list[BlameRow] = []
    """Blame of closed bins that is still pending."""
    heartbeat_due: float | None = None
    gaps_seen: int = 0
    rows: list[BlameRow] = []

    def set_timer(self, when: float, kind: str, subject: str) -> None:
        heapq.heappush(self.timers, (when, kind, subject))

    def close_bin(self, now: float) -> None:
        rows = (
            *self.capacity.close_bin(self.bin, now),
            *self.cells.close_bin(self.bin, now),
        )
        self._give_out(self.stretches.add(self.bin, rows))
        self.bin += 1

    def pass_bins(self, bins: int, now: float) -> None:
        """So many bins up to `now`, in which all was as in the last one, which is closed."""
        self.stretches.extend(bins)
        self.cells.leap(now)
        self.capacity.leap(now)
        self.bin += bins
        self.time = now

    def end_stretches(self) -> None:
        self._give_out(self.stretches.end())

    def open_blame(self) -> list[BlameRow]:
        """Stretches that may go on; none of what is pending."""
        return [row for row in self.stretches.open.values() if row.verdict not in PENDING]

    def _give_out(self, rows: list[BlameRow]) -> None:
        for row in rows:
            (self.held_rows if row.verdict in PENDING else self.rows).append(row)

    def name_pending(self, about: str, lost: bool) -> None:
        """What was pending has become known."""
        old = pending(about)
        new = ("lost_wakeup", about) if lost else harmless(about)
        now = self.time or 0.0
        if any(place[4] == old[0] for place in self.stretches.open):
            self.end_stretches()
        self.cells.rename(old, new, now)
        self.capacity.rename(old[0], new[0], about, now)
        still: list[BlameRow] = []
        for row in self.held_rows:
            if row.verdict == old[0] and about in ("", row.resource):
                self.rows.append(msgspec.structs.replace(row, verdict=new[0]))
            else:
                still.append(row)
        self.held_rows = still

    def end_wakeup(self, about: str) -> None:
        """A lease came, or nothing waits any more."""
        wakeup = self.wakeups.pop(about, None)
        if wakeup is None:
            return
        now = self.time or 0.0
        if wakeup.lost:
            evidence = [*wakeup.evidence, self.ordinal]
            self.stalls.emit(wakeup.facts, about, wakeup.since, now, evidence)
        else:
            self.name_pending(about, lost=False)
        for key in self.pending:
            self.doubtful_meters[key] = None
            self.doubtful_resources[key[1] if key[0] == "waiting" else ""] = None
            if key[0] == "queued":
                request_resource = self.index.request_of.get(key[1], "")
                self.doubtful_resources[request_resource] = None

    def doubt_all(self, state: State) -> None:
        for key in self.cells.meters:
            self.doubtful_meters[key] = None
        for resource in state.ceilings:
            self.doubtful_resources[resource] = None
        self.doubtful_resources[""] = None

    def doubt_queued(self, resource: str) -> None:
        """The queued tasks of every group that takes from this scheduler resource."""
        self.doubtful_meters.update(self.index.queues_for.get(resource, {}))
