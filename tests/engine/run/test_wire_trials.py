"""Runs against providers whose connections break, whose answers come damaged, late or never, or
that serve only so many calls at once: every row comes out. Real HTTP on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.effort import effort
from tests.engine.run.damaged_answers import BROKEN, TIMEOUT_SECONDS, WHOLE
from tests.engine.run.faulty_provider import Behaviour, Call, completion, failure, try_out

RECORDS = 40
DAMAGED = {**BROKEN, **WHOLE}


def every_third_first_try(answer: Callable[[Call], Any]) -> Behaviour:
    def behaviour(call: Call) -> Any:
        return answer(call) if call.number % 3 == 0 and not call.tries else completion()

    return behaviour


@pytest.mark.parametrize(
    "kind", effort(["reset within the answer", "half a gzip", "never"], list(DAMAGED))
)
def test_a_damaged_answer_costs_a_repetition_and_no_row(kind: str, tmp_path: Path) -> None:
    trial = try_out(
        every_third_first_try(DAMAGED[kind]),
        tmp_path,
        records=RECORDS,
        provider={"timeout_seconds": TIMEOUT_SECONDS},
    )
    assert (trial.result.outcome, trial.result.rows_done) == ("success", RECORDS)
    deferred = trial.scheduler("retry_deferred")
    assert bool(deferred) == (kind in BROKEN)
    assert len(deferred) <= RECORDS
    assert not trial.requests("request_limit_decreased")
    assert trial.seconds < 15.0


def test_a_slow_row_of_each_group_holds_up_no_other(tmp_path: Path) -> None:
    def behaviour(call: Call) -> Any:
        hangs = "SLOW" in call.prompt and not call.tries
        return asyncio.sleep(3600) if hangs else completion()

    trial = try_out(
        behaviour,
        tmp_path,
        records=60,
        provider={"timeout_seconds": 1.0},
        before=[{"name": "kind", "type": "sampler", "categories": {"SLOW": 1, "plain": 9}}],
        column={"prompt": "{{ kind }} {{ id }}"},
        run={"buffer_size": 10},
    )
    assert (trial.result.outcome, trial.result.rows_done) == ("success", 60)
    assert trial.seconds < 12.0


@pytest.mark.parametrize("headers", effort([{}], [{}, {"retry-after": "1"}]))
def test_a_hidden_cap_is_found_and_costs_no_row(headers: dict[str, str], tmp_path: Path) -> None:
    served = 0

    async def behaviour(call: Call) -> web.StreamResponse:
        nonlocal served
        if served >= 8:
            return failure(429, "rate_limit_exceeded", headers=headers)
        served += 1
        try:
            await asyncio.sleep(0.05)
            return completion()
        finally:
            served -= 1

    trial = try_out(
        behaviour, tmp_path, records=300, model={"max_parallel_requests": 64}, latency_seconds=0.0
    )
    assert (trial.result.outcome, trial.result.rows_done) == ("success", 300)
    refused = trial.provider.calls - 300
    assert refused <= 60, "what one start at 32 is refused, and a few that find out"


@pytest.mark.parametrize("counts_refused", effort([False], [False, True]))
def test_a_window_of_so_many_requests_is_kept_to_without_a_lost_row(
    counts_refused: bool, tmp_path: Path
) -> None:
    """Twenty requests in any second; nothing says when the next one may come."""
    window: list[float] = []

    def behaviour(call: Call) -> web.StreamResponse:
        window[:] = [at for at in window if at > call.seconds - 1.0]
        full = len(window) >= 20
        if not full or counts_refused:
            window.append(call.seconds)
        return failure(429, "rate_limit_exceeded") if full else completion()

    trial = try_out(behaviour, tmp_path, records=80, model={"max_parallel_requests": 16})
    assert (trial.result.outcome, trial.result.rows_done) == ("success", 80)
    assert trial.seconds < 25.0


def test_a_delay_in_words_is_obeyed(tmp_path: Path) -> None:
    later: list[float] = []

    def behaviour(call: Call) -> web.StreamResponse:
        if call.number < 4:
            return failure(429, message="Rate limit reached. Please try again in 1.2s.")
        later.append(call.seconds)
        return completion()

    trial = try_out(behaviour, tmp_path, records=16, model={"max_parallel_requests": 4})
    assert trial.result.rows_done == 16
    assert 1.15 <= min(later) < 4.0


def test_long_and_odd_texts_come_out_as_they_are(tmp_path: Path) -> None:
    texts = {"long": "word " * 400_000, "zero": "a\x00b"}
    trial = try_out(
        lambda call: completion(texts[call.prompt.split()[0]]),
        tmp_path,
        records=6,
        before=[{"name": "kind", "type": "sampler", "categories": {"long": 1, "zero": 1}}],
        column={"prompt": "{{ kind }} {{ id }}"},
    )
    assert trial.result.rows_done == 6
    assert {row["text"] for row in trial.rows} <= set(texts.values())


def test_a_health_check_passes_for_a_model_that_thinks_first(tmp_path: Path) -> None:
    def behaviour(call: Call) -> web.StreamResponse:
        if "max_tokens" in call.body:
            return failure(400, "unsupported_parameter", "'max_tokens' is not supported")
        if call.is_probe:
            return completion(None, "length", reasoning_content="hm")
        return completion()

    trial = try_out(behaviour, tmp_path, records=4, run={"health_check": True})
    assert (trial.result.outcome, trial.result.rows_done) == ("success", 4)
