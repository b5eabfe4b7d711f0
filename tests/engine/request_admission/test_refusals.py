"""Waits and leases that end otherwise: timeouts, denials, shutdown, cancellation."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from engine.identity import RequestResourceKey
from engine.request_admission.types import (
    RequestAdmissionDenied,
    RequestAdmissionError,
    RequestAdmissionLease,
    RequestReleaseOutcome,
)
from tests.engine.request_admission.lab import (
    CHAT,
    OTHER,
    SUCCESS,
    Lab,
    settle,
    virtually,
)


def test_a_queue_timeout_is_a_denial_with_its_facts() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register()
        lease = await lab.acquire()
        with pytest.raises(RequestAdmissionError, match="queue_timeout") as caught:
            await lab.acquire(timeout=2.5)
        assert lab.loop.time() == 2.5
        denial = caught.value.denial
        assert denial.reason == "queue_timeout"
        assert denial.snapshot is not None
        assert denial.snapshot.in_flight_count == 1
        assert lab.counts() == (1, 0)
        assert lab.kinds()[-2:] == ["request_wait_timeout", "request_queue_drained"]
        assert lab.events()[-2].diagnostics == {"waited_seconds": 2.5}
        lab.controller.release(lease, SUCCESS)

    virtually(main())


def test_try_acquire_tells_why_not() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=1)

        def denial(resource: RequestResourceKey = CHAT) -> RequestAdmissionDenied:
            decision = lab.controller.try_acquire(lab.item(resource))
            assert isinstance(decision, RequestAdmissionDenied)
            return decision

        lease = lab.controller.try_acquire(lab.item())
        assert isinstance(lease, RequestAdmissionLease)
        assert denial().reason == "no_capacity"
        lab.controller.release(lease, RequestReleaseOutcome("rate_limited", 5.0))
        cooling = denial()
        assert (cooling.reason, cooling.retry_after_seconds) == ("cooldown", 5.0)
        assert cooling.available_after_monotonic == 5.0
        assert denial(OTHER).reason == "hard_policy_denial"
        lab.controller.shutdown()
        assert denial().reason == "shutdown"
        refused = [e for e in lab.events() if e.event_kind == "request_acquire_denied"]
        assert [event.reason_or_outcome for event in refused] == [
            "no_capacity",
            "cooldown",
            "hard_policy_denial",
            "shutdown",
        ]

    virtually(main())


def test_try_acquire_never_passes_a_waiter_that_could_go() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=1)
        lease = await lab.acquire()
        decisions: list[Any] = []
        # Set before the controller's own timer of the same instant, so that it runs before it.
        lab.loop.call_at(5.0, lambda: decisions.append(lab.controller.try_acquire(lab.item())))
        lab.controller.release(lease, RequestReleaseOutcome("rate_limited", 5.0))
        wait = lab.waiting()
        lab.controller.release(await wait, SUCCESS)
        assert [decision.reason for decision in decisions] == ["queued_waiters_ahead"]

    virtually(main())


def test_shutdown_denies_waiters_and_lets_leases_end() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register()
        lease = await lab.acquire()
        wait = lab.waiting()
        await settle()
        lab.controller.shutdown()
        lab.controller.shutdown()
        with pytest.raises(RequestAdmissionError, match="shutdown"):
            await wait
        with pytest.raises(RequestAdmissionError, match="shutdown"):
            await lab.acquire()
        assert lab.controller.release(lease, SUCCESS).released
        assert lab.counts() == (0, 0)
        assert Counter(lab.kinds())["request_acquire_denied"] == 2

    virtually(main())


def test_an_unknown_resource_is_denied() -> None:
    async def main() -> None:
        lab = Lab()
        with pytest.raises(RequestAdmissionError, match="hard_policy_denial"):
            await lab.acquire()
        assert lab.controller.pressure.snapshot(CHAT) is None
        assert lab.controller.pressure.global_snapshot("alpha", "m") is None

    virtually(main())


def test_every_release_but_the_first_is_refused_and_counted() -> None:
    async def main() -> None:
        lab, stranger = Lab(), Lab()
        lab.register(cap=2)
        stranger.register(cap=2)
        lease = await lab.acquire()
        copy = RequestAdmissionLease(
            lease.lease_id, lease.item, lease.acquired_at, 2, 2, lease.controller_generation
        )
        never = RequestAdmissionLease("r9", lease.item, 0.0, 2, 2, lease.controller_generation)
        foreign = await stranger.acquire()

        def reason(lease: RequestAdmissionLease) -> str:
            return lab.controller.release(lease, SUCCESS).reason

        assert reason(copy) == "stale_lease"
        assert reason(never) == "unknown_lease"
        assert reason(foreign) == "wrong_controller_generation"
        assert lab.counts() == (1, 0)
        assert [reason(lease) for _ in range(3)] == ["released", "duplicate", "duplicate"]
        assert lab.counts() == (0, 0)
        assert lab.controller.release_diagnostics == {
            "stale_lease": 1,
            "unknown_lease": 1,
            "wrong_controller_generation": 1,
            "duplicate": 2,
        }
        refused = [e for e in lab.events() if e.event_kind == "request_release_diagnostic"]
        assert Counter(e.reason_or_outcome for e in refused) == lab.controller.release_diagnostics

    virtually(main())


@pytest.mark.parametrize("moment", ["queued", "granted", "granted_then_cancelled_twice"])
def test_cancellation_leaves_neither_a_waiter_nor_a_lease(moment: str) -> None:
    async def main() -> None:
        lab = Lab()
        lab.register()
        lease = await lab.acquire()
        wait, next_in_line = lab.waiting(), lab.waiting()
        await settle()
        if moment == "queued":
            wait.cancel()
            await settle()
            assert lab.counts() == (1, 1)
            lab.controller.release(lease, SUCCESS)
        else:
            lab.controller.release(lease, SUCCESS)
            wait.cancel()
            if moment == "granted_then_cancelled_twice":
                wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        granted = await next_in_line
        lab.controller.release(granted, SUCCESS)
        assert lab.counts() == (0, 0)
        outcomes = Counter(
            event.reason_or_outcome
            for event in lab.events()
            if event.event_kind == "request_lease_released"
        )
        assert outcomes["local_cancelled"] == (0 if moment == "queued" else 1)
        assert Counter(lab.kinds())["request_wait_cancelled"] == (1 if moment == "queued" else 0)

    virtually(main())


def test_a_waiter_cancelled_in_the_tick_of_a_release_is_passed_over() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register()
        lease = await lab.acquire()
        wait, next_in_line = lab.waiting(), lab.waiting()
        await settle()
        wait.cancel()
        lab.controller.release(lease, SUCCESS)
        assert lab.counts() == (1, 0)
        lab.controller.release(await next_in_line, SUCCESS)
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert lab.counts() == (0, 0)

    virtually(main())


def test_a_task_waiting_when_the_loop_ends_is_not_lost() -> None:
    left: list[tuple[Lab, asyncio.Task[RequestAdmissionLease]]] = []

    async def main() -> None:
        lab = Lab()
        lab.register()
        await lab.acquire()
        left.append((lab, lab.waiting()))
        await settle()
        assert lab.counts() == (1, 1)

    virtually(main())
    [(lab, wait)] = left
    assert wait.cancelled()
    assert lab.counts() == (1, 0)
    assert lab.kinds()[-1] == "request_queue_drained"
    assert lab.kinds().count("request_wait_cancelled") == 1
