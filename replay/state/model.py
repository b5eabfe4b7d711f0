"""The state of a run at one instant, as folded from its events.

Plain mutable structs: `replay.state.reducer` changes them, `replay.state.wire` keeps them as
keyframes, everything else only reads. Live and recent facts only: a finished task leaves the state,
so memory is bounded by what is in flight, not by the length of the run. Times are monotonic seconds
of the producer.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from engine.events.types import Seconds
from replay.state.live_tasks import PackedTasks
from replay.state.payload import Finite

AttemptPhase = Literal["waiting", "leased", "in_provider", "returned"]


class Attempt(msgspec.Struct, omit_defaults=True, gc=False):
    """A live request attempt: from its wait to the release of its lease."""

    attempt_id: str
    resource: str
    phase: AttemptPhase
    since: Finite
    execution_id: str | None = None
    column: str | None = None
    wait_started_at: Finite | None = None
    lease_id: str | None = None
    acquired_at: Finite | None = None
    started_at: Finite | None = None
    completed_at: Finite | None = None
    released_at: Finite | None = None
    """Set where a producer releases the lease before it reports the call's completion."""
    outcome: str | None = None
    first_ordinal: int = 0


class Group(msgspec.Struct, omit_defaults=True):
    """A scheduling group's counts; `debt` and demand are by scheduler resource label."""

    key: str
    weight: Finite = 1.0
    queued: int = 0
    leased: int = 0
    running: int = 0
    demand: dict[str, int] = {}
    """Amounts the queued tasks of this group need in total."""
    leased_amounts: dict[str, int] = {}
    """Amounts this group's leases hold."""
    debt: dict[str, int] = {}


class LimitChange(msgspec.Struct, omit_defaults=True):
    """One change of an adaptive ceiling, with its cause."""

    at: Finite
    ordinal: int
    previous: int
    current: int
    cause: str
    retry_after: Finite | None = None


class Ceiling(msgspec.Struct, omit_defaults=True):
    """The adaptive ceiling of one request resource."""

    resource: str
    provider_model: str
    static_cap: int | None = None
    effective_max: int = 0
    limit: int = 0
    in_flight: int = 0
    waiters: int = 0
    wait_reason: str | None = None
    """What keeps the head of the queue waiting; None while nothing waits."""
    blocked_until: Finite | None = None
    soft_ceiling: int | None = None
    consecutive_rate_limits: int = 0
    last_outcome: str | None = None
    availability: str | None = None
    """`out` or `suspended` while the resource answers nobody."""
    out_class: str = ""
    """Class of the failure that it answers with then."""
    out_because: str = ""
    """What it answers then, in the provider's words."""
    out_ordinal: int | None = None
    """The event that said so first."""
    last_change: LimitChange | None = None
    last_rate_limit_ordinal: int | None = None
    refused_class: str = ""
    """Class of the last refusal for load, such as `overload`; "" where no event tells."""
    completed: int = 0
    call_seconds: float = 0.0
    """What the completed calls took, where their begin was told."""
    rate_limited: int = 0
    failed: int = 0

    @property
    def cooldown_reason(self) -> str:
        """Why calls to it wait in a cooldown, as waits are named."""
        return "overload" if self.refused_class == "overload" else "cooldown"


class Aggregate(msgspec.Struct, omit_defaults=True):
    """The cap over all domains of one provider/model."""

    provider_model: str
    static_cap: int | None = None
    in_flight: int = 0
    aliases: tuple[str, ...] = ()
    raw_caps: dict[str, int] = {}
    """The cap that each alias gives; the smallest of them holds for all."""


class Block(msgspec.Struct, omit_defaults=True):
    """Why the task queue admits nothing, from entering that state until the next admission."""

    kind: Literal["admission_blocked", "group_capped", "queue_empty"]
    since: Finite
    ordinal: int
    reason: str | None = None
    queued_count: int = 0
    reasons: dict[str, int] = {}
    groups: dict[str, str] = {}
    available_after: Finite | None = None


class Gap(msgspec.Struct):
    """Events of one stream that are known to be missing."""

    stream: str
    first_lost: int
    last_lost: int
    from_time: Finite
    to_time: Finite
    cause: str


class RowGroupProgress(msgspec.Struct, omit_defaults=True):
    """Which row groups are under way, and what keeps the next one out."""

    in_flight: list[int] = []
    target: int | None = None
    admitted: int = 0
    checkpointed: int = 0
    blocked_reason: str | None = None


class Failure(msgspec.Struct, omit_defaults=True):
    """What failed in one way: calls of a column to a resource, or a column's own code."""

    resource: str
    """Request resource; "" where no call failed."""
    column: str
    error: str
    """As the producer names it: `HTTP401`, `authentication`, `ValueError`."""
    first_at: Finite
    last_at: Finite
    first_ordinal: int
    last_ordinal: int = 0
    times: int = 0
    """Failed calls; where no call failed, failed tasks."""
    rows_dropped: int = 0
    of_calls: bool = False
    """Calls failed, by the request stream; otherwise tasks told of it."""
    status: int | None = None
    """HTTP status, where the producer tells it beside the error."""
    message: str = ""
    """What the first failed task said, where no call failed."""


class Progress(msgspec.Struct, omit_defaults=True):
    """What the run has made and used so far."""

    rows_done: int = 0
    rows_dropped: int = 0
    completed_by_column: dict[str, int] = {}
    seconds_by_column: dict[str, float] = {}
    """What the tasks took that completed, from their lease on."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Finite = 0.0
    """In US dollars, of the calls whose cost is known."""
    priced_calls: int = 0
    """Answered calls whose cost is known."""
    answered_calls: int = 0
    requests_completed: int = 0
    rate_limited: int = 0
    retries: int = 0
    errors: dict[str, int] = {}
    """Error type -> how many attempts ended in it (deferred or dropped)."""
    last_done_at: Finite | None = None
    """When a task last completed."""


class State(msgspec.Struct):
    """Everything the fold knows at one instant."""

    ordinal: int = 0
    """Ordinal of the last event folded in; 0 before the first."""
    time: Seconds = 0.0
    outcome: str | None = None
    """`success`, `failed`, `cancelled` once the run ended by itself."""
    capacity: dict[str, Any] = {}
    """`runtime_snapshot` and `observed_maxima` of the capacity plan, once the run has told them."""
    tasks: PackedTasks = msgspec.field(default_factory=PackedTasks)
    attempts: dict[str, Attempt] = {}
    groups: dict[str, Group] = {}
    limits: dict[str, int] = {}
    leased: dict[str, int] = {}
    ceilings: dict[str, Ceiling] = {}
    aggregates: dict[str, Aggregate] = {}
    block: Block | None = None
    row_groups: RowGroupProgress = msgspec.field(default_factory=RowGroupProgress)
    progress: Progress = msgspec.field(default_factory=Progress)
    release_diagnostics: dict[str, int] = {}
    last_sequence: dict[str, int] = {}
    """Last sequence seen, by stream."""
    lost_events: int = 0
    gaps: list[Gap] = []
    unknown_kinds: dict[str, int] = {}
    orphans: int = 0
    """Events about a task or attempt whose beginning was never seen."""
    malformed: dict[str, int] = {}
    """Events by kind whose payload could not be used, and changed nothing."""
    last_seen_at: dict[str, Seconds] = {}
    """Time of the last event seen, by stream."""
    failures: dict[str, Failure] = {}
    """What failed, by resource, column and error (`replay.state.failures`)."""
    stop_reason: str | None = None
    """Why the producer ended the run before its work was done, in its own word."""
    end_message: str = ""
    """What the producer said of the end."""
    warnings: list[tuple[Finite, str]] = []
    """What a user should know that came up during the run: time, and a sentence."""
    resumptions: list[tuple[Finite, Finite]] = []
    """When the run went on after interruptions: time of the producer, and Unix seconds."""
    out_of_step: bool = False
    """Events are missing since the last full keyframe: the next keyframe corrects the fold."""
