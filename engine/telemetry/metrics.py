"""`MetricRecorder`: the metrics of a run, from its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter, Observation

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from engine.events.kinds import DENIAL_ORDER
from engine.telemetry import conventions as names
from engine.telemetry import instruments
from engine.telemetry.gauges import Gauges
from engine.telemetry.labels import OTHER, Labels, kind_label

CAUSE_ORDER = (
    "suspended",
    "outage",
    "cooldown",
    "request_rate_budget",
    "request_plateau",
    "ramp",
    "aggregate_cap",
    "domain_limit",
)
"""What keeps calls waiting, from what no slot would mend to what one would; the first one counts
as the cause of a blocked scheduler."""
_NOTHING_WAITS = "none"
MOST_PENDING = 512
_NO_SPAN = Context({"headgate.recorder": True})
"""Not empty: for an empty context the SDK would look up the current one at each record."""


class MetricRecorder:
    """Records durations as they end, and counts the rest for whoever collects.

    A counter is an addition to a dictionary here and an observation there: to call an instrument
    for each event would cost more than all else that a run does for it. Durations are recorded many
    at a time, at the latest with the next keyframe: one by one, between the work of the engine,
    each costs twice as much.
    """

    def __init__(self, meter: Meter, run: RunInfo) -> None:
        self._labels = labels = Labels(run)
        self._gauges = Gauges(meter, run, labels)
        self._calls = instruments.histogram(meter, instruments.CALL_DURATION)
        self._request_waits = instruments.histogram(meter, instruments.REQUEST_WAIT)
        self._queue_waits = instruments.histogram(meter, instruments.TASK_QUEUE_WAIT)
        self._leases = instruments.histogram(meter, instruments.TASK_LEASE)
        self._pending: list[tuple[Histogram, float, dict[str, str]]] = []
        self._events: dict[str, int] = {}
        self._input_tokens: dict[str, int] = {}
        self._output_tokens: dict[str, int] = {}
        self._rows_written = 0
        self._rows_dropped = 0
        self._enqueued_at: dict[str, float] = {}
        self._leased: dict[str, tuple[float, dict[str, str]]] = {}
        self._wait_reasons: dict[str, str] = {}
        self._blocked: tuple[float, str] | None = None
        """Since when time was not counted yet, and the denial."""
        self._blocked_seconds: dict[tuple[str, str], float] = {}
        self._on_scheduler: dict[str, Callable[[SchedulerEvent], None]] = {
            "ready_enqueued": self._enqueued,
            "task_lease_acquired": self._lease_acquired,
            "task_lease_released": self._lease_released,
            "cancelled": self._gone,
            "stale_selection": self._gone,
            "admission_blocked": self._block,
            "group_capped": self._block,
            "queue_empty": self._unblock,
            "queue_drained": self._unblock,
            "row_group_checkpointed": self._checkpointed,
            "scheduler_health_snapshot": self._keyframe,
            "scheduler_loop_heartbeat": self._heartbeat,
            "scheduler_job_completed": self._completed,
        }
        self._on_request: dict[str, Callable[[RequestEvent, str], None]] = {
            "request_resource_registered": self._registered,
            "request_wait_started": self._wait_started,
            "request_wait_reason_changed": self._wait_changed,
            "request_queue_drained": self._queue_drained,
            "request_wait_completed": self._waited,
            "model_request_completed": self._answered,
        }
        for instrument, observe in (
            (instruments.EVENTS, self._observe_events),
            (instruments.ROWS_WRITTEN, lambda: [Observation(self._rows_written)]),
            (instruments.ROWS_DROPPED, lambda: [Observation(self._rows_dropped)]),
            (instruments.INPUT_TOKENS, lambda: self._observe_tokens(self._input_tokens)),
            (instruments.OUTPUT_TOKENS, lambda: self._observe_tokens(self._output_tokens)),
            (instruments.BLOCKED_TIME, self._observe_blocked),
        ):
            instruments.observed(meter, instrument, observe)

    def write_events(self, events: Sequence[Event]) -> None:
        counts = self._events
        for event in events:
            kind = event.event_kind
            counts[kind] = counts.get(kind, 0) + 1
            if isinstance(event, SchedulerEvent):
                handle = self._on_scheduler.get(kind)
                if handle is not None:
                    handle(event)
            else:
                answer = self._on_request.get(kind)
                if answer is not None and event.request_resource_key is not None:
                    answer(event, event.request_resource_key.label)

        if len(self._pending) >= MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Record the durations that are pending."""
        pending, self._pending = self._pending, []
        for histogram, seconds, labels in pending:
            histogram.record(seconds, labels, _NO_SPAN)

    def _enqueued(self, event: SchedulerEvent) -> None:
        if event.task_id is not None:
            self._enqueued_at[event.task_id] = event.captured_at_monotonic

    def _lease_acquired(self, event: SchedulerEvent) -> None:
        now = event.captured_at_monotonic
        labels = self._labels.of_task(_mapping(event.diagnostics.get("resources")))
        queued_at = self._enqueued_at.pop(event.task_id or "", None)
        if queued_at is not None:
            self._pending.append((self._queue_waits, max(0.0, now - queued_at), labels))
        if event.task_lease_id is not None:
            self._leased[event.task_lease_id] = (now, labels)

    def _lease_released(self, event: SchedulerEvent) -> None:
        lease = self._leased.pop(event.task_lease_id or "", None)
        if lease is not None:
            held = event.captured_at_monotonic - lease[0]
            self._pending.append((self._leases, max(0.0, held), lease[1]))

    def _gone(self, event: SchedulerEvent) -> None:
        """A task that was cancelled before it had a lease."""
        self._enqueued_at.pop(event.task_id or "", None)

    def _block(self, event: SchedulerEvent) -> None:
        """It stays so, whoever gets a lease meanwhile, until this is said again otherwise or the
        queue is empty."""
        self._end_block(event.captured_at_monotonic)
        reason = event.reason_or_result
        self._blocked = (
            event.captured_at_monotonic,
            reason if reason in DENIAL_ORDER else OTHER,
        )

    def _unblock(self, event: SchedulerEvent) -> None:
        self._end_block(event.captured_at_monotonic)

    def _end_block(self, now: float) -> None:
        self._count_blocked(now)
        self._blocked = None

    def _count_blocked(self, now: float) -> None:
        if self._blocked is None:
            return
        since, reason = self._blocked
        key = (reason, self._cause())
        self._blocked_seconds[key] = self._blocked_seconds.get(key, 0.0) + max(0.0, now - since)
        self._blocked = (now, reason)

    def _cause(self) -> str:
        waiting = set(self._wait_reasons.values())
        otherwise = OTHER if waiting else _NOTHING_WAITS
        return next((cause for cause in CAUSE_ORDER if cause in waiting), otherwise)

    def _checkpointed(self, event: SchedulerEvent) -> None:
        self._rows_written += _count(event.diagnostics.get("surviving_rows"))
        self._rows_dropped += _count(event.diagnostics.get("dropped_rows"))

    def _keyframe(self, event: SchedulerEvent) -> None:
        self._count_blocked(event.captured_at_monotonic)
        self._gauges.take(event)
        self.flush()

    def _heartbeat(self, event: SchedulerEvent) -> None:
        self._gauges.drift(event)

    def _completed(self, event: SchedulerEvent) -> None:
        self._end_block(event.captured_at_monotonic)
        self._enqueued_at.clear()

    def _registered(self, event: RequestEvent, _label: str) -> None:
        aliases = event.diagnostics.get("aliases")
        if isinstance(aliases, list) and event.request_resource_key is not None:
            self._labels.learn_aliases(event.request_resource_key, [str(name) for name in aliases])

    def _wait_started(self, event: RequestEvent, label: str) -> None:
        reason = event.diagnostics.get("reason")
        if reason != _NOTHING_WAITS:
            self._set_wait_reason(event, label, reason)

    def _wait_changed(self, event: RequestEvent, label: str) -> None:
        self._set_wait_reason(event, label, event.diagnostics.get("to"))

    def _set_wait_reason(self, event: RequestEvent, label: str, reason: object) -> None:
        if isinstance(reason, str) and self._wait_reasons.get(label) != reason:
            self._count_blocked(event.captured_at_monotonic)
            self._wait_reasons[label] = reason

    def _queue_drained(self, event: RequestEvent, label: str) -> None:
        self._count_blocked(event.captured_at_monotonic)
        self._wait_reasons.pop(label, None)

    def _waited(self, event: RequestEvent, label: str) -> None:
        waited = _seconds(event.diagnostics.get("waited_seconds"))
        if waited is not None:
            labels = self._labels.of_label(label).request
            self._pending.append((self._request_waits, waited, labels))

    def _answered(self, event: RequestEvent, label: str) -> None:
        facts = event.diagnostics
        labels = self._labels.of_label(label)
        duration = _seconds(facts.get("duration_seconds"))
        if duration is not None:
            self._pending.append((self._calls, duration, labels.operation))
        for totals, name in (
            (self._input_tokens, "prompt_tokens"),
            (self._output_tokens, "completion_tokens"),
        ):
            tokens = _count(facts.get(name))
            if tokens:
                totals[label] = totals.get(label, 0) + tokens

    def _observe_events(self) -> list[Observation]:
        sums: dict[str, int] = {}
        for kind, count in list(self._events.items()):
            label = kind_label(kind)
            sums[label] = sums.get(label, 0) + count
        return [Observation(count, {names.EVENT_KIND: kind}) for kind, count in sums.items()]

    def _observe_tokens(self, totals: dict[str, int]) -> list[Observation]:
        sums: dict[tuple[tuple[str, str], ...], int] = {}
        for label, tokens in list(totals.items()):
            key = tuple(self._labels.of_label(label).request.items())
            sums[key] = sums.get(key, 0) + tokens
        return [Observation(tokens, dict(key)) for key, tokens in sums.items()]

    def _observe_blocked(self) -> list[Observation]:
        return [
            Observation(seconds, {names.REASON: reason, names.UNDERLYING_CAUSE: cause})
            for (reason, cause), seconds in list(self._blocked_seconds.items())
        ]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value >= 0 else None
