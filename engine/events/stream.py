"""`EventStream`: numbers the events of a run and delivers them to sinks."""

from __future__ import annotations

import threading
from collections import deque
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
    loop, and never inside a critical section.

    A sink that also has `write_through`, for any thread, gets what is said while the loop stands.
    """

    def write_events(self, events: Sequence[Event]) -> None:
        """Takes over a batch. An exception counts as a failure of the sink, not of the run."""


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
        scheduler_sequence: Number of the last event of the scheduler stream, in a run that goes on.
        request_sequence: The same of the request stream.
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
        scheduler_sequence: int = 0,
        request_sequence: int = 0,
    ) -> None:
        self.run_id = run_id
        self.scheduler_enabled = bool(sinks or scheduler_sinks)
        self.requests_enabled = bool(sinks or request_sinks)
        self.scheduler_sequence = scheduler_sequence
        self.request_sequence = request_sequence
        self.failures_by_sink: dict[str, int] = {}
        self.after_flush: Callable[[], None] | None = None
        """Called after each delivery, outside critical sections; it may emit events."""
        self._clock = clock
        self._sinks = tuple(sinks)
        self._scheduler_sinks = tuple(scheduler_sinks)
        self._request_sinks = tuple(request_sinks)
        self._defer = defer
        self._pending: deque[Event] = deque()
        self._flush_due = False
        self._thread_id = threading.get_ident()
        self._delivery = threading.RLock()
        every_sink = (*self._sinks, *self._scheduler_sinks, *self._request_sinks)
        self._from_any_thread = all(hasattr(sink, "write_through") for sink in every_sink)

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
        """Adds an event of the scheduler stream, numbered and at `at` (monotonic; None for now)."""
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

    def outside_numbering(
        self, kind: str, at: float, reason: str | None, diagnostics: dict[str, Any]
    ) -> None:
        """Emit an event of the scheduler stream without a number, from any thread.

        In another thread than the loop's it is delivered at once, behind all that is pending, where
        every sink has a `write_through`, which takes events as `write_events` does but from any
        thread; else the loop delivers it.
        """
        if not self.scheduler_enabled:
            return
        event = SchedulerEvent(kind, at, 0, reason_or_result=reason, diagnostics=diagnostics)
        if threading.get_ident() == self._thread_id:
            self._push(event)
            return
        self._pending.append(event)
        if self._from_any_thread:
            with self._delivery:
                self._deliver_pending("write_through")

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
        """Adds an event of the request stream, numbered and at `at` (monotonic; None for now)."""
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
        if not self._pending:
            return
        with self._delivery:
            self._deliver_pending("write_events")
        if self.after_flush is not None:
            self.after_flush()

    def _deliver_pending(self, method: str) -> None:
        pending = self._pending
        events = [pending.popleft() for _ in range(len(pending))]  # another thread may add to it
        for sink in self._sinks:
            self._deliver(sink, method, events)
        if self._scheduler_sinks:
            scheduler_events = [event for event in events if isinstance(event, SchedulerEvent)]
            for scheduler_sink in self._scheduler_sinks:
                self._deliver(scheduler_sink, method, scheduler_events)
        if self._request_sinks:
            request_events = [event for event in events if isinstance(event, RequestEvent)]
            for request_sink in self._request_sinks:
                self._deliver(request_sink, method, request_events)

    def _deliver(self, sink: _Sink[E], method: str, events: Sequence[E]) -> None:
        if not events:
            return
        try:
            getattr(sink, method)(events)
        except Exception:
            name = type(sink).__name__
            self.failures_by_sink[name] = self.failures_by_sink.get(name, 0) + 1

    def _push(self, event: Event) -> None:
        self._pending.append(event)
        if not self._flush_due and self._defer is not None:
            self._flush_due = True
            self._defer(self.flush)
