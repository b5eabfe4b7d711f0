"""`Frame`: what a screen shows at one instant, frozen.

`replay.playback.session` builds it, the console draws it.

Times are monotonic seconds of the producer; `t0` is the first event, so `at - t0` is run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.events import Event, RunInfo
from replay.diagnosis.report.answer import Answer
from replay.diagnosis.report.bottleneck import Bottleneck
from replay.diagnosis.report.shares import Share
from replay.diagnosis.verdicts import VerdictRow
from replay.playback.focus import Focus, Focused
from replay.playback.queue_rows import QueueRow
from replay.playback.stretch import Stretch
from replay.sources.base import Liveness
from replay.state.ending import Ending, ending
from replay.state.model import Aggregate, Block, Ceiling, Failure, Gap, Progress, RowGroupProgress
from replay.state.wall_clock import WallClock


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Where the tasks of one group are."""

    key: str
    label: str
    """Short name for people: the column it feeds."""
    queued: int
    leased: int
    running: int
    ready: int
    deferred: int
    oldest_wait: float | None
    blocked_by: str | None


@dataclass(frozen=True, slots=True)
class CeilingRow:
    """A ceiling now, with its recent past as samples over `Frame.sample_times`."""

    ceiling: Ceiling
    limits: tuple[float, ...]
    in_flight: tuple[float, ...]
    waiters: tuple[float, ...]
    cooling: tuple[bool, ...]
    rate_limited: tuple[int, ...]
    failed: tuple[int, ...] = ()
    """Calls that failed otherwise; as the next two only with `Want.calls`."""
    latency: tuple[float, ...] | None = ()
    """Mean time of the calls that came back well, 0 where none did; None where calls came back and
    the recording does not tell how long they took."""
    latency_p95: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one request attempt inside a task lease."""

    kind: Literal["waiting", "leased", "in_provider", "returned"]
    start: float
    end: float | None
    """None while it goes on; after the producer is lost its end is unknown."""
    outcome: str | None
    attempt_id: str
    resource: str


@dataclass(frozen=True, slots=True)
class LeaseBar:
    """A task lease as a bar on the timeline."""

    lease_id: str
    task_id: str
    column: str
    group: str
    row_group: int | None
    start: float
    end: float | None
    result: str | None
    """`completed`, `deferred`, `dropped`, `cancelled`; None while open; `unknown` after a loss."""
    segments: tuple[Segment, ...]
    ready_at: float | None = None
    """When its task became dependency-ready; None where unknown, as the other times."""
    enqueued_at: float | None = None
    selected_at: float | None = None
    spawned_at: float | None = None
    row: int | None = None
    attempt: int = 1
    error: str | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event with its place in the recording."""

    ordinal: int
    event: Event


@dataclass(frozen=True, slots=True)
class Want:
    """What the visible screen needs beyond the common facts; everything else stays unread."""

    samples: int = 60
    """How many samples each series has."""
    span: float = 60.0
    """Seconds that series and bars cover, ending at the cursor or at `until`."""
    bars: int = 0
    """At most so many lease bars (0: none)."""
    events: int = 0
    """So many events ending at the cursor (0: none)."""
    events_after: int = 0
    """So many events behind the cursor, in `Frame.events` too: a table shows what is around it."""
    verdicts: int = 0
    """At most so many verdicts (0: none)."""
    standing: bool = False
    """The verdicts whose time the cursor is in, and what there is to say of the span."""
    queue: bool = False
    """Where the tasks of each group are."""
    capacity: bool = False
    """Every value of the capacity plan."""
    focus: Focus | None = None
    """One task, one call, or a list of tasks."""
    blame: bool = False
    """Blame over the samples."""
    calls: bool = False
    """How long calls took and how many failed, by request resource over the samples."""
    until: float | None = None
    """Right edge of series and bars, in time of the producer; None: the cursor."""
    stretch: tuple[float, float] | None = None
    """What there is to say of this time, in time of the producer."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One instant of a run."""

    run: RunInfo
    liveness: Liveness
    recorded: bool
    """True where the source is a finished recording or file: nothing more will come."""
    following: bool
    """The cursor stays at the newest event."""
    ordinal: int
    at: float
    """Time of the cursor. While live and following, the newest time known."""
    t0: float
    t1: float
    """Time of the newest event known."""
    last_ordinal: int
    outcome: str | None
    lost_events: int
    gaps: tuple[Gap, ...]
    broken_lines: int
    late_events: int
    progress: Progress
    rows_total: int | None
    rows_per_second: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    row_groups: RowGroupProgress
    bottleneck: Bottleneck | None
    blame: tuple[Share, ...]
    """Run blame over the last `Want.span` seconds, sums to 1 (empty before the first event)."""
    groups: tuple[GroupRow, ...]
    block: Block | None
    limits: tuple[tuple[str, int, int], ...]
    """(scheduler resource, leased, limit)."""
    ceilings: tuple[CeilingRow, ...]
    sample_times: tuple[float, ...]
    queue_depth: tuple[tuple[float, ...], ...]
    """Per group (order of `groups`), queued tasks at each sample time."""
    bars: tuple[LeaseBar, ...]
    events: tuple[EventRow, ...]
    notes: tuple[str, ...]
    """Plain sentences that the header must show: a dead producer, a gap, a torn file."""
    awaited: str = ""
    """A sentence on what is waited for, before there is anything to read."""
    capacity: Mapping[str, Any] = field(default_factory=dict)
    """Every value of the capacity plan, by part and name; `capacity_rows` makes a table of it."""
    verdicts: tuple[VerdictRow, ...] = ()
    """The newest of those known, newest first; of what still goes on, as far as it has come."""
    standing: tuple[VerdictRow, ...] = ()
    """Those whose time the cursor is in, by start; only with `Want.standing`."""

    stop_reason: str | None = None
    """Why the producer ended the run before its work was done, in its own word."""
    queue: tuple[QueueRow, ...] = ()
    """By group, only with `Want.queue`."""
    aggregates: tuple[Aggregate, ...] = ()
    """The caps over all domains of a model."""
    errors: tuple[Failure, ...] = ()
    """What has failed so far, that which cost most rows first."""
    quiet_seconds: float | None = None
    """Time since a task last completed, where that is too long for a rate to mean anything."""
    focused: Focused | None = None
    """What is known of `Want.focus`."""
    eta_error_seconds: float | None = None
    """How far the ETA may be off, by how steady the run was; None where that is not known."""
    blame_series: tuple[tuple[str, tuple[float, ...]], ...] = ()
    """Per verdict, its part of the capacity in demand in each sample interval (0 to 1), only with
    `Want.blame`; in an interval without demand, or that is not known yet, all are 0."""
    lag: float = 0.0
    """Seconds by which the newest event that was read lies behind the run."""
    edge: float | None = None
    """Right edge of series and bars; None: the cursor."""
    stretch: Stretch | None = None
    """Only with `Want.stretch`."""
    answer: Answer | None = None
    """The first paragraph of a report on the span; only with `Want.standing`."""
    resumptions: tuple[tuple[float, float], ...] = ()
    """When the run went on after interruptions, also later ones: as for `WallClock`."""

    @property
    def wall_clock(self) -> WallClock:
        return WallClock(self.run, self.resumptions)

    @property
    def ending(self) -> Ending | None:
        """How the run ended and what it cost; None while no end is known."""
        done, dropped = self.progress.rows_done, self.progress.rows_dropped
        return ending(self.outcome, done, dropped, self.rows_total, self.errors, self.stop_reason)

    @property
    def unknown(self) -> bool:
        """The producer was lost here: what was open or held then may long be otherwise."""
        return self.liveness == "lost" and self.ordinal >= self.last_ordinal
