"""The instruments: every metric with its kind, unit, labels and buckets. The only list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from engine.telemetry import conventions as names

Observe = Callable[[], Iterable[Observation]]

_REQUEST = frozenset({names.PROVIDER, names.MODEL, names.DOMAIN})
_CALL_SECONDS = tuple(0.01 * 2.0**power for power in range(15))
"""10 ms to 164 s, doubling, as the GenAI conventions advise for calls to a model."""
_WAIT_SECONDS = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)


class Instrument(NamedTuple):
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    meaning: str
    labels: frozenset[str] = frozenset()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, in its unit."""


EVENTS = Instrument(
    "headgate.events",
    "counter",
    "{event}",
    "events of the run, by kind",
    frozenset({names.EVENT_KIND}),
)
ROWS_WRITTEN = Instrument("headgate.rows.written", "counter", "{row}", "rows that were written")
ROWS_DROPPED = Instrument("headgate.rows.dropped", "counter", "{row}", "rows that were dropped")
INPUT_TOKENS = Instrument(
    "headgate.request.tokens.input", "counter", "{token}", "tokens sent to models", _REQUEST
)
OUTPUT_TOKENS = Instrument(
    "headgate.request.tokens.output", "counter", "{token}", "tokens that models made", _REQUEST
)
BLOCKED_TIME = Instrument(
    "headgate.scheduler.blocked.time",
    "counter",
    "s",
    "time with tasks queued that had to wait for others to end, by the denial that dominates and "
    "by what kept calls waiting meanwhile",
    frozenset({names.REASON, names.UNDERLYING_CAUSE}),
)
TASKS_QUEUED = Instrument("headgate.tasks.queued", "gauge", "{task}", "tasks in the queue")
TASKS_DEFERRED = Instrument("headgate.tasks.deferred", "gauge", "{task}", "tasks in a back-off")
ROW_GROUPS = Instrument(
    "headgate.row_groups.in_flight", "gauge", "{row_group}", "row groups under way"
)
LEASED = Instrument(
    "headgate.scheduler.resource.leased",
    "gauge",
    "{unit}",
    "units of scheduler resources that tasks hold",
    frozenset({names.RESOURCE_KIND}),
)
LIMIT = Instrument(
    "headgate.scheduler.resource.limit",
    "gauge",
    "{unit}",
    "units of scheduler resources that there are",
    frozenset({names.RESOURCE_KIND}),
)
REQUESTS_IN_FLIGHT = Instrument(
    "headgate.request.in_flight", "gauge", "{request}", "calls under way", _REQUEST
)
REQUESTS_WAITING = Instrument(
    "headgate.request.waiting", "gauge", "{request}", "calls that wait for a lease", _REQUEST
)
REQUEST_LIMIT = Instrument(
    "headgate.request.limit",
    "gauge",
    "{request}",
    "the adaptive ceiling, and the algorithm that moves it",
    _REQUEST | {names.ALGORITHM},
)
REQUEST_LIMIT_MAXIMUM = Instrument(
    "headgate.request.limit.maximum", "gauge", "{request}", "most that the ceiling may be", _REQUEST
)
COOLDOWN = Instrument(
    "headgate.request.cooldown", "gauge", "s", "time until the cooldown ends", _REQUEST
)
LOOP_DRIFT = Instrument(
    "headgate.loop.drift", "gauge", "s", "how late the event loop's last heartbeat was"
)
SPANS_LOST = Instrument(
    "headgate.telemetry.spans.lost",
    "counter",
    "{span}",
    "spans that were dropped from a full queue or that no endpoint took",
)
CALL_DURATION = Instrument(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "time of one call at its provider; a refused one counts as well",
    frozenset({names.OPERATION, names.PROVIDER, names.MODEL}),
    _CALL_SECONDS,
)
REQUEST_WAIT = Instrument(
    "headgate.request.wait.duration",
    "histogram",
    "s",
    "time for which a call waited for its lease",
    _REQUEST,
    _WAIT_SECONDS,
)
TASK_QUEUE_WAIT = Instrument(
    "headgate.task.queue.duration",
    "histogram",
    "s",
    "time from the queue to the task lease",
    frozenset({names.RESOURCE_KIND}),
    _WAIT_SECONDS,
)
TASK_LEASE = Instrument(
    "headgate.task.lease.duration",
    "histogram",
    "s",
    "time for which a task held its lease",
    frozenset({names.RESOURCE_KIND}),
    _WAIT_SECONDS,
)

INSTRUMENTS: tuple[Instrument, ...] = (
    EVENTS,
    ROWS_WRITTEN,
    ROWS_DROPPED,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    BLOCKED_TIME,
    TASKS_QUEUED,
    TASKS_DEFERRED,
    ROW_GROUPS,
    LEASED,
    LIMIT,
    REQUESTS_IN_FLIGHT,
    REQUESTS_WAITING,
    REQUEST_LIMIT,
    REQUEST_LIMIT_MAXIMUM,
    COOLDOWN,
    LOOP_DRIFT,
    SPANS_LOST,
    CALL_DURATION,
    REQUEST_WAIT,
    TASK_QUEUE_WAIT,
    TASK_LEASE,
)


def histogram(meter: Meter, instrument: Instrument) -> Histogram:
    """The histogram of `instrument`, with its buckets. Raises `ValueError` for one not listed."""
    return meter.create_histogram(
        check(instrument).name,
        unit=instrument.unit,
        description=instrument.meaning,
        explicit_bucket_boundaries_advisory=instrument.buckets,
    )


def observed(meter: Meter, instrument: Instrument, observe: Observe) -> None:
    """Register a counter or gauge whose values `observe` reads whenever metrics are collected."""
    create = (
        meter.create_observable_counter
        if check(instrument).kind == "counter"
        else meter.create_observable_gauge
    )

    def callback(_options: CallbackOptions) -> list[Observation]:
        observations = list(observe())
        for observation in observations:
            check_labels(instrument, observation.attributes or {})
        return observations

    create(
        instrument.name, callbacks=[callback], unit=instrument.unit, description=instrument.meaning
    )


def check(instrument: Instrument) -> Instrument:
    """Raises `ValueError` for a label that no metric may have."""
    unknown = instrument.labels - names.METRIC_LABELS
    if unknown:
        raise ValueError(f"{instrument.name}: {', '.join(sorted(unknown))} is no label of a metric")
    return instrument


def check_labels(instrument: Instrument, labels: Mapping[str, object]) -> None:
    """Raises `ValueError` for a label that the instrument does not declare."""
    unknown = labels.keys() - instrument.labels
    if unknown:
        raise ValueError(f"{instrument.name} has no label {', '.join(sorted(unknown))}")
