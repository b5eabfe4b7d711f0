"""Runs against providers that fail as real ones do: which rows come out, why not the others, and
how the run ends. Real HTTP on loopback; outages are short, so that a run takes seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engine.events.failures import AnswerVerdict
from engine.run.execute import RunControl
from tests.effort import effort
from tests.engine.run.faulty_provider import (
    Behaviour,
    Call,
    FaultyProvider,
    completion,
    failure,
    reset,
    try_out,
)

OUT_SECONDS = 1.5
SMALL_RUN = {"cooldown_seconds": 0.2}


def during_outage(answer: Callable[[Call], Any]) -> Behaviour:
    """From a tenth of a second on, for `OUT_SECONDS`, each call gets this answer."""

    def behaviour(call: Call) -> Any:
        if 0.1 <= call.seconds < 0.1 + OUT_SECONDS:
            return answer(call)
        return completion(f"about {call.prompt}")

    return behaviour


def body_error(code: Any, **more: Any) -> Callable[[Call], web.Response]:
    return lambda call: web.json_response({"error": {"message": "no", "code": code}, **more})


OUTAGES: dict[str, Callable[[Call], Any]] = {
    "500": lambda call: failure(500),
    "502 as a page": lambda call: web.Response(
        status=502, text="<html><title>Bad Gateway</title></html>", content_type="text/html"
    ),
    "503": lambda call: failure(503),
    "503, retry after 0": lambda call: failure(503, headers={"retry-after": "0"}),
    "503, retry after 1": lambda call: failure(503, headers={"retry-after": "1"}),
    "529": lambda call: failure(529, "overloaded_error"),
    "429 for all": lambda call: failure(429, "rate_limit_exceeded"),
    "429 for a day": lambda call: failure(429, headers={"retry-after": "86400"}),
    "reset": reset,
    "429 in a 200": body_error(429),
    "502 in a 200": body_error(502),
    "overloaded in a 200": body_error("overloaded_error"),
    "choices null": lambda call: web.json_response({"id": None, "choices": None}),
    "choices empty": lambda call: web.json_response({"choices": []}),
    "content null and an error": lambda call: web.json_response(
        {"choices": [{"message": {"content": None}}], "error": {"code": 503}}
    ),
    "a page": lambda call: web.Response(text="<html>Sign in</html>", content_type="text/html"),
    "half a JSON": lambda call: web.Response(
        text='{"choices": [{', content_type="application/json"
    ),
}


@pytest.mark.parametrize("kind", effort(["502 as a page", "529", "choices null"], list(OUTAGES)))
def test_an_outage_costs_time_and_no_row(kind: str, tmp_path: Path) -> None:
    trial = try_out(
        during_outage(OUTAGES[kind]),
        tmp_path,
        records=120,
        latency_seconds=0.03,
        # An outage for a day would be a quota that is used up, and a run that stops.
        run={"wait_for_quota": True, "max_retry_after_seconds": 0.5} if "day" in kind else {},
    )
    assert (trial.result.outcome, trial.result.rows_done) == ("success", 120)
    assert len({row["text"] for row in trial.rows}) == 120
    outages = trial.requests("request_outage")
    opened = [e for e in outages if e.reason_or_outcome == "opened"]
    assert opened
    assert outages[-1].reason_or_outcome == "closed"
    while_out = trial.provider.calls - 120
    assert while_out <= 60, "one probe at a time while it is out"
    assert trial.seconds < 8 * OUT_SECONDS


def test_nobody_listens_for_a_while(tmp_path: Path) -> None:
    async def away(provider: FaultyProvider) -> None:
        await asyncio.sleep(0.3)
        await provider.refuse_connections(OUT_SECONDS)

    trial = try_out(
        lambda call: completion(), tmp_path, records=200, latency_seconds=0.03, around=away
    )
    assert (trial.result.outcome, trial.result.rows_done) == ("success", 200)


def after(calls: int, answer: Callable[[Call], Any]) -> Behaviour:
    return lambda call: completion() if call.number < calls else answer(call)


FOR_A_PERSON: dict[str, tuple[Callable[[Call], Any], str, str]] = {
    "spent": (lambda call: failure(429, "insufficient_quota"), "quota_spent", "no credit or quota"),
    "402": (lambda call: failure(402), "quota_spent", "402"),
    "402 in a 200": (body_error(402), "quota_spent", "402"),
    "key": (lambda call: failure(401, "invalid_api_key"), "auth", "invalid_api_key"),
    "403": (lambda call: failure(403), "auth", "403"),
    "model": (lambda call: failure(404, "model_not_found"), "unknown_model", "model_not_found"),
    "address": (lambda call: failure(404), "wrong_address", "404"),
    "daily quota": (
        lambda call: failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded: RequestsPerDay"),
        "quota_used_up",
        "RESOURCE_EXHAUSTED",
    ),
    "hours": (
        lambda call: failure(429, headers={"retry-after": "10800"}),
        "quota_used_up",
        "back in 3 h",
    ),
    "option": (
        lambda call: failure(400, "unsupported_value", "temperature must be 1"),
        "bad_option",
        "unsupported_value",
    ),
}


@pytest.mark.parametrize("kind", effort(["spent", "key", "hours"], list(FOR_A_PERSON)))
def test_what_a_person_must_mend_stops_the_run_and_keeps_its_rows(
    kind: str, tmp_path: Path
) -> None:
    answer, failure_class, said = FOR_A_PERSON[kind]
    trial = try_out(after(20, answer), tmp_path, records=500, run={"buffer_size": 100})
    assert trial.result.outcome == "stopped"
    assert trial.result.rows_done == 20
    assert trial.result.rows_dropped == 0
    assert trial.provider.calls <= 20 + 8 + 2, "what was out, and a probe"
    assert said in trial.result.message
    assert "20 finished rows are written" in trial.result.message
    (suspended,) = trial.requests("request_suspended")
    assert suspended.reason_or_outcome == failure_class


def test_another_provider_goes_on_while_it_has_work(tmp_path: Path) -> None:
    async def main() -> None:
        async with FaultyProvider(lambda call: completion("healthy")) as healthy:
            trial = await asyncio.to_thread(
                try_out,
                after(5, lambda call: failure(401)),
                tmp_path,
                records=60,
                providers={
                    "q": {"type": "openai", "base_url": healthy.address},
                    "p": {"type": "openai", "base_url": "ADDRESS"},
                },
                models={
                    "m": {"provider": "p", "model": "m", "max_parallel_requests": 4},
                    "n": {"provider": "q", "model": "n", "max_parallel_requests": 2},
                },
                before=[{"name": "other", "type": "llm_text", "model": "n", "prompt": "{{ id }}"}],
            )
            assert trial.result.outcome == "stopped"
            assert healthy.calls == 60

    asyncio.run(main())


def odd(answer: Callable[[Call], Any]) -> Behaviour:
    return lambda call: answer(call) if "ODD" in call.prompt else completion()


HALF_ODD: dict[str, Any] = {
    "before": [
        {"name": "kind", "type": "sampler", "categories": {"ODD": 1, "plain": 3}},
    ],
    "column": {"prompt": "{{ kind }} {{ id }}"},
}


def odd_rows(trial: Any) -> int:
    return sum("ODD" in prompt for prompt in trial.provider.prompts)


@pytest.mark.parametrize(
    ("answer", "failure_class", "calls_each"),
    [
        (lambda call: failure(400, "context_length_exceeded"), "context_length", 1),
        (
            lambda call: failure(429, "rate_limit_exceeded", "limit 30000, requested 30601"),
            "request_too_large",
            1,
        ),
        (lambda call: failure(413), "request_too_large", 1),
        (lambda call: failure(400, "content_filter"), "content_filter", 1),
        (lambda call: failure(400, "odd_code"), "invalid_request", 1),
        *effort([], [(lambda call: failure(500), "server_error", 5)]),
        (lambda call: completion(None, refusal="I can't."), "refusal", 1),
        (lambda call: completion("half", "content_filter"), "filtered_answer", 1),
        (lambda call: completion(None, "length", reasoning_content="hm"), "reasoning_only", 2),
        (lambda call: completion(""), "empty_answer", 2),
    ],
)
def test_requests_that_can_never_succeed_cost_their_rows_and_nothing_else(
    answer: Callable[[Call], Any], failure_class: str, calls_each: int, tmp_path: Path
) -> None:
    trial = try_out(odd(answer), tmp_path, records=40, **HALF_ODD)
    rows = odd_rows(trial)
    assert rows > 4
    assert trial.result.outcome == "success"
    assert trial.dropped() == {failure_class: rows}
    assert trial.result.rows_done == 40 - rows
    assert not trial.requests("request_limit_decreased")
    tries = {n for prompt, n in trial.provider.prompts.items() if "ODD" in prompt}
    assert tries == {calls_each}


def test_a_refusal_for_no_stated_reason_is_given_up_without_holding_up_the_others(
    tmp_path: Path,
) -> None:
    """Some prompts are refused with 429 always, and nothing says that they never fit."""
    records = effort(150, 300)
    trial = try_out(
        odd(lambda call: failure(429, "rate_limit_exceeded")),
        tmp_path,
        records=records,
        before=[{"name": "kind", "type": "sampler", "categories": {"ODD": 1, "plain": 60}}],
        column={"prompt": "{{ kind }} {{ id }}"},
        on_call={records + 30: lambda control: control.stop()},
        run={"buffer_size": records, "stop_seconds": 0.1},
    )
    rows = odd_rows(trial)
    assert 0 < rows < 10
    assert trial.result.rows_done == records - rows


ACCEPTED: list[tuple[AnswerVerdict, Callable[[Call], Any], str]] = [
    ("truncated", lambda call: completion("cut in the mid", "length"), "cut in the mid"),
    ("thinking_in_text", lambda call: completion("<think>x</think>\nso"), "so"),
]


@pytest.mark.parametrize(("verdict", "answer", "text"), ACCEPTED)
def test_answers_that_are_accepted_are_named(
    verdict: AnswerVerdict, answer: Callable[[Call], Any], text: str, tmp_path: Path
) -> None:
    trial = try_out(odd(answer), tmp_path, **HALF_ODD)
    assert trial.result.rows_done == 40
    named = [e for e in trial.requests("model_request_completed") if "verdict" in e.diagnostics]
    assert len(named) == odd_rows(trial)
    assert {(e.diagnostics["verdict"], e.diagnostics["action"]) for e in named} == {
        (verdict, "accept")
    }
    assert {row["text"] for row in trial.rows if row["kind"] == "ODD"} == {text}


def test_a_column_decides_about_answers(tmp_path: Path) -> None:
    column = {"prompt": "{{ kind }} {{ id }}", "on_truncated": "drop", "on_refusal": "accept"}
    trial = try_out(
        odd(lambda call: completion("cut", "length")),
        tmp_path,
        before=HALF_ODD["before"],
        column=column,
    )
    assert trial.dropped() == {"truncated": odd_rows(trial)}
    assert sum(e.diagnostics.get("completion_tokens", 0)
               for e in trial.requests("model_request_completed")) == 3 * 40  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        lambda call: web.Response(body=b'{"choices": [{"message": {"content": "caf\xe9"}}]}'),
        lambda call: web.Response(text=""),
        lambda call: failure(401),
        lambda call: failure(429, headers={"retry-after": "99999999999"}),
        lambda call: failure(503, headers={"retry-after": "86400"}),
        reset,
    ],
)
def test_an_odd_answer_once_costs_nothing(answer: Callable[[Call], Any], tmp_path: Path) -> None:
    trial = try_out(lambda call: answer(call) if call.number == 5 else completion(), tmp_path)
    assert (trial.result.outcome, trial.result.rows_done) == ("success", 40)
    assert trial.seconds < 10.0


def test_lone_surrogates_go_neither_in_nor_out(tmp_path: Path) -> None:
    trial = try_out(
        lambda call: completion("cut \ud83d"),
        tmp_path,
        records=4,
        before=[{"name": "first", "type": "llm_text", "model": "m", "prompt": "{{ id }}"}],
        column={"prompt": "again {{ first }}"},
    )
    assert trial.result.rows_done == 4
    assert {row["text"] for row in trial.rows} == {"cut \ufffd"}


# Stopping


def hanging(call: Call) -> Any:
    return asyncio.sleep(3600) if call.number >= 12 else completion()


@pytest.mark.parametrize(
    ("behaviour", "parts"),
    [
        (hanging, {}),
        (after(12, lambda call: failure(429, headers={"retry-after": "60"})), {}),
        (after(12, lambda call: failure(500)), {}),
        (lambda call: asyncio.sleep(3600), {"run": {"health_check": True}}),
    ],
    ids=["a hung call", "a cooldown", "an outage", "the health check"],
)
def test_a_stop_ends_a_run_in_bounded_time_whatever_it_waits_for(
    behaviour: Behaviour, parts: dict[str, Any], tmp_path: Path
) -> None:
    run = {"stop_seconds": 0.5, "buffer_size": 100, **parts.get("run", {})}
    reports: list[Any] = []

    def stop(control: RunControl) -> None:
        control.stop()
        reports.append(control.outstanding())

    first = 0 if "run" in parts else 19
    trial = try_out(behaviour, tmp_path, records=100, on_call={first: stop}, run=run)
    assert trial.seconds < 15.0
    assert trial.result.outcome == "cancelled"
    if "run" not in parts:
        assert trial.result.rows_done == 12
        assert trial.result.rows_unfinished == 88
        assert "12 finished rows are written" in trial.result.message
    if behaviour is hanging:
        assert reports[0].total == 16, "8 calls, and as many that wait for their turn"
        assert reports[0].seconds_left == pytest.approx(0.5, abs=0.1)
        ages = [task.seconds for task in reports[0].tasks]
        assert ages == sorted(ages, reverse=True)


def test_a_second_stop_ends_a_run_at_once(tmp_path: Path) -> None:
    trial = try_out(
        hanging,
        tmp_path,
        records=100,
        on_call={18: lambda control: control.stop(), 19: lambda control: control.stop()},
        run={"stop_seconds": 60.0, "buffer_size": 100},
    )
    assert trial.seconds < 4.0
    assert trial.result.rows_done == 12


def test_too_many_drops_stop_the_run(tmp_path: Path) -> None:
    trial = try_out(
        lambda call: failure(400, "odd_code") if call.number % 4 else completion(),
        tmp_path,
        records=1000,
    )
    assert trial.result.outcome == "stopped"
    assert "too many rows are dropped" in trial.result.message
    assert trial.provider.calls < 250


# Options


def test_options_reach_the_provider(tmp_path: Path) -> None:
    model = {
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "seed": 7,
        "reasoning_effort": "low",
        "max_completion_tokens": 50,
        "response_format": {"type": "json_object"},
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
    }
    provider = {"headers": {"X-Title": "trial"}, "query": {"api-version": "2024-06-01"}}
    trial = try_out(
        lambda call: completion(call.request.query["api-version"]),
        tmp_path,
        records=2,
        model=model,
        provider=provider,
    )
    assert {row["text"] for row in trial.rows} == {"2024-06-01"}
    body = dict(trial.provider.bodies[0])
    assert body.pop("messages")[0]["role"] == "user"
    extra = model.pop("extra_body")
    assert body == {"model": "m", **model, **extra}  # type: ignore[dict-item]
    assert trial.provider.headers[0]["X-Title"] == "trial"


def test_a_model_that_wants_the_token_limit_under_another_name(tmp_path: Path) -> None:
    def behaviour(call: Call) -> web.Response:
        if "max_tokens" in call.body:
            return failure(400, "unsupported_parameter", "'max_tokens' is not supported")
        return completion(str(call.body["max_completion_tokens"]))

    trial = try_out(behaviour, tmp_path, model={"max_tokens": 30})
    assert {row["text"] for row in trial.rows} == {"30"}
    assert trial.provider.calls <= 40 + 8


def test_a_streamed_answer(tmp_path: Path) -> None:
    async def stream(call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(call.request)
        for piece in ("Hel", "lo"):
            chunk = b'{"choices": [{"delta": {"content": "%s"}}]}' % piece.encode()
            await response.write(b"data: " + chunk + b"\n\n")
        done = b'{"choices": [{"delta": {}, "finish_reason": "stop"}]}'
        await response.write(b"data: " + done + b"\n\ndata: [DONE]\n\n")
        return response

    trial = try_out(stream, tmp_path, records=8, model={"stream": True})
    assert {row["text"] for row in trial.rows} == {"Hello"}
    completed = trial.requests("model_request_completed")
    assert all(event.diagnostics["first_token_seconds"] > 0 for event in completed)


def test_two_models_share_the_cap_of_their_provider(tmp_path: Path) -> None:
    trial = try_out(
        lambda call: completion(),
        tmp_path,
        records=30,
        provider={"max_parallel_requests": 3},
        models={
            "m": {"provider": "p", "model": "m", "max_parallel_requests": 8},
            "n": {"provider": "p", "model": "n", "max_parallel_requests": 8},
        },
        before=[{"name": "other", "type": "llm_text", "model": "n", "prompt": "n {{ id }}"}],
    )
    assert trial.result.rows_done == 30
    assert trial.provider.most_in_flight == 3


@pytest.mark.parametrize(
    "model",
    effort(
        [{"requests_per_minute": 1200}, {"tokens_per_minute": 8 * 1200}],
        [
            {"requests_per_minute": 1200},
            {"tokens_per_minute": 8 * 1200},
            {"input_tokens_per_minute": 5 * 1200},
            {"output_tokens_per_minute": 3 * 1200},
        ],
    ),
)
def test_a_budget_per_minute_is_kept(model: dict[str, float], tmp_path: Path) -> None:
    trial = try_out(lambda call: completion(), tmp_path, records=80, model=model)
    assert trial.result.rows_done == 80
    assert trial.seconds > 1.5, "80 calls at 20 a second, of which 40 may go at once"
    assert trial.seconds < 8.0
    waits = {e.diagnostics["reason"] for e in trial.requests("request_wait_started")}
    assert "request_rate_budget" in waits
