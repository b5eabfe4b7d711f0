"""Outages and suspensions of a resource, as arithmetic and through the controller."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from engine.events.failures import FailureClass
from engine.request_admission.availability import (
    MAX_PROBE_SECONDS,
    MIN_FAILURES,
    PROBE_GROWTH,
    PROBE_JITTER,
    Availability,
)
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.types import FailureReport, RequestReleaseOutcome
from tests.engine.request_admission.lab import CHAT, SUCCESS, Lab, virtually

BROKEN = FailureReport("server_error", "it fails", 500)


def availability(**config: Any) -> Availability:
    return Availability(RequestAdmissionConfig(**config), random.Random(1))


def out(**config: Any) -> Availability:
    tracked = availability(**config)
    for second in range(MIN_FAILURES):
        tracked.on_failure(float(second), BROKEN, 1)
    assert tracked.state == "out"
    return tracked


def test_a_rare_failure_among_answers_is_no_outage() -> None:
    tracked = availability()
    for second in range(100):
        assert not tracked.on_failure(float(second), BROKEN, 1)
        assert not tracked.on_failure(float(second), BROKEN, 1)
        tracked.on_answer()
    assert tracked.state == "up"


@pytest.mark.parametrize(("limit", "needed"), [(1, 3), (3, 3), (5, 5), (8, 8), (500, 8)])
def test_failures_in_a_row_put_a_resource_out_by_its_size(limit: int, needed: int) -> None:
    tracked = availability()
    opened = [tracked.on_failure(0.0, BROKEN, limit) for _ in range(needed)]
    assert opened == [False] * (needed - 1) + [True]
    assert tracked.next_probe_at == 0.0, "the first probe tells a suspicion from an outage"


def test_probes_are_spaced_by_how_long_it_lasts() -> None:
    tracked = out(outage_stop_seconds=1e9)
    began = tracked.since
    now = began
    for _ in range(200):
        tracked.begin_probe()
        assert not tracked.on_probe_failed(now, BROKEN, None)
        assert tracked.next_probe_at is not None
        spacing = tracked.next_probe_at - now
        expected = min(max(PROBE_GROWTH * (now - began), 0.5), MAX_PROBE_SECONDS)
        assert (1 - PROBE_JITTER) * expected <= spacing <= (1 + PROBE_JITTER) * expected
        now = tracked.next_probe_at
    assert now - began > 3000.0


@pytest.mark.parametrize(("round_trip", "longest"), [(None, 5.0), (2.0, 5.0), (20.0, 10.0)])
def test_probes_of_a_resource_under_load_are_spaced_by_what_a_call_takes(
    round_trip: float | None, longest: float
) -> None:
    tracked = out(outage_stop_seconds=1e9)
    now = tracked.since + 1000.0
    tracked.begin_probe()
    tracked.on_probe_failed(now, FailureReport("overload"), None, round_trip)
    assert tracked.next_probe_at is not None
    spacing = tracked.next_probe_at - now
    assert (1 - PROBE_JITTER) * longest <= spacing <= (1 + PROBE_JITTER) * longest


def test_a_probe_waits_for_what_the_provider_asks_for() -> None:
    tracked = out(max_retry_after_seconds=100.0)
    tracked.begin_probe()
    tracked.on_probe_failed(10.0, FailureReport("overload"), 40.0)
    assert tracked.next_probe_at == pytest.approx(50.0)
    tracked.begin_probe()
    tracked.on_probe_failed(50.0, FailureReport("overload"), 9000.0)
    assert tracked.next_probe_at == pytest.approx(150.0), "but not beyond the bound"


def test_an_outage_without_end_is_given_up() -> None:
    tracked = out(outage_stop_seconds=60.0)
    tracked.begin_probe()
    assert not tracked.on_probe_failed(30.0, BROKEN, None)
    tracked.begin_probe()
    assert tracked.on_probe_failed(70.0, BROKEN, None)
    assert tracked.state == "suspended"


@pytest.mark.parametrize("failure", ["auth", "quota_spent", "unknown_model", "bad_option"])
def test_what_a_person_must_mend_is_suspended_once_the_probe_meets_it_too(
    failure: FailureClass,
) -> None:
    tracked = availability()
    assert tracked.on_failure(1.0, FailureReport(failure), 64)
    tracked.begin_probe()
    assert tracked.on_probe_failed(1.1, FailureReport(failure), None)
    assert tracked.state == "suspended"


def test_one_odd_refusal_of_a_key_suspends_nothing() -> None:
    tracked = availability()
    mark = tracked.mark()
    tracked.on_failure(1.0, FailureReport("auth"), 64)
    tracked.begin_probe()
    tracked.on_probe_answered()
    assert tracked.state == "up"
    assert tracked.blames(mark) is True


@pytest.mark.parametrize(
    ("config", "returns", "state"),
    [
        ({}, 3 * 3600.0, "suspended"),
        ({}, None, "suspended"),
        ({}, 600.0, "out"),
        ({"quota_wait_seconds": 60.0}, 600.0, "suspended"),
        ({"wait_for_quota": True}, 3 * 3600.0, "out"),
        ({"wait_for_quota": True}, None, "out"),
    ],
)
def test_a_quota_is_waited_for_where_that_is_wanted_or_short(
    config: dict[str, Any], returns: float | None, state: str
) -> None:
    tracked = availability(**config)
    used_up = FailureReport("quota_used_up")
    tracked.on_failure(1.0, used_up, 8)
    tracked.begin_probe()
    tracked.on_probe_failed(2.0, used_up, returns)
    assert tracked.state == state


def test_a_failure_is_blamed_on_its_request_only_where_others_were_answered_since() -> None:
    tracked = availability()
    mark = tracked.mark()
    tracked.on_failure(0.0, BROKEN, 8)
    assert tracked.blames(mark) is None
    tracked.on_answer()
    assert tracked.blames(mark) is True

    tracked = availability()
    mark = tracked.mark()
    for _ in range(8):
        tracked.on_failure(0.0, BROKEN, 8)
    assert tracked.blames(mark) is None, "it is out, or so it seems"
    tracked.begin_probe()
    tracked.on_probe_failed(0.1, BROKEN, None)
    assert tracked.blames(mark) is False
    tracked.begin_probe()
    tracked.on_probe_answered()
    tracked.on_answer()
    assert tracked.blames(mark) is False, "it was out"


def test_a_request_that_fails_alone_is_blamed_by_the_first_probe() -> None:
    """The last request of a run fails whenever it is sent, and nothing else is."""
    tracked = availability()
    marks = []
    for _ in range(MIN_FAILURES):
        marks.append(tracked.mark())
        tracked.on_failure(0.0, BROKEN, 1)
    tracked.begin_probe()
    tracked.on_probe_answered()
    assert [tracked.blames(mark) for mark in marks] == [True] * MIN_FAILURES


def test_failures_of_the_request_itself_count_as_answers() -> None:
    tracked = availability()
    for _ in range(20):
        tracked.on_failure(0.0, BROKEN, 3)
        assert not tracked.on_failure(0.0, FailureReport("context_length"), 3)
    assert tracked.state == "up"


def failed(failure: FailureClass = "server_error") -> RequestReleaseOutcome:
    return RequestReleaseOutcome("provider_failure", None, FailureReport(failure, "no"))


def refused() -> RequestReleaseOutcome:
    return RequestReleaseOutcome("rate_limited", None, FailureReport("overload", "busy", 529))


def test_while_it_is_out_nobody_but_one_probe_is_let_out() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=4)
        due: list[float] = []
        lab.controller.outages.on_probe_due = lambda resource: due.append(lab.loop.time())
        leases = [await lab.acquire() for _ in range(4)]
        for lease in leases:
            lab.controller.release(lease, failed())
        waiting = [lab.waiting() for _ in range(6)]
        await asyncio.sleep(0.1)
        assert len(due) == 1
        assert lab.counts() == (0, 6)
        probe = lab.controller.acquire_probe(lab.item())
        assert probe is not None
        assert lab.controller.acquire_probe(lab.item()) is None, "one at a time"
        lab.controller.release(probe, failed())
        await asyncio.sleep(5.0)
        assert len(due) == 2
        assert lab.counts() == (0, 6)
        probe = lab.controller.acquire_probe(lab.item())
        assert probe is not None
        lab.controller.release(probe, SUCCESS)
        await asyncio.sleep(0)
        assert lab.counts() == (4, 2)
        for lease in [await task for task in waiting[:4]]:
            lab.controller.release(lease, SUCCESS)
        for lease in [await task for task in waiting[4:]]:
            lab.controller.release(lease, SUCCESS)
        outcomes = [
            (event.reason_or_outcome, event.diagnostics.get("confirmed", False))
            for event in lab.events()
            if event.event_kind == "request_outage"
        ]
        assert outcomes == [("opened", False), ("probe_failed", True), ("closed", True)]

    virtually(main())


@pytest.mark.parametrize(("lasts", "opened"), [(2.5, 8), (100.0, 4)])
def test_refusals_that_spare_nobody_become_an_outage_and_the_limit_is_back_after_a_round(
    lasts: float, opened: int
) -> None:
    """What was served before is let out at once, unless that is long ago."""

    async def main() -> None:
        lab = Lab()
        lab.register(cap=8)
        lab.controller.outages.on_probe_due = lambda resource: None
        for _ in range(2):
            leases = [await lab.acquire() for _ in range(lab.pressure().current_limit)]
            for lease in leases:
                lab.controller.release(lease, refused())
            if _ == 0:
                await asyncio.sleep(2.5)
        assert lab.pressure().current_limit == 4
        await asyncio.sleep(lasts)
        snapshot = lab.controller.keyframe(full=False)["requests"][CHAT.label]
        assert snapshot["availability"] == "out"
        probe = lab.controller.acquire_probe(lab.item())
        assert probe is not None
        lab.controller.release(probe, SUCCESS)
        assert lab.pressure().current_limit == opened
        leases = [await lab.acquire() for _ in range(opened)]
        for _ in range(opened):
            waiting = lab.waiting()
            await asyncio.sleep(0)
            lab.controller.release(leases.pop(0), SUCCESS)
            leases.append(await waiting)
        assert lab.pressure().current_limit == 8, "after one round"

    virtually(main())


def test_a_suspended_resource_says_that_attempts_are_held() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register(cap=2)
        lab.controller.outages.on_probe_due = lambda resource: None
        reported: list[int] = []
        lab.controller.outages.on_held = lambda: reported.append(
            lab.controller.outages.held_attempts()
        )
        lab.controller.release(await lab.acquire(), failed("quota_spent"))
        waiting = lab.waiting()
        await asyncio.sleep(0)
        probe = lab.controller.acquire_probe(lab.item())
        assert probe is not None
        lab.controller.release(probe, failed("quota_spent"))
        assert reported == [1]
        assert [(key, cause.failure) for key, cause, _ in lab.controller.outages.suspensions()] == [
            (CHAT, "quota_spent")
        ]
        lab.controller.drain()
        with pytest.raises(Exception, match="shutdown"):
            await waiting
        with pytest.raises(Exception, match="shutdown"):
            await lab.acquire()

    virtually(main())
