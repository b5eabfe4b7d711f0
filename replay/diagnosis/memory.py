"""`Memory`: all that a diagnosis remembers between two events, and what `Diagnosis.dump` writes."""

from __future__ import annotations

import heapq

import msgspec

from replay.diagnosis.capacity import CapacityLedger
from replay.diagnosis.cell import CellLedger, Key
from replay.diagnosis.division import Standing, queued_key
from replay.diagnosis.population import Population
from replay.diagnosis.stalls import Stalls
from replay.rows import BlameRow
from replay.state import State

DIAGNOSIS_VERSION = 2


class Memory(msgspec.Struct):
    version: int = DIAGNOSIS_VERSION
    time: float | None = None
    """Up to here everything is integrated; None before the first event."""
    ordinal: int = 0
    bin: int = 0
    """The open bin."""
    cells: CellLedger = msgspec.field(default_factory=CellLedger)
    capacity: CapacityLedger = msgspec.field(default_factory=CapacityLedger)
    population: Population = msgspec.field(default_factory=Population)
    stalls: Stalls = msgspec.field(default_factory=Stalls)
    standing: Standing = msgspec.field(default_factory=Standing)
    timers: list[tuple[float, str, str]] = []
    """A heap of (when, kind, resource)."""
    touched_tasks: dict[str, None] = {}
    """Told of by the events of this instant; so the next two."""
    touched_calls: dict[str, int] = {}
    """With the ordinal of the last event."""
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
    gaps_seen: int = 0
    rows: list[BlameRow] = []

    def set_timer(self, when: float, kind: str, subject: str) -> None:
        heapq.heappush(self.timers, (when, kind, subject))

    def doubt_all(self, state: State) -> None:
        for key in self.cells.meters:
            self.doubtful_meters[key] = None
        for resource in state.ceilings:
            self.doubtful_resources[resource] = None
        self.doubtful_resources[""] = None

    def doubt_queued(self, resource: str) -> None:
        """The queued tasks of every group that takes from this scheduler resource."""
        for group in self.population.needing.get(resource, ()):
            self.doubtful_meters[queued_key(group)] = None
