"""Answers that are not what a column wants, over HTTP: only what no retry could save is lost, and
the run says exactly that."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from tests.engine.run.faulty_provider import (
    Behaviour,
    Call,
    Trial,
    completion,
    embedded,
    failure,
    try_out,
)

CANARY = "canary-4f1c9e77ab"
SCHEMA = {
    "type": "object",
    "required": ["year"],
    "properties": {"year": {"type": "integer"}},
}
STRUCTURED: dict[str, Any] = {"type": "llm_structured", "schema": SCHEMA}
JUDGE: dict[str, Any] = {
    "type": "llm_judge",
    "scores": [{"name": "clear", "description": "Clear?", "options": {1: "no", 2: "yes"}}],
}
GOOD = {
    "llm_structured": {"year": 1999},
    "llm_judge": {"clear": {"reasoning": CANARY, "score": 2}},
}
BAD = {
    "malformed": '{"year": 19',
    "schema": '{"year": "1999", "clear": 3}',
    "prose": f"I would say that {CANARY} is clear.",
}


def rounds(body: dict[str, Any]) -> int:
    """How many answers of the conversation were turned down before."""
    return sum(message["role"] == "assistant" for message in body["messages"])


def number(body: dict[str, Any]) -> int:
    """A number that depends on the row alone."""
    first = next(message for message in body["messages"] if message["role"] == "user")
    return sum(first["content"].encode()[:50])


def trial(column: dict[str, Any], behaviour: Behaviour, folder: Path, **parts: Any) -> Trial:
    before = [{"name": "canary", "type": "sampler", "values": [CANARY]}]
    given = {"prompt": "{{ id }} {{ canary }}", **column}
    return try_out(behaviour, folder, column=given, before=before, **parts)


def canaries(ran: Trial) -> int:
    """How often the canary stands in the events."""
    return msgspec.json.encode(ran.events).decode().count(CANARY)


@pytest.mark.parametrize("column", [STRUCTURED, JUDGE], ids=["structured", "judge"])
@pytest.mark.parametrize("wrong", BAD)
def test_no_row_is_lost_that_a_correction_saves(
    column: dict[str, Any], wrong: str, tmp_path: Path
) -> None:
    good = json.dumps(GOOD[column["type"]])

    def behaviour(call: Call) -> web.StreamResponse:
        return completion(BAD[wrong] if rounds(call.body) < number(call.body) % 3 else good)

    ran = trial(column, behaviour, tmp_path)
    assert (ran.result.rows_done, ran.result.rows_dropped) == (40, 0)
    assert all(json.loads(row["text"]) == GOOD[column["type"]] for row in ran.rows)
    corrections = sum(rounds(body) > 0 for body in ran.provider.bodies)
    assert corrections > 0
    # Each round is a request of its own, under a lease of its own.
    assert len(ran.requests("model_request_started")) == ran.provider.calls == 40 + corrections
    leases = {event.request_lease_id for event in ran.requests("model_request_started")}
    assert len(leases) == ran.provider.calls
    assert canaries(ran) == 0


@pytest.mark.parametrize("column", [STRUCTURED, JUDGE], ids=["structured", "judge"])
def test_what_no_correction_saves_is_dropped_with_its_class(
    column: dict[str, Any], tmp_path: Path
) -> None:
    good = json.dumps(GOOD[column["type"]])

    def behaviour(call: Call) -> web.StreamResponse:
        return completion(BAD["prose"] if number(call.body) % 4 == 0 else good)

    ran = trial(column, behaviour, tmp_path)
    lost = Counter(number(body) % 4 == 0 for body in ran.provider.bodies)
    assert lost[True] > 0
    assert lost[True] % 3 == 0
    assert ran.dropped() == {"invalid_structure": lost[True] // 3}
    assert ran.result.rows_done == 40 - lost[True] // 3 == lost[False]
    assert canaries(ran) == 0


def test_an_endpoint_without_response_format_is_asked_without_it(tmp_path: Path) -> None:
    def behaviour(call: Call) -> web.StreamResponse:
        if "response_format" in call.body:
            return failure(400, "unsupported_parameter", "response_format is not supported")
        return completion('{"year": 1999}')

    ran = trial(STRUCTURED, behaviour, tmp_path)
    assert (ran.result.outcome, ran.result.rows_done) == ("success", 40)
    with_format = sum("response_format" in body for body in ran.provider.bodies)
    assert 1 <= with_format <= 8  # those that were out when the first one came back


def test_a_provider_that_fails_between_the_rounds_costs_no_row(tmp_path: Path) -> None:
    def behaviour(call: Call) -> web.StreamResponse:
        if call.tries == 0 and number(call.body) % 2:
            return failure(500)
        return completion("prose" if rounds(call.body) == 0 else '{"year": 1999}')

    ran = trial(STRUCTURED, behaviour, tmp_path)
    assert (ran.result.rows_done, ran.result.rows_dropped) == (40, 0)


def vector_column(**parts: Any) -> dict[str, Any]:
    return {"type": "embedding", "text": "{{ id }} {{ canary }}", "dimensions": 3, **parts}


def test_an_embedding_of_another_dimension_is_asked_for_again(tmp_path: Path) -> None:
    def behaviour(call: Call) -> web.StreamResponse:
        right = call.tries >= sum(call.prompt.encode()) % 3
        return embedded(0.5, 1.0, 2.0) if right else embedded(0.5, 1.0)

    ran = try_embeddings(behaviour, tmp_path)
    assert (ran.result.rows_done, ran.result.rows_dropped) == (40, 0)
    assert all(row["text"] == "[0.5, 1.0, 2.0]" for row in ran.rows)
    assert ran.provider.calls > 40
    deferred = ran.scheduler("retry_deferred")
    assert len(deferred) == ran.provider.calls - 40
    assert {event.diagnostics["class"] for event in deferred} == {"wrong_dimension"}
    assert canaries(ran) == 0


def test_an_endpoint_with_another_dimension_loses_rows_of_that_class(tmp_path: Path) -> None:
    def behaviour(call: Call) -> web.StreamResponse:
        return embedded(*[0.5] * (4 if sum(call.prompt.encode()) % 4 == 0 else 3))

    ran = try_embeddings(behaviour, tmp_path, run={"max_attempts": 2})
    wrong = sum(sum(prompt.encode()) % 4 == 0 for prompt in ran.provider.prompts)
    assert ran.dropped() == {"wrong_dimension": wrong}
    assert ran.provider.calls == 40 + wrong
    assert ran.result.rows_done == 40 - wrong


@pytest.mark.parametrize(
    "body",
    [{}, {"data": []}, {"data": [{"embedding": "words"}]}, {"data": [{"embedding": [None]}]}],
)
def test_an_answer_without_a_vector_is_malformed(body: dict[str, Any], tmp_path: Path) -> None:
    def behaviour(call: Call) -> web.StreamResponse:
        return web.json_response(body) if call.tries == 0 else embedded(1, 2, 3)

    ran = try_embeddings(behaviour, tmp_path, records=6)
    assert (ran.result.rows_done, ran.result.rows_dropped) == (6, 0)


def try_embeddings(behaviour: Behaviour, folder: Path, **parts: Any) -> Trial:
    columns = [
        {"name": "id", "type": "sampler", "uuid": True},
        {"name": "canary", "type": "sampler", "values": [CANARY]},
        {"name": "text", "model": "m", **vector_column()},
    ]
    return try_out(behaviour, folder, columns=columns, **parts)


def test_what_is_said_and_made_reaches_no_event(tmp_path: Path) -> None:
    def behaviour(call: Call) -> web.StreamResponse:
        if call.tries == 0 and number(call.body) % 3 == 0:
            echoed = " ".join(str(message["content"]) for message in call.body["messages"])
            return failure(400 if number(call.body) % 2 else 500, message=echoed)
        again = len(call.body["messages"]) == 6
        good = number(call.body) % 3 == 0 or (again and number(call.body) % 3 == 1)
        return completion(f"{CANARY} {'good' if good else 'bad'}")

    columns = [
        {"name": "id", "type": "sampler", "uuid": True},
        {"name": "canary", "type": "sampler", "values": [CANARY]},
        {
            "name": "text",
            "type": "llm_text",
            "model": "m",
            "prompt": "{{ id }} {{ canary }}",
            "system": "{{ canary }} s",
            "examples": [{"prompt": "{{ id }} {{ canary }} e", "answer": "{{ canary }} a"}],
        },
        {
            "name": "check",
            "type": "validation",
            "columns": ["text"],
            "sql": "text LIKE '%good'",
            "regenerate": ["text"],
            "attempts": 1,
            "reason": "{{ text }} {{ canary }}",
        },
        {"name": "bad", "type": "expression", "template": "{{ canary }}", "value_type": "text"},
    ]
    ran = try_out(behaviour, tmp_path, columns=columns, run={"stop_at_drop_share": None})
    dropped = ran.dropped()
    rejected = sum(
        number(body) % 3 == 2 for body in ran.provider.bodies if len(body["messages"]) == 6
    )
    assert dropped["RowRejected"] == rejected
    assert set(dropped) == {"invalid_request", "RowRejected"}
    assert ran.result.rows_done == 40 - dropped.total() > 0
    again = sum(len(body["messages"]) == 6 for body in ran.provider.bodies)
    assert again > 0
    assert canaries(ran) == 0
