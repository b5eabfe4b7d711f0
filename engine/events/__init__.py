"""The canonical event stream: types, vocabulary, encoding, and the run folder it is kept in."""

from engine.errors import UserError
from engine.events.codec import HeaderFacts, decode_line, decode_whole, encode_lines
from engine.events.correlation import RuntimeCorrelationProvider
from engine.events.kinds import (
    ALL_REQUEST_KINDS,
    ALL_SCHEDULER_KINDS,
    DENIAL_ORDER,
    EVENT_KINDS,
    EventKind,
    Significance,
    significance_of,
    stream_of,
)
from engine.events.stream import (
    EventSink,
    EventStream,
    RequestAdmissionEventSink,
    SchedulerAdmissionEventSink,
)
from engine.events.types import (
    SCHEMA_VERSION,
    ColumnInfo,
    Event,
    JournalEnd,
    JournalHeader,
    JournalLine,
    Number,
    RequestEvent,
    RequestResource,
    RunInfo,
    RuntimeCorrelation,
    SchedulerEvent,
)

__all__ = [
    "ALL_REQUEST_KINDS",
    "ALL_SCHEDULER_KINDS",
    "DENIAL_ORDER",
    "EVENT_KINDS",
    "SCHEMA_VERSION",
    "ColumnInfo",
    "Event",
    "EventKind",
    "EventSink",
    "EventStream",
    "HeaderFacts",
    "JournalEnd",
    "JournalHeader",
    "JournalLine",
    "Number",
    "RequestAdmissionEventSink",
    "RequestEvent",
    "RequestResource",
    "RunInfo",
    "RuntimeCorrelation",
    "RuntimeCorrelationProvider",
    "SchedulerAdmissionEventSink",
    "SchedulerEvent",
    "Significance",
    "UserError",
    "decode_line",
    "decode_whole",
    "encode_lines",
    "significance_of",
    "stream_of",
]
