"""`EventStream`: numbers the events of a run and delivers them to sinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from engine.clock import Clock
from engine.events.types import (
    Event,
    RequestEvent,
    RequestResource,
    RuntimeCorrelation,
    SchedulerEvent,
)

E = TypeVar("E", bound=Event)
C = TypeVar("C", bound=Event, contravariant=True)


class _Sink(Protocol[C]):
    def write_events(self, events: Sequence[C]) -> None: ...


class EventSink(Protocol):
    """Receives the events of both streams in their common order, in batches of one iteration of the
    loop, and never inside a critical section."""

    def write_events(self, events: Sequence[Event]) -> None: ...


class SchedulerAdmissionEventSink(Protocol):
    """As `EventSink`, for the scheduler stream alone."""

    def write_events(self, events: Sequence[SchedulerEvent]) -> None: ...


class RequestAdmissionEventSink(Protocol):
    """As `EventSink`, for the request stream alone."""

    def write_events(self, events: Sequence[RequestEvent]) -> None: ...


class EventStream:
    """Builds each event when its fact happens, and delivers it after the current critical section.

    To deliver at once would be simpler, but a sink could then run in the middle of a change of the
    ledgers. A sink that raises is counted in `failures_by_sink` and never stops a run. No event is
    built for a stream that no sink takes, and its sequence does not advance.

    A producer that has read the clock for a fact passes that time as `at`, so that its ledger and a
    fold of its events agree to the last digit.

    Args:
        clock: Time of events without an `at`.
        run_id: Id of the run.
        sinks: Take both streams.
        defer: Schedules a callback for the end of the current iteration, as `loop.call_soon` does;
            without it events are delivered by `flush` only.
        scheduler_sinks: Take the scheduler stream.
        request_sinks: Take the request stream.
    """

    def __init__(
        self,
        clock: Clock,
        run_id: str,
        sinks: Sequence[EventSink] = (),
        defer: Callable[[Callable[[], None]], object] | None = None,
        *,
        scheduler_sinks: Sequence[SchedulerAdmissionEventSink] = (),
        request_sinks: Sequence[RequestAdmissionEventSink] = (),
    ) -> None:
        self.run_id = run_id
        self.scheduler_enabled = bool(sinks or scheduler_sinks)
        self.requests_enabled = bool(sinks or request_sinks)
        self.scheduler_sequence = 0
        self.request_sequence = 0
        self.failures_by_sink: dict[str, int] = {}
        self.after_flush: Callable[[], None] | None = None
        """Called after each delivery, outside critical sections; it may emit events."""
        self._clock = clock
        self._sinks = tuple(sinks)
        self._scheduler_sinks = tuple(scheduler_sinks)
        self._request_sinks = tuple(request_sinks)
        self._defer = defer
        self._pending: list[Event] = []
        self._flush_due = False

    def scheduler(
        self,
        kind: str,
        *,
        correlation: RuntimeCorrelation | None = None,
        task_id: str | None = None,
        task_execution_id: str | None = None,
        task_lease_id: str | None = None,
        scheduler_resource_key: str | None = None,
        reason: str | None = None,
        snapshot: dict[str, Any] | None = None,
        diagnostics: dict[str, Any] | None = None,
        at: float | None = None,
    ) -> None:
        if not self.scheduler_enabled:
            return
        self.scheduler_sequence += 1
        self._push(
            SchedulerEvent(
                kind,
                self._clock.monotonic() if at is None else at,
                self.scheduler_sequence,
                correlation,
                task_id,
                task_execution_id,
                task_lease_id,
                scheduler_resource_key,
                reason,
                snapshot,
                diagnostics or {},
            )
        )

    def request(
        self,
        kind: str,
        *,
        resource: RequestResource | None = None,
        correlation: RuntimeCorrelation | None = None,
        attempt_id: str | None = None,
        lease_id: str | None = None,
        group: str | None = None,
        outcome: str | None = None,
        pressure_snapshot: dict[str, Any] | None = None,
        diagnostics: dict[str, Any] | None = None,
        at: float | None = None,
    ) -> None:
        if not self.requests_enabled:
            return
        self.request_sequence += 1
        self._push(
            RequestEvent(
                kind,
                self._clock.monotonic() if at is None else at,
                self.request_sequence,
                correlation,
                attempt_id,
                lease_id,
                resource,
                group,
                outcome,
                pressure_snapshot,
                diagnostics or {},
            )
        )

    def flush(self) -> None:
        """Deliver the pending events to every sink, in order."""
        self._flush_due = False
        events, self._pending = self._pending, []
        if not events:
            return
        for sink in self._sinks:
            self._deliver(sink, events)
        if self._scheduler_sinks:
            scheduler_events = [event for event in events if isinstance(event, SchedulerEvent)]
            for scheduler_sink in self._scheduler_sinks:
                self._deliver(scheduler_sink, scheduler_events)
        if self._request_sinks:
            request_events = [event for event in events if isinstance(event, RequestEvent)]
            for request_sink in self._request_sinks:
                self._deliver(request_sink, request_events)
        if self.after_flush is not None:
            self.after_flush()

    def _deliver(self, sink: _Sink[E], events: Sequence[E]) -> None:
        if not events:
            return
        try:
            sink.write_events(events)
        except Exception:
            name = type(sink).__name__
            self.failures_by_sink[name] = self.failures_by_sink.get(name, 0) + 1

    def _push(self, event: Event) -> None:
        self._pending.append(event)
        if not self._flush_due and self._defer is not None:
            self._flush_due = True
            self._defer(self.flush)
