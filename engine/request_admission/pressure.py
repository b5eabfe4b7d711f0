"""`RequestPressure`: how much pressure is on a resource at this instant?"""

from __future__ import annotations

from typing import NamedTuple

from engine.clock import Clock
from engine.events import EventStream
from engine.identity import (
    GlobalPressureSnapshot,
    PressureSnapshot,
    ProviderModelKey,
    RequestResourceKey,
)
from engine.request_admission.resources import RequestResources


class RequestPeaks(NamedTuple):
    """Maxima so far, by label of resource or of provider/model."""

    waiters: dict[str, int]
    in_flight: dict[str, int]
    limits: dict[str, int]
    aggregate_in_flight: dict[str, int]


class RequestPressure:
    """The `RequestPressureSnapshotProvider` of the controller: a read-only view of its ledger."""

    def __init__(self, resources: RequestResources, clock: Clock, stream: EventStream) -> None:
        self._resources = resources
        self._clock = clock
        self._stream = stream

    def snapshot(self, resource: RequestResourceKey) -> PressureSnapshot | None:
        state = self._resources.get(resource)
        if state is None:
            return None
        return state.snapshot(self._clock.monotonic(), self._stream.request_sequence)

    def snapshots(self) -> tuple[PressureSnapshot, ...]:
        now, sequence = self._clock.monotonic(), self._stream.request_sequence
        return tuple(state.snapshot(now, sequence) for state in self._resources)

    def global_snapshot(self, provider: str, model: str) -> GlobalPressureSnapshot | None:
        shared = self._resources.provider_model(ProviderModelKey(provider, model))
        if shared is None:
            return None
        return shared.snapshot(self._clock.monotonic(), self._stream.request_sequence)

    def global_snapshots(self) -> tuple[GlobalPressureSnapshot, ...]:
        now, sequence = self._clock.monotonic(), self._stream.request_sequence
        states = self._resources.provider_models()
        return tuple(shared.snapshot(now, sequence) for shared in states)

    def peaks(self) -> RequestPeaks:
        states = list(self._resources)
        return RequestPeaks(
            {state.label: state.peak_waiters for state in states},
            {state.label: state.peak_in_flight for state in states},
            {state.label: state.limits.highest for state in states},
            {
                shared.key.label: shared.peak_in_flight
                for shared in self._resources.provider_models()
            },
        )
