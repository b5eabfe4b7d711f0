"""Events, the run's description, and the lines of a journal.

One line of a journal is one JSON object; its `stream` field tells which struct it is:
`header` (first line of a segment), `scheduler`, `request`, or `end` (last line of a clean run).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 1

# Values that no run has and that no store can hold are refused when a line is read.
Seconds = Annotated[float, Meta(gt=-1e10, lt=1e10)]
Number = Annotated[int, Meta(ge=0, le=2**53)]
RowGroupNumber = Annotated[int, Meta(ge=0, le=2**31 - 1)]

SequenceSemantics = Literal["gapless", "per_producer", "none"]


class RuntimeCorrelation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The task that an event belongs to, captured when its fact happens."""

    run_id: str = ""
    """Empty only in a line of a journal that `HeaderFacts` has shortened."""
    row_group: RowGroupNumber | None = None
    task_column: str | None = None
    task_type: str | None = None
    scheduling_group_kind: str | None = None
    scheduling_group_identity_hash: str | None = None
    task_execution_id: str | None = None


class RequestResource(msgspec.Struct, frozen=True, gc=False):
    """Wire form of `engine.identity.RequestResourceKey`."""

    provider_name: str
    model_id: str
    domain: str

    @property
    def label(self) -> str:
        return f"{self.provider_name}/{self.model_id}/{self.domain}"


class SchedulerEvent(
    msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="stream", tag="scheduler"
):
    """A fact of the scheduler stream. Times are monotonic seconds of the producing process."""

    event_kind: str
    captured_at_monotonic: Seconds
    sequence: Number
    captured_correlation: RuntimeCorrelation | None = None
    task_id: str | None = None
    task_execution_id: str | None = None
    task_lease_id: str | None = None
    scheduler_resource_key: str | None = None
    reason_or_result: str | None = None
    snapshot: dict[str, Any] | None = None
    diagnostics: dict[str, Any] = {}


class RequestEvent(
    msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="stream", tag="request"
):
    """A fact of the request stream. Times are monotonic seconds of the producing process."""

    event_kind: str
    captured_at_monotonic: Seconds
    sequence: Number
    captured_correlation: RuntimeCorrelation | None = None
    request_attempt_id: str | None = None
    request_lease_id: str | None = None
    request_resource_key: RequestResource | None = None
    request_group_key: str | None = None
    reason_or_outcome: str | None = None
    pressure_snapshot: dict[str, Any] | None = None
    diagnostics: dict[str, Any] = {}


Event = SchedulerEvent | RequestEvent


class ColumnInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column of the workflow, as the scheduler knows it."""

    name: str
    kind: str
    """`sampler`, `expression`, `llm_text`, `custom`, or the word of another producer."""
    task_type: str
    """`cell` (a task per row) or `batch` (a task per row group)."""
    depends_on: tuple[str, ...] = ()
    group: str = ""
    """Label of the scheduling group."""
    group_kind: str = ""
    group_hash: str = ""
    group_weight: float = 1.0
    resources: dict[str, int] = {}
    """Scheduler resource label -> amount a task of this column needs."""
    request_resource: str | None = None
    """Label `provider/model/domain` of the resource its first request goes to, if known."""


class RunInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Description of a run: what is needed to fold its events, and to recognise it."""

    run_id: str
    name: str
    producer: str = "headgate"
    """`headgate` or `data_designer`."""
    producer_version: str = ""
    schema_version: Number = SCHEMA_VERSION
    wall_start: Seconds | None = None
    """Unix seconds at `monotonic_start`; None if the producer does not say."""
    monotonic_start: Seconds = 0.0
    records: Number | None = None
    row_groups: Number | None = None
    columns: tuple[ColumnInfo, ...] = ()
    edges_inferred: bool = False
    resource_limits: dict[str, Number] = {}
    """Scheduler resource label -> configured limit."""
    scheduler_sequence_semantics: SequenceSemantics = "gapless"
    request_sequence_semantics: SequenceSemantics = "gapless"
    lacks: tuple[str, ...] = ()
    """What the stream of this producer lacks, as short phrases for people."""
    configuration: dict[str, Any] = {}
    capacity_plan: dict[str, Any] = {}


class JournalHeader(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="stream", tag="header"
):
    """First line of every segment."""

    run: RunInfo
    segment: Number
    first_ordinal: Number
    """Ordinal (1-based, over both streams) of the first event in this segment."""
    dialect: Literal["headgate", "data_designer"] = "headgate"
    """Dialect of the following lines; header, gaps and end are headgate's in either."""


class JournalEnd(msgspec.Struct, frozen=True, tag_field="stream", tag="end"):
    """Last line of the last segment of a run whose producer reached its end."""

    outcome: Literal["success", "failed", "cancelled", "stopped"]
    captured_at_monotonic: float
    scheduler_sequence: int
    """Last sequence number of the scheduler stream; 0 for none."""
    request_sequence: int
    shed_events: int = 0
    message: str = ""


JournalLine = JournalHeader | SchedulerEvent | RequestEvent | JournalEnd
