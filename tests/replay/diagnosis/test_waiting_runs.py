"""Workflows that make the engine wait for one cause each: its name, interval and share.

Every call takes exactly as long as its script says, so the truth is arithmetic: slots times
seconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from engine.errors import RetryableTaskError
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.workflow.schema import CustomColumn
from tests.replay.diagnosis.simulated import (
    ALPHA,
    BETA,
    asks,
    calls_of,
    expect_shares,
    expect_verdict,
    fold,
    simulate,
    workflow,
)
from tests.replay.diagnosis.stream import facts_of


def test_row_groups_that_are_let_in_one_at_a_time() -> None:
    """25 row groups of 4 rows, one after another, each 1 s: 4 of 8 slots. After the last there is
    none to let in."""
    made = workflow(
        100,
        {"alpha": (calls_of(1.0), 8)},
        asks("question", "gen"),
        buffer_size=4,
        max_concurrent_row_groups=1,
    )
    output = fold(*simulate(made))
    horizon, last = 24 * 4 / (25 * 8), 1 * 4 / (25 * 8)
    expect_shares(output.blame, {"working": 0.5, "row_group_horizon": horizon, "dependency": last})
    verdict = expect_verdict(
        [row for row in output.verdicts if row.verdict != "dependency"],
        "row_group_horizon", None, 0.0, 24.0,
    )  # fmt: skip
    assert facts_of(verdict)["row_group_target"] == 1
    (end,) = [row for row in output.verdicts if row is not verdict]
    assert (end.start, end.end) == pytest.approx((24.0, 25.0))


def test_columns_that_wait_for_a_slow_one_upstream() -> None:
    """2 rows are fetched in 6 s without a model; then both call slots work for 2 s."""

    async def fetch(row: dict[str, Any]) -> str:
        await asyncio.sleep(6.0)
        return "fetched"

    made = workflow(
        2,
        {"alpha": (calls_of(2.0), 2)},
        CustomColumn(name="fetched", function=fetch),
        asks("question", "gen", "fetched"),
    )
    output = fold(*simulate(made))
    expect_shares(output.blame, {"dependency": 6 / 8, "working": 2 / 8})
    verdict = expect_verdict(output.verdicts, "dependency", None, 0.0, 6.0)
    assert facts_of(verdict)["critical_path"] == ["fetched", "question"]
    assert facts_of(verdict)["in_flight"] == {"fetched": 2}


def test_too_few_task_slots() -> None:
    """1 task slot serves 1 of 4 call slots: 2 rows of 8 s each. Nothing waits for the last one."""
    made = workflow(
        2, {"alpha": (calls_of(8.0), 4)}, asks("question", "gen"), max_in_flight_tasks=1
    )
    output = fold(*simulate(made))
    expect_shares(
        output.blame,
        {"working": 1 / 4, "task_capacity": 3 * 8 / (4 * 16), "dependency": 3 * 8 / (4 * 16)},
    )
    waits = [row for row in output.verdicts if row.verdict != "dependency"]
    verdict = expect_verdict(waits, "task_capacity", "submission", 0.0, 8.0)
    assert (facts_of(verdict)["limit"], facts_of(verdict)["free"]) == (1, 0)
    assert [holder["leases"] for holder in facts_of(verdict)["holders"]] == [1]


def test_slots_that_are_all_in_use_are_no_stall_of_a_task_without_a_call() -> None:
    """2 task slots serve both call slots for 4 s, while topics of the next row group wait."""
    made = workflow(
        8, {"alpha": (calls_of(1.0), 2)}, asks("question", "gen"),
        max_in_flight_tasks=2, buffer_size=4,
    )  # fmt: skip
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 1.0})
    assert output.verdicts == []


def test_a_cooldown_after_a_429() -> None:
    """Calls of 1 s, one at a time; the second meets a 429 with 4 s to wait: 10 s in all."""
    window = {"from": 1, "to": 1.5, "retry_after": 4}
    made = workflow(6, {"alpha": (calls_of(1.0, rate_limits=[window]), 1)}, asks("question", "gen"))
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 6 / 10, "request_cooldown": 4 / 10})
    verdict = expect_verdict(output.verdicts, "request_cooldown", ALPHA, 1.0, 5.0)
    assert facts_of(verdict)["rate_limited"] == 1


def test_a_cooldown_of_one_of_two_providers() -> None:
    """As above, beside 6 calls of 5 s on 3 slots: each slot counts the same."""
    window = {"from": 1, "to": 1.5, "retry_after": 4}
    beta = calls_of(1.0, rate_limits=[window])
    made = workflow(
        6,
        {"alpha": (calls_of(5.0), 3), "beta": (beta, 1)},
        asks("question", "gen"),
        asks("verdict", "judge"),
    )
    output = fold(*simulate(made))
    slots = 3 * 10 + 1 * 10
    expect_shares(output.blame, {"working": 36 / slots, "request_cooldown": 4 / slots})
    expect_verdict(output.verdicts, "request_cooldown", BETA, 1.0, 5.0)


def test_a_ceiling_that_a_429_has_cut() -> None:
    """Four 429s at once cut the ceiling from 4 to 1 for the rest of the run, after 0.1 s to wait:
    4 calls of 8 s one after another. Nothing waits for the last one."""
    window = {"from": 0, "to": 0.05, "retry_after": 0.1}
    made = workflow(
        4,
        {"alpha": (calls_of(8.0, rate_limits=[window]), 4)},
        asks("question", "gen"),
        decrease_factor=0.25,
        recovery="published",
        successes_until_increase=1000,
    )
    output = fold(*simulate(made))
    slots = 4 * 32.1
    expect_shares(
        output.blame,
        {
            "working": 32 / slots,
            "request_domain_limit": 3 * 24 / slots,
            "dependency": 3 * 8 / slots,
            "request_cooldown": 4 * 0.1 / slots,
        },
    )
    waits = [row for row in output.verdicts if row.verdict != "dependency"]
    verdict = expect_verdict(waits, "request_domain_limit", ALPHA, 0.1, 24.1)
    assert (facts_of(verdict)["limit"], facts_of(verdict)["effective_max"]) == (1, 4)


def test_a_start_up_ramp() -> None:
    """From 1 to 2 calls after 10 s, calls of 10 s: 1 and then 2."""
    made = workflow(
        3, {"alpha": (calls_of(10.0), 2)}, asks("question", "gen"), startup_ramp_seconds=10
    )
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 3 / 4, "request_ramp": 1 / 4})
    expect_verdict(output.verdicts, "request_ramp", ALPHA, 0.0, 10.0)


def test_a_call_that_hangs() -> None:
    """20 calls of 1 s, then one that is given up after 10 s: overdue from its third second on."""
    provider = calls_of(1.0, timeouts=[{"from": 19.5, "to": 29.5}], timeout_seconds=10)
    made = workflow(21, {"alpha": (provider, 1)}, asks("question", "gen"), max_attempts=1)
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 24 / 31, "provider_latency": 7 / 31})
    expect_verdict(output.verdicts, "provider_latency", ALPHA, 20.0, 30.0)


def test_an_error_that_is_tried_again_later() -> None:
    """1 s of a call, 4 s until the next execution, 1 s of its call."""
    failures = iter([RetryableTaskError("Flaky", "try again", 4.0)])

    async def ask(row: dict[str, Any], models: Any) -> str:
        answer: str = await models.text("gen", "Go on")
        for failure in failures:
            raise failure
        return answer

    made = workflow(
        1, {"alpha": (calls_of(1.0), 1)}, CustomColumn(name="asked", function=ask, models=["gen"])
    )
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 2 / 6, "retry_backoff": 4 / 6})
    verdict = expect_verdict(output.verdicts, "retry_backoff", ALPHA, 1.0, 5.0)
    assert facts_of(verdict)["errors"] == {"Flaky": 1}


@pytest.fixture
def vector(monkeypatch: pytest.MonkeyPatch) -> CustomColumn:
    """A column of embeddings by the model that chats, under the cap that both share."""
    register = AdaptiveRequestAdmissionController.register

    def register_both(admission: Any, resource: Any, cap: int, alias: str) -> None:
        register(admission, resource, cap, alias)
        register(admission, resource._replace(domain="embedding"), cap, alias)

    async def embed(row: dict[str, Any], models: Any) -> str:
        request = models._endpoints["gen"].request("Go on")
        resource = request.resource._replace(domain="embedding")
        response = await models._calls.call(dataclasses.replace(request, resource=resource))
        return str(response.text)

    monkeypatch.setattr(AdaptiveRequestAdmissionController, "register", register_both)
    return CustomColumn(name="vector", function=embed, models=["gen"])


def test_a_cap_that_another_domain_fills(vector: CustomColumn) -> None:
    """Embeddings fill the model's cap of 2 for 6 s. 2 chats wait for it from 0.5 s on, and then
    take 6 s too: slots are demanded of embeddings for 6 s and of chat for 11.5 s.
    """

    async def fetch(row: dict[str, Any]) -> str:
        await asyncio.sleep(0.5)
        return "fetched"

    made = workflow(
        2,
        {"alpha": (calls_of(6.0), 2)},
        vector,
        CustomColumn(name="fetched", function=fetch),
        asks("question", "gen", "fetched"),
    )
    output = fold(*simulate(made))
    calls, waits, fetches = 4 * 6, 2 * 5.5, 2 * 0.5
    expect_shares(
        output.blame,
        {"working": calls / (calls + waits), "request_aggregate_cap": waits / (calls + waits)},
    )
    lives = calls + waits + fetches
    expect_shares(
        output.blame,
        {"working": (calls + fetches) / lives, "request_aggregate_cap": waits / lives},
        "cell",
    )
    verdict = expect_verdict(output.verdicts, "request_aggregate_cap", ALPHA, 0.5, 6.0)
    (holder,) = facts_of(verdict)["holders"]
    assert (holder["group"], holder["leases"]) == ("alpha/gen/embedding", 2)


def test_a_cap_that_two_domains_fill_together(vector: CustomColumn) -> None:
    """One embedding and one chat use both slots of the cap: there is nothing left to use."""
    made = workflow(1, {"alpha": (calls_of(6.0), 2)}, vector, asks("question", "gen"))
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 1.0})
    assert output.verdicts == []
