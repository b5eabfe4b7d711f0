from __future__ import annotations

import asyncio
from types import MappingProxyType

import pytest

from engine.clock import LoopClock
from engine.events import EventStream
from engine.identity import (
    GlobalPressureSnapshot,
    PressureSnapshot,
    ProviderModelKey,
    RequestPressureSnapshotProvider,
    RequestResourceKey,
)
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import RequestAdmissionItem, RequestReleaseOutcome
from engine.virtual_time import run_virtual

CHAT = RequestResourceKey("alpha", "m", "chat")
EMBEDDING = RequestResourceKey("alpha", "m", "embedding")
HEALTHY = RequestResourceKey("beta", "m", "chat")


class Discarded:
    def write_events(self, events: object) -> None:
        """Recording is on; what is recorded does not matter here."""


def controller() -> AdaptiveRequestAdmissionController:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop, 0)
    made = AdaptiveRequestAdmissionController(
        stream=EventStream(clock, "run", [Discarded()]),
        clock=clock,
        loop=loop,
        config=RequestAdmissionConfig(),
    )
    made.register(CHAT, 8, "writer")
    made.register(EMBEDDING, 6, "vectors")
    made.register(HEALTHY, 4, "other")
    return made


def test_pressure_tells_every_fact_of_a_resource() -> None:
    async def main() -> None:
        admission = controller()
        await asyncio.sleep(10.0)
        first = await admission.acquire_async(RequestAdmissionItem(CHAT))
        held = await admission.acquire_async(RequestAdmissionItem(CHAT))
        admission.release(first, RequestReleaseOutcome("rate_limited", 5.0))
        admission.release(first, RequestReleaseOutcome("success"))
        wait = asyncio.ensure_future(admission.acquire_async(RequestAdmissionItem(CHAT)))
        await asyncio.sleep(2.0)
        pressure: RequestPressureSnapshotProvider = admission.pressure
        before = pressure.snapshot(CHAT)
        assert before == PressureSnapshot(
            resource=CHAT,
            captured_at=12.0,
            sequence=before.sequence if before is not None else 0,
            effective_max=6,
            current_limit=4,
            in_flight_count=1,
            active_lease_count=1,
            waiters=1,
            blocked_until_monotonic=15.0,
            cooldown_remaining_seconds=3.0,
            rate_limit_ceiling=6,
            consecutive_rate_limits=1,
            last_outcome="rate_limited",
            leak_counters={"duplicate": 1},
        )
        assert pressure.global_snapshot("alpha", "m") == GlobalPressureSnapshot(
            provider_model=ProviderModelKey("alpha", "m"),
            captured_at=12.0,
            sequence=before.sequence,
            static_cap=6,
            in_flight_count=1,
            active_lease_count=1,
            waiters=1,
            aliases=("vectors", "writer"),
            raw_caps={"writer": 8, "vectors": 6},
            limits={"chat": 4, "embedding": 6},
        )
        admission.release(held, RequestReleaseOutcome("success"))
        admission.release(await wait, RequestReleaseOutcome("success"))
        after = pressure.snapshot(CHAT)
        assert after is not None
        assert after.sequence > before.sequence
        assert (after.cooldown_remaining_seconds, after.blocked_until_monotonic) == (0.0, 15.0)
        assert (before.in_flight_count, before.last_outcome) == (1, "rate_limited")

    run_virtual(main())


def test_pressure_lists_every_resource_and_knows_no_other() -> None:
    async def main() -> None:
        pressure = controller().pressure
        assert [snapshot.resource for snapshot in pressure.snapshots()] == [
            CHAT,
            EMBEDDING,
            HEALTHY,
        ]
        labels = [snapshot.provider_model.label for snapshot in pressure.global_snapshots()]
        assert labels == ["alpha/m", "beta/m"]
        assert pressure.snapshot(RequestResourceKey("gamma", "m", "chat")) is None
        assert pressure.global_snapshot("gamma", "m") is None

    run_virtual(main())


def test_a_snapshot_cannot_be_changed() -> None:
    async def main() -> None:
        snapshot = controller().pressure.global_snapshot("alpha", "m")
        assert snapshot is not None
        assert isinstance(snapshot.limits, MappingProxyType)
        assert isinstance(snapshot.raw_caps, MappingProxyType)
        with pytest.raises(AttributeError):
            snapshot.static_cap = 99  # type: ignore[misc]

    run_virtual(main())
