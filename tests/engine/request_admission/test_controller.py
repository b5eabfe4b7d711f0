"""Who may call when: queues, caps, ceilings and cooldowns, and what is told of them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from engine.identity import RequestResourceKey
from engine.request_admission.types import (
    RequestGroupSpec,
    RequestReleaseOutcome,
)
from engine.virtual_time import run_virtual
from tests.engine.request_admission.lab import (
    CHAT,
    EMBEDDING,
    OTHER,
    RATE_LIMITED,
    SUCCESS,
    Lab,
    settle,
    virtually,
)


def test_a_call_that_need_not_wait_says_so() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=2)
        lease = await lab.acquire()
        assert (lease.lease_id, lease.current_adaptive_limit, lease.effective_max) == ("r1", 2, 2)
        result = lab.controller.release(lease, SUCCESS)
        assert (result.released, result.reason) == (True, "released")
        assert lab.kinds() == [
            "request_resource_registered",
            "request_wait_started",
            "request_wait_completed",
            "request_lease_acquired",
            "request_lease_released",
        ]
        started, completed, acquired, released = lab.events()[1:]
        assert started.diagnostics == {
            "reason": "none",
            "waiters": 0,
            "in_flight": 0,
            "limit": 2,
            "aggregate_in_flight": 0,
        }
        assert completed.diagnostics == {"waited_seconds": 0.0}
        assert completed.request_lease_id is None
        assert acquired.diagnostics == released.diagnostics == {}
        assert acquired.request_lease_id == released.request_lease_id == "r1"
        assert released.reason_or_outcome == "success"
        for event in (started, completed, acquired, released):
            assert event.request_attempt_id == "a1"
            assert event.request_group_key is None, "the resource is its own group"
            assert event.captured_correlation is not None

    virtually(main())


def test_waiters_form_a_queue_and_drain_it() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register()
        lease = await lab.acquire()
        waits = [lab.waiting(), lab.waiting()]
        await settle()
        assert lab.counts() == (1, 2)
        await asyncio.sleep(3.0)
        lab.controller.release(lease, SUCCESS)
        lab.controller.release(await waits[0], SUCCESS)
        lab.controller.release(await waits[1], SUCCESS)
        assert lab.counts() == (0, 0)
        kinds = Counter(lab.kinds())
        assert kinds["request_queue_formed"] == kinds["request_queue_drained"] == 1
        assert kinds["request_wait_reason_changed"] == 0
        reasons = [
            event.diagnostics["reason"]
            for event in lab.events()
            if event.event_kind == "request_wait_started"
        ]
        assert reasons == ["none", "domain_limit", "domain_limit"]
        waited = [
            event.diagnostics["waited_seconds"]
            for event in lab.events()
            if event.event_kind == "request_wait_completed"
        ]
        assert waited == [0.0, 3.0, 3.0]

    virtually(main())


def test_a_thousand_requests_behind_a_cap_of_32_take_32_rounds() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=32)
        highest = 0

        async def call() -> None:
            nonlocal highest
            lease = await lab.acquire()
            highest = max(highest, lab.counts()[0])
            await asyncio.sleep(0.05)
            lab.controller.release(lease, SUCCESS)

        await asyncio.gather(*(call() for _ in range(1000)))
        assert lab.loop.time() == pytest.approx(1.6, abs=1e-9)
        assert highest == 32
        assert lab.counts() == (0, 0)

    virtually(main())


def healthy_calls(waiters_on_the_other: int) -> int:
    """Calls that `beta` completes in 20 s while `alpha` cools down with so many waiters."""

    async def main() -> int:
        lab = Lab(recorded=False)
        lab.register(CHAT, 8)
        lab.register(OTHER, 8)
        cooling = await lab.acquire(CHAT)
        lab.controller.release(cooling, RequestReleaseOutcome("rate_limited", 1000.0))
        waits = [lab.waiting(CHAT) for _ in range(waiters_on_the_other)]
        done = 0

        async def caller() -> None:
            nonlocal done
            while lab.loop.time() < 20.0:
                lease = await lab.acquire(OTHER)
                await asyncio.sleep(0.05)
                lab.controller.release(lease, SUCCESS)
                done += 1

        callers = [lab.loop.create_task(caller()) for _ in range(16)]
        await asyncio.gather(*callers)
        assert lab.counts(CHAT) == (0, waiters_on_the_other)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return done

    return run_virtual(main())


def test_waiters_on_a_cooling_provider_take_nothing_from_a_healthy_one() -> None:
    assert healthy_calls(256) == healthy_calls(0)


def test_a_cooldown_ends_by_its_timer_without_any_release() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=4)
        lease = await lab.acquire()
        lab.controller.release(lease, RequestReleaseOutcome("rate_limited", 7.5))
        waits = [lab.waiting() for _ in range(5)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        assert lab.loop.time() == 7.5
        assert lab.counts() == (3, 2)
        changes = [e for e in lab.events() if e.event_kind == "request_wait_reason_changed"]
        assert [event.diagnostics for event in changes] == [
            {"from": "cooldown", "to": "domain_limit", "waiters": 2}
        ]
        for wait in waits:
            lab.controller.release(await wait, SUCCESS)

    virtually(main())


def test_a_rate_limit_is_told_in_order_and_the_waiters_learn_it_once() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=4)
        leases = [await lab.acquire() for _ in range(4)]
        waits = [lab.waiting() for _ in range(50)]
        await settle()
        seen = len(lab.events())
        for lease in leases:
            lab.controller.release(lease, RequestReleaseOutcome("rate_limited", 2.0))
        events = lab.events()[seen:]
        assert [event.event_kind for event in events] == [
            "request_rate_limited",
            "request_limit_decreased",
            "request_lease_released",
            "request_wait_reason_changed",
            *("request_rate_limited", "request_lease_released") * 3,
        ]
        assert events[0].diagnostics == {"retry_after": 2.0, "blocked_until": 2.0, "cut": True}
        assert events[1].reason_or_outcome == "rate_limited"
        assert events[1].diagnostics == {
            "previous": 4,
            "current": 3,
            "soft_ceiling": 4,
            "blocked_until": 2.0,
            "retry_after": 2.0,
        }
        assert events[3].diagnostics == {
            "from": "domain_limit",
            "to": "cooldown",
            "waiters": 50,
            "until": 2.0,
        }
        assert events[4].diagnostics["cut"] is False
        for wait in waits:
            lab.controller.release(await wait, SUCCESS)

    virtually(main())


def test_the_aggregate_cap_holds_over_domains_and_shares_by_weight() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(CHAT, 4)
        lab.register(EMBEDDING, 4)
        light, heavy = RequestGroupSpec("light"), RequestGroupSpec("heavy", 3.0)
        order: list[str] = []
        highest = 0

        async def call(resource: RequestResourceKey, group: RequestGroupSpec) -> None:
            nonlocal highest
            lease = await lab.acquire(resource, group=group)
            order.append(group.key)
            highest = max(highest, sum(lab.counts(key)[0] for key in (CHAT, EMBEDDING)))
            await asyncio.sleep(1.0)
            lab.controller.release(lease, SUCCESS)

        first = [call(CHAT, light) for _ in range(100)]
        second = [call(EMBEDDING, heavy) for _ in range(100)]
        await asyncio.gather(*first, *second)
        assert highest == 4
        backlogged = Counter(order[4:104])
        assert abs(backlogged["heavy"] - 75) <= 2
        reasons = [
            event.diagnostics["reason"]
            for event in lab.events()
            if event.event_kind == "request_wait_started" and event.request_group_key == "heavy"
        ]
        assert set(reasons) == {"aggregate_cap"}

    virtually(main())


def test_a_ramp_admits_by_its_steps() -> None:
    async def main() -> None:
        lab = Lab(startup_ramp_seconds=3.0)
        lab.register(cap=4)
        admitted: list[float] = []

        async def call() -> None:
            await lab.acquire()
            admitted.append(lab.loop.time())

        calls = [lab.loop.create_task(call()) for _ in range(4)]
        await settle()
        pressure = lab.controller.pressure.snapshot(CHAT)
        assert pressure is not None
        assert pressure.current_limit == 1
        await asyncio.gather(*calls)
        assert admitted == [0.0, 1.0, 2.0, 3.0]
        steps = [e for e in lab.events() if e.event_kind == "request_limit_increased"]
        assert [event.reason_or_outcome for event in steps] == ["ramp"] * 3
        assert [event.diagnostics["current"] for event in steps] == [2, 3, 4]
        waits = [e for e in lab.events() if e.event_kind == "request_wait_started"]
        assert [event.diagnostics["reason"] for event in waits] == ["none", *["ramp"] * 3]

    virtually(main())


def test_a_limit_increase_wakes_waiters_in_the_same_release() -> None:
    async def main() -> None:
        lab = Lab(initial_limit=1, successes_until_increase=1)
        lab.register(cap=8)
        lease = await lab.acquire()
        waits = [lab.waiting() for _ in range(3)]
        await settle()
        lab.controller.release(lease, SUCCESS)
        assert lab.counts() == (2, 1)
        grown = [e for e in lab.events() if e.event_kind == "request_limit_increased"]
        assert grown[0].diagnostics == {"previous": 1, "current": 2, "successes": 1}
        for wait in waits:
            lab.controller.release(await wait, SUCCESS)

    virtually(main())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_aliases_share_the_lowest_cap_in_whatever_order(order: tuple[int, ...]) -> None:
    aliases = (("fast", CHAT, 16), ("careful", CHAT, 4), ("vectors", EMBEDDING, 8))

    async def main() -> None:
        lab = Lab()
        for position in order:
            alias, resource, cap = aliases[position]
            lab.register(resource, cap, alias)
        overall = lab.controller.pressure.global_snapshot("alpha", "m")
        assert overall is not None
        assert overall.static_cap == 4
        assert overall.aliases == ("careful", "fast", "vectors")
        assert overall.raw_caps == {"fast": 16, "careful": 4, "vectors": 8}
        assert overall.limits == {"chat": 4, "embedding": 4}
        assert lab.controller.pressure.global_snapshots() == (overall,)
        for pressure in lab.controller.pressure.snapshots():
            assert (pressure.effective_max, pressure.current_limit) == (4, 4)

    virtually(main())


def test_a_lower_cap_is_told_for_every_domain_it_binds() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(CHAT, 16, "a")
        lab.register(EMBEDDING, 4, "b")
        lab.register(EMBEDDING, 4, "b")
        events = [
            (event.event_kind, event.reason_or_outcome, event.diagnostics)
            for event in lab.events()[1:]
        ]
        assert events == [
            ("request_effective_cap_changed", None, {"previous": 16, "current": 4}),
            (
                "request_limit_decreased",
                "registration",
                {"previous": 16, "current": 4},
            ),
            (
                "request_resource_registered",
                None,
                {
                    "static_cap": 4,
                    "effective_max": 4,
                    "limit": 4,
                    "aliases": ["a", "b"],
                    "raw_caps": {"a": 16, "b": 4},
                },
            ),
        ]
        with pytest.raises(ValueError, match="at least 1"):
            lab.register(CHAT, 0)

    virtually(main())


def test_the_keyframe_follows_an_attempt_through_its_phases() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=1, alias="model")
        controller = lab.controller

        def phases() -> list[tuple[str, str, float]]:
            rows = controller.keyframe(full=True)["attempts"]
            return [(row["attempt_id"], row["phase"], row["since"]) for row in rows]

        await asyncio.sleep(1.0)
        lease = await lab.acquire()
        wait = lab.waiting()
        await settle()
        assert phases() == [("a1", "leased", 1.0), ("a2", "waiting", 1.0)]
        await asyncio.sleep(1.0)
        controller.mark_started(lease, lab.loop.time())
        assert phases()[0] == ("a1", "in_provider", 2.0)
        await asyncio.sleep(1.0)
        controller.mark_returned(lease, lab.loop.time())
        assert phases()[0] == ("a1", "returned", 3.0)
        assert controller.keyframe(full=False) == {
            "requests": {
                "alpha/m/chat": {
                    "static_cap": 1,
                    "effective_max": 1,
                    "limit": 1,
                    "in_flight": 1,
                    "waiters": 1,
                    "wait_reason": "domain_limit",
                    "consecutive_rate_limits": 0,
                }
            },
            "aggregates": {"alpha/m": {"static_cap": 1, "in_flight": 1, "aliases": ["model"]}},
        }
        assert controller.keyframe(full=True)["attempts"][0] == {
            "attempt_id": "a1",
            "resource": "alpha/m/chat",
            "execution_id": "e1",
            "column": "question",
            "phase": "returned",
            "since": 3.0,
            "wait_started_at": 1.0,
            "lease_id": "r1",
            "acquired_at": 1.0,
            "started_at": 2.0,
        }
        controller.release(lease, SUCCESS)
        controller.release(await wait, SUCCESS)
        assert phases() == []

    virtually(main())


def test_a_disabled_stream_is_told_nothing() -> None:
    async def main() -> None:
        lab = Lab(recorded=False)
        lab.register()
        lease = await lab.acquire()
        wait = lab.waiting()
        await settle()
        lab.controller.release(lease, RATE_LIMITED)
        lab.controller.release(await wait, SUCCESS)
        assert lab.stream.request_sequence == 0
        assert lab.events() == []

    virtually(main())
