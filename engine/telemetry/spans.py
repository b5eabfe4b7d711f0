"""`SpanRecorder`: the spans of a run, from its events.

    task <column>                   INTERNAL, a trace of its own: a task lease
      chat <alias>                  CLIENT: a logical call with all its attempts
        attempt                     INTERNAL: one lease of request admission, wait included

Times are those of the events. A task whose trace is not sampled costs one span that records
nothing: its calls are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from engine.telemetry import conventions as names
from engine.telemetry.labels import Labels

ATTEMPT_SPAN = "attempt"
_ROOT = Context()
_MAY_BE_REPEATED = frozenset({"rate_limited"})


class _Call:
    """A logical call whose last attempt may have been repeated."""

    __slots__ = ("attempts", "context", "ended_at", "error", "lease", "span")

    def __init__(self, span: Span, lease: _Lease | None) -> None:
        self.span = span
        self.context = set_span_in_context(span, _ROOT)
        self.lease = lease
        self.attempts = 0
        self.ended_at = 0
        self.error: str | None = None
        """Of the last attempt."""


class _Lease:
    """A task that holds a lease, and is sampled."""

    __slots__ = ("calls", "context", "execution_id", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.execution_id = ""
        """Known once its worker is spawned."""
        self.context = set_span_in_context(span, _ROOT)
        self.calls: dict[str, _Call] = {}
        """Calls that have not ended, by the id of their first attempt."""


class _Attempt:
    __slots__ = ("call", "error", "first", "outcome", "retried", "span")

    def __init__(self, span: Span, call: _Call, first: str) -> None:
        self.span = span
        self.call = call
        self.first = first
        self.outcome: str | None = None
        self.error: str | None = None
        self.retried = False
        """Its answer was rejected, and is asked for again."""


class SpanRecorder:
    """Starts and ends spans as their events come in.

    Args:
        tracer: Makes the spans.
        run: Describes the run; its start joins monotonic times with the wall clock.
    """

    def __init__(self, tracer: Tracer, run: RunInfo) -> None:
        self._tracer = tracer
        self._run = run
        self._labels = Labels(run)
        self._epoch = (run.wall_start or 0.0) - run.monotonic_start
        self._leases: dict[str, _Lease] = {}
        """By lease id."""
        self._executions: dict[str, _Lease] = {}
        """By execution id."""
        self._attempts: dict[str, _Attempt] = {}
        self._calls: dict[str, _Call] = {}
        """Calls of no task that have not ended, by the id of their first attempt."""
        self._last_at = 0.0
        self._on_scheduler: dict[str, Callable[[SchedulerEvent], None]] = {
            "task_lease_acquired": self._lease_acquired,
            "worker_spawned": self._spawned,
            "retry_deferred": self._failed,
            "non_retryable_dropped": self._failed,
            "cancelled": self._failed,
            "worker_spawn_failed": self._failed,
            "task_lease_released": self._lease_released,
        }
        self._on_request: dict[str, Callable[[RequestEvent, str], None]] = {
            "request_wait_started": self._attempt_started,
            "request_wait_completed": self._waited,
            "model_request_completed": self._answered,
            "request_lease_released": self._attempt_ended,
            "request_wait_timeout": self._without_lease,
            "request_wait_cancelled": self._without_lease,
            "request_acquire_denied": self._without_lease,
        }

    def write_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, SchedulerEvent):
                handle = self._on_scheduler.get(event.event_kind)
                if handle is not None:
                    handle(event)
            else:
                answer = self._on_request.get(event.event_kind)
                if answer is not None and event.request_attempt_id is not None:
                    answer(event, event.request_attempt_id)
        if events:
            self._last_at = events[-1].captured_at_monotonic

    def close(self) -> None:
        """End what is still open, as of the last event."""
        now = self._nanoseconds(self._last_at)
        for attempt in self._attempts.values():
            attempt.span.end(now)
            attempt.call.ended_at = now
        for lease in self._leases.values():
            self._end_lease(lease, now)
        for call in self._calls.values():
            self._end_call(call)
        self._attempts.clear()
        self._leases.clear()
        self._executions.clear()
        self._calls.clear()

    def _nanoseconds(self, at: float) -> int:
        return int((self._epoch + at) * 1e9)

    def _lease_acquired(self, event: SchedulerEvent) -> None:
        correlation = event.captured_correlation
        column = correlation.task_column if correlation is not None else None
        span = self._tracer.start_span(
            f"task {column}" if column else "task",
            _ROOT,
            SpanKind.INTERNAL,
            start_time=self._nanoseconds(event.captured_at_monotonic),
        )
        if not span.is_recording():
            return
        row_group = correlation.row_group if correlation is not None else None
        span.set_attributes(
            _known(
                {
                    names.RUN_ID: self._run.run_id,
                    names.COLUMN: column,
                    names.ROW_GROUP: row_group,
                    names.TASK_ID: event.task_id,
                    names.TASK_LEASE_ID: event.task_lease_id,
                }
            )
        )
        self._leases[event.task_lease_id or ""] = _Lease(span)

    def _spawned(self, event: SchedulerEvent) -> None:
        lease = self._leases.get(event.task_lease_id or "")
        if lease is not None and event.task_execution_id is not None:
            lease.execution_id = event.task_execution_id
            lease.span.set_attribute(names.EXECUTION_ID, event.task_execution_id)
            self._executions[event.task_execution_id] = lease

    def _failed(self, event: SchedulerEvent) -> None:
        lease = self._leases.get(event.task_lease_id or "")
        if lease is None:
            return
        lease.span.set_attribute(names.TASK_RESULT, event.event_kind)
        lease.span.set_status(Status(StatusCode.ERROR))
        if event.reason_or_result:
            lease.span.set_attribute(names.ERROR_TYPE, event.reason_or_result)

    def _lease_released(self, event: SchedulerEvent) -> None:
        lease = self._leases.pop(event.task_lease_id or "", None)
        if lease is not None:
            self._executions.pop(lease.execution_id, None)
            self._end_lease(lease, self._nanoseconds(event.captured_at_monotonic))

    def _end_lease(self, lease: _Lease, now: int) -> None:
        for call in list(lease.calls.values()):
            self._end_call(call)
        lease.calls.clear()
        lease.span.end(now)

    def _attempt_started(self, event: RequestEvent, attempt_id: str) -> None:
        correlation = event.captured_correlation
        lease = None
        if correlation is not None and correlation.task_execution_id is not None:
            lease = self._executions.get(correlation.task_execution_id)
            if lease is None:
                return
        started = self._nanoseconds(event.captured_at_monotonic)
        first = event.diagnostics.get("repeats")
        first = first if isinstance(first, str) else attempt_id
        calls = self._calls if lease is None else lease.calls
        call = calls.get(first)
        if call is None:
            call = self._start_call(event, lease, started)
            if call is None:
                return
            calls[first] = call
        call.attempts += 1
        span = self._tracer.start_span(
            ATTEMPT_SPAN,
            call.context,
            SpanKind.INTERNAL,
            {names.ATTEMPT_ID: attempt_id, names.ATTEMPT_NUMBER: call.attempts},
            start_time=started,
        )
        self._attempts[attempt_id] = _Attempt(span, call, first)

    def _start_call(self, event: RequestEvent, lease: _Lease | None, started: int) -> _Call | None:
        resource = event.request_resource_key
        if resource is None:
            return None
        labels = self._labels.of_request(resource).operation
        span = self._tracer.start_span(
            f"{labels[names.OPERATION]} {labels[names.MODEL]}",
            _ROOT if lease is None else lease.context,
            SpanKind.CLIENT,
            dict(labels),
            start_time=started,
        )
        return _Call(span, lease) if span.is_recording() else None

    def _waited(self, event: RequestEvent, attempt_id: str) -> None:
        attempt = self._attempts.get(attempt_id)
        waited = event.diagnostics.get("waited_seconds")
        if attempt is not None and isinstance(waited, int | float):
            attempt.span.set_attribute(names.WAIT_SECONDS, waited)

    def _answered(self, event: RequestEvent, attempt_id: str) -> None:
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        facts = event.diagnostics
        attempt.outcome = event.reason_or_outcome
        action = facts.get("action")
        attempt.retried = action == "retry"
        failure = facts.get("error_type") or (facts.get("verdict") if action != "accept" else None)
        attempt.error = str(failure) if failure else None
        usage = {
            names.INPUT_TOKENS: facts.get("prompt_tokens"),
            names.OUTPUT_TOKENS: facts.get("completion_tokens"),
        }
        finish = facts.get("finish_reason")
        status = {names.HTTP_STATUS: facts.get("status")}
        attempt.span.set_attributes(_known(status | usage))
        attempt.call.span.set_attributes(
            _known(usage | {names.FINISH_REASONS: (finish,) if finish else None})
        )

    def _attempt_ended(self, event: RequestEvent, attempt_id: str) -> None:
        attempt = self._attempts.pop(attempt_id, None)
        if attempt is not None:
            outcome = attempt.outcome or event.reason_or_outcome
            repeatable = outcome in _MAY_BE_REPEATED or attempt.retried
            self._end_attempt(attempt, event, outcome, repeatable)

    def _without_lease(self, event: RequestEvent, attempt_id: str) -> None:
        attempt = self._attempts.pop(attempt_id, None)
        if attempt is not None:
            attempt.error = event.reason_or_outcome
            self._end_attempt(attempt, event, event.reason_or_outcome, False)

    def _end_attempt(
        self, attempt: _Attempt, event: RequestEvent, outcome: str | None, repeatable: bool
    ) -> None:
        call, span = attempt.call, attempt.span
        error = attempt.error
        if error is None and outcome != "success":
            error = outcome or "unknown"
        span.set_attribute(names.OUTCOME, outcome or "unknown")
        if error is not None:
            span.set_attribute(names.ERROR_TYPE, error)
            span.set_status(Status(StatusCode.ERROR))
        call.error = error
        call.ended_at = self._nanoseconds(event.captured_at_monotonic)
        span.end(call.ended_at)
        if not repeatable:
            calls = self._calls if call.lease is None else call.lease.calls
            calls.pop(attempt.first, None)
            self._end_call(call)

    @staticmethod
    def _end_call(call: _Call) -> None:
        """It ends with its last attempt, and has failed if that has."""
        call.span.set_attribute(names.ATTEMPTS, call.attempts)
        if call.error is not None:
            call.span.set_attribute(names.ERROR_TYPE, call.error)
            call.span.set_status(Status(StatusCode.ERROR))
        call.span.end(call.ended_at)


def _known(attributes: dict[str, object]) -> dict[str, AttributeValue]:
    return {
        name: value
        for name, value in attributes.items()
        if isinstance(value, str | int | float | tuple)
    }
