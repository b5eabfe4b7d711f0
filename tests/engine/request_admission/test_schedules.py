"""Random schedules: what must hold in whatever order callbacks run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.clock import LoopClock
from engine.events import Event, EventStream, RequestEvent, RunInfo, RuntimeCorrelation
from engine.identity import RequestResourceKey
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import (
    RequestAdmissionError,
    RequestAdmissionItem,
    RequestAdmissionLease,
    RequestEventContext,
    RequestGroupSpec,
    RequestReleaseOutcome,
)
from engine.virtual_time import run_virtual
from replay.state.reducer import begin, reduce, to_keyframe

CHAT = RequestResourceKey("alpha", "m", "chat")
EMBEDDING = RequestResourceKey("alpha", "m", "embedding")
OTHER = RequestResourceKey("beta", "m", "chat")
RESOURCES = (CHAT, EMBEDDING, OTHER)
GROUPS = (None, RequestGroupSpec("light"), RequestGroupSpec("heavy", 4.0))
OUTCOMES = ("success",) * 12 + ("rate_limited",) * 2 + ("provider_failure", "unexpected_exception")


class Recount:
    """The ledger, counted again from nothing but the events."""

    def __init__(self) -> None:
        self.requests: dict[str, dict[str, Any]] = {}
        self.aggregates: dict[str, dict[str, Any]] = {}
        self.attempts: dict[str, dict[str, Any]] = {}
        self.open_leases: set[str] = set()
        self.closed_leases: set[str] = set()
        self.events: list[RequestEvent] = []
        self.folded = 0

    def write_events(self, events: Sequence[Event]) -> None:
        self.events.extend(event for event in events if isinstance(event, RequestEvent))

    def catch_up(self) -> None:
        for event in self.events[self.folded :]:
            self.folded += 1
            assert event.sequence == self.folded
            self.fold(event)

    def fold(self, event: RequestEvent) -> None:
        assert event.request_resource_key is not None
        label = event.request_resource_key.label
        facts, at = event.diagnostics, event.captured_at_monotonic
        if event.event_kind == "request_resource_registered":
            ceiling = self.requests.setdefault(
                label, {"in_flight": 0, "waiters": 0, "consecutive_rate_limits": 0}
            )
            ceiling.update({key: facts[key] for key in ("static_cap", "effective_max", "limit")})
            shared = self.aggregates.setdefault(label.rpartition("/")[0], {"in_flight": 0})
            shared.update(static_cap=facts["static_cap"], aliases=facts["aliases"])
        ceiling = self.requests[label]
        shared = self.aggregates[label.rpartition("/")[0]]
        attempt_id, lease_id = event.request_attempt_id, event.request_lease_id
        match event.event_kind:
            case "request_effective_cap_changed":
                assert ceiling["effective_max"] >= facts["current"]
                ceiling["effective_max"] = ceiling["static_cap"] = facts["current"]
                shared["static_cap"] = facts["current"]
            case "request_wait_started":
                assert facts["waiters"] == ceiling["waiters"]
                assert facts["in_flight"] == ceiling["in_flight"]
                assert facts["aggregate_in_flight"] == shared["in_flight"]
                assert facts["limit"] == ceiling["limit"]
                assert attempt_id is not None
                self.attempts[attempt_id] = {
                    "attempt_id": attempt_id,
                    "resource": label,
                    "execution_id": "e1",
                    "column": "question",
                    "phase": "waiting",
                    "since": at,
                    "wait_started_at": at,
                }
                ceiling["waiters"] += 1
                if facts["reason"] != "none":
                    ceiling["wait_reason"] = facts["reason"]
            case "request_wait_reason_changed":
                assert facts["waiters"] == ceiling["waiters"] > 0
                assert facts["from"] == ceiling["wait_reason"] != facts["to"]
                ceiling["wait_reason"] = facts["to"]
            case "request_wait_completed":
                self.leave(ceiling)
            case "request_wait_timeout" | "request_wait_cancelled":
                self.leave(ceiling)
                del self.attempts[attempt_id or ""]
            case "request_acquire_denied":
                if self.attempts.pop(attempt_id or "", None) is not None:
                    self.leave(ceiling)
            case "request_lease_acquired":
                ceiling["in_flight"] += 1
                shared["in_flight"] += 1
                assert ceiling["in_flight"] <= ceiling["limit"]
                assert shared["in_flight"] <= shared["static_cap"]
                assert at >= ceiling.get("blocked_until", 0.0)
                assert lease_id is not None
                assert lease_id not in self.open_leases | self.closed_leases
                self.open_leases.add(lease_id)
                self.attempts[attempt_id or ""].update(
                    phase="leased", since=at, lease_id=lease_id, acquired_at=at
                )
            case "request_rate_limited":
                ceiling["consecutive_rate_limits"] += 1
                assert facts["blocked_until"] >= ceiling.get("blocked_until", 0.0)
                ceiling["blocked_until"] = facts["blocked_until"]
            case "request_limit_decreased" | "request_limit_increased":
                assert facts["previous"] == ceiling["limit"]
                ceiling["limit"] = facts["current"]
                assert 1 <= ceiling["limit"] <= ceiling["effective_max"]
                if event.reason_or_outcome == "rate_limited":
                    ceiling["soft_ceiling"] = facts["soft_ceiling"]
            case "request_soft_ceiling_recovered" | "request_fully_recovered":
                ceiling.pop("soft_ceiling", None)
                assert ceiling["limit"] == facts["current"]
            case "request_lease_released":
                ceiling["last_outcome"] = event.reason_or_outcome
                if event.reason_or_outcome == "success":
                    ceiling["consecutive_rate_limits"] = 0
                ceiling["in_flight"] -= 1
                shared["in_flight"] -= 1
                self.open_leases.remove(lease_id or "")
                self.closed_leases.add(lease_id or "")
                del self.attempts[attempt_id or ""]

    @staticmethod
    def leave(ceiling: dict[str, Any]) -> None:
        ceiling["waiters"] -= 1
        assert ceiling["waiters"] >= 0
        if not ceiling["waiters"]:
            ceiling.pop("wait_reason", None)

    def keyframe(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "aggregates": {
                key: {name: value for name, value in shared.items() if value}
                for key, shared in self.aggregates.items()
            },
            "attempts": [self.attempts[name] for name in sorted(self.attempts)],
        }


class Schedule:
    """Many tasks that acquire, hold, release, give up and are cancelled at random."""

    def __init__(self, seed: int, config: RequestAdmissionConfig) -> None:
        self.config = config
        self.random = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        clock = LoopClock(self.loop, 0)
        self.recount = Recount()
        self.stream = EventStream(clock, "run", [self.recount], defer=self.loop.call_soon)
        self.controller = AdaptiveRequestAdmissionController(
            stream=self.stream, clock=clock, loop=self.loop, config=config
        )
        self.attempts = 0
        self.denials: set[str] = set()

    def check(self) -> None:
        self.stream.flush()
        self.recount.catch_up()
        assert self.controller.keyframe(full=True) == self.recount.keyframe()
        now = self.loop.time()
        for pressure in self.controller.pressure.snapshots():
            overall = self.controller.pressure.global_snapshot(*pressure.resource.provider_model)
            assert overall is not None
            cooling = (pressure.blocked_until_monotonic or -1.0) >= now
            ramp_step_due = self.config.startup_ramp_seconds > 0 and now == int(now)
            if pressure.waiters and not cooling and not ramp_step_due:
                assert (
                    pressure.in_flight_count >= pressure.current_limit
                    or overall.in_flight_count >= overall.static_cap
                )

    def item(self) -> RequestAdmissionItem:
        self.attempts += 1
        correlation = RuntimeCorrelation("run", 0, "question", task_execution_id="e1")
        return RequestAdmissionItem(
            self.random.choice(RESOURCES),
            self.random.choice(GROUPS),
            self.random.choice((None, None, None, 0.0, 0.5, 3.0)),
            RequestEventContext(correlation, "e1", f"a{self.attempts}"),
        )

    async def call(self) -> None:
        await asyncio.sleep(self.random.choice((0.0, 0.0, 0.25, 1.0, 4.0)))
        self.check()
        lease: RequestAdmissionLease | None = None
        try:
            lease = await self.controller.acquire_async(self.item())
            self.check()
            await asyncio.sleep(self.random.choice((0.0, 0.05, 0.25, 1.0)))
        except RequestAdmissionError as error:
            self.denials.add(error.denial.reason)
        finally:
            if lease is not None:
                kind: Any = self.random.choice(OUTCOMES)
                retry_after = self.random.choice((None, 0.25, 1.0))
                outcome = RequestReleaseOutcome(kind, retry_after)
                assert self.controller.release(lease, outcome).released
                assert self.controller.release(lease, outcome).reason == "duplicate"
            self.check()

    async def run(self, calls: int, shutdown_at: float | None) -> None:
        for resource, cap in ((CHAT, 4), (OTHER, 3), (EMBEDDING, 6)):
            self.controller.register(resource, cap, f"{resource.domain} of {resource.model_id}")
        tasks = [self.loop.create_task(self.call()) for _ in range(calls)]
        for _ in range(calls // 3):
            delay = self.random.choice((0.0, 0.25, 1.0, 1.5))
            self.loop.call_later(delay, self.random.choice(tasks).cancel)
        self.loop.call_later(2.0, self.controller.register, CHAT, 2, "latecomer")
        if shutdown_at is not None:
            self.loop.call_later(shutdown_at, self.controller.shutdown)
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()
        self.check()
        assert self.denials <= {"queue_timeout", "shutdown"}
        assert not self.recount.open_leases
        assert not self.recount.attempts
        assert all(
            not p.in_flight_count and not p.waiters for p in self.controller.pressure.snapshots()
        )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    calls=st.integers(1, 60),
    recovery=st.sampled_from(["published", "adaptive"]),
    ramp=st.sampled_from([0.0, 3.0]),
    shutdown_at=st.none() | st.sampled_from([0.0, 0.25, 3.0]),
)
def test_no_order_of_callbacks_breaks_the_ledger(
    seed: int, calls: int, recovery: Any, ramp: float, shutdown_at: float | None
) -> None:
    config = RequestAdmissionConfig(
        successes_until_increase=3,
        cooldown_seconds=0.75,
        startup_ramp_seconds=ramp,
        recovery=recovery,
    )

    async def main() -> None:
        await Schedule(seed, config).run(calls, shutdown_at)

    run_virtual(main(), shuffle=random.Random(seed))


@pytest.mark.parametrize("seed", range(6))
def test_cancellation_at_every_step_leaks_nothing(seed: int) -> None:
    """One of several callers is cancelled after each possible number of loop iterations."""

    async def main(iterations: int) -> bool:
        schedule = Schedule(seed, RequestAdmissionConfig(cooldown_seconds=0.25))
        schedule.controller.register(CHAT, 1, "a")
        for resource in (EMBEDDING, OTHER):
            schedule.controller.register(resource, 1, "a")
        tasks = [schedule.loop.create_task(schedule.call()) for _ in range(4)]
        for _ in range(iterations):
            await asyncio.sleep(0)
        reached = not tasks[1].done()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()
        schedule.check()
        assert not schedule.recount.open_leases
        assert not schedule.recount.attempts
        return reached

    for iterations in range(40):
        run_virtual(main(iterations), shuffle=random.Random(seed))


def test_one_seed_gives_one_stream() -> None:
    def stream() -> list[RequestEvent]:
        async def main() -> list[RequestEvent]:
            schedule = Schedule(7, RequestAdmissionConfig())
            await schedule.run(80, None)
            return schedule.recount.events

        return run_virtual(main())

    first = stream()
    assert len(first) > 200
    assert first == stream()


@pytest.mark.parametrize("seed", range(5))
def test_the_reducer_of_replay_gives_the_same_ledger(seed: int) -> None:
    info = RunInfo("run", "a run")

    class Replayed(Schedule):
        state = begin(info)
        reduced = 0
        compared = 0

        def check(self) -> None:
            super().check()
            for event in self.recount.events[self.reduced :]:
                self.reduced += 1
                reduce(self.state, event, self.reduced, info)
            folded = to_keyframe(self.state, full=True)
            for key, value in self.controller.keyframe(full=True).items():
                assert folded[key] == value
            self.compared += 1

    async def main() -> None:
        config = RequestAdmissionConfig(cooldown_seconds=0.5, startup_ramp_seconds=1.0)
        schedule = Replayed(seed, config)
        await schedule.run(60, None)
        assert schedule.compared > 100
        assert schedule.state.orphans == schedule.state.lost_events == 0
        assert schedule.state.malformed == schedule.state.unknown_kinds == {}

    run_virtual(main(), shuffle=random.Random(seed))
