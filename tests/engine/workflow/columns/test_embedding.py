from __future__ import annotations

from typing import Any

import pytest

from engine.errors import PermanentTaskError, RetryableTaskError
from engine.events import RequestEvent
from engine.metadata import SchedulingMetadata
from engine.models.scripted_answers import scripted_vector
from tests.engine.workflow.columns.cells import Answers, generator, make, workflow
from tests.engine_run import run_engine


def embedding(**parts: Any) -> dict[str, Any]:
    return {"type": "embedding", "model": "writer", "text": "On {{ topic }}", **parts}


def test_a_text_becomes_a_vector_of_a_domain_of_its_own() -> None:
    made_by = generator(embedding(extra_body={"user": "u"}), "topic")
    models = Answers([0.5, 1.0])
    assert make(made_by, {"topic": "tides"}, models) == [0.5, 1.0]
    [request] = models.requests
    assert (request.operation, request.prompt) == ("embedding", "On tides")
    assert request.resource.label == "p/m/embedding"
    # What the model says of chat is not sent.
    assert (request.options, request.temperature, request.max_tokens) == ({"user": "u"}, None, None)
    assert made_by.get_scheduling_metadata() == (
        SchedulingMetadata("model", ("model", "p", "m", "embedding"), 9)
    )


def test_a_vector_of_another_length_is_asked_for_again() -> None:
    made_by = generator(embedding(dimensions=2, request_dimensions=True), "topic")
    models = Answers([0.5, 1.0, 2.0], [0.5, 1.0])
    with pytest.raises(RetryableTaskError) as caught:
        make(made_by, {"topic": "tides"}, models)
    assert caught.value.details is not None
    assert caught.value.details.failure == "wrong_dimension"
    assert caught.value.uses_attempt
    assert make(made_by, {"topic": "tides"}, models) == [0.5, 1.0]
    assert models.requests[0].options == {"dimensions": 2}


def test_the_first_vector_sets_the_length_of_all() -> None:
    made_by = generator(embedding(), "topic")
    models = Answers([1.0], [1.0, 2.0])
    make(made_by, {"topic": "tides"}, models)
    with pytest.raises(RetryableTaskError, match="of 1 numbers, and this one has 2"):
        make(made_by, {"topic": "tides"}, models)


def test_a_row_without_text_fails() -> None:
    with pytest.raises(PermanentTaskError, match="is empty for this row"):
        make(generator(embedding(text="{{ topic }}"), "topic"), {"topic": " "}, Answers([1.0]))


def test_an_alias_has_the_domains_that_columns_want_of_it() -> None:
    made = workflow(
        {"name": "topic", "type": "sampler", "uuid": True},
        {"name": "x", **embedding()},
        {"name": "y", "type": "llm_text", "model": "writer", "prompt": "Hi"},
    )
    assert made.domains("writer") == ("chat", "embedding")
    assert made.domains("judge") == ("chat",)


def test_scripted_vectors_are_alike_for_texts_that_are() -> None:
    def closeness(first: str, second: str) -> float:
        pairs = zip(scripted_vector(first, 64), scripted_vector(second, 64), strict=True)
        return sum(a * b for a, b in pairs)

    assert closeness("a b c d", "d c b a") == pytest.approx(1, abs=1e-4)
    assert closeness("one two three four", "one two three five") > 0.5
    assert closeness("one two three four", "red green blue black") < 0.5
    assert len(scripted_vector("", 7)) == 7


@pytest.mark.parametrize("health_check", [False, True])
def test_a_run_has_leases_of_both_domains(health_check: bool) -> None:
    made = workflow(
        {"name": "topic", "type": "sampler", "uuid": True},
        {"name": "x", **embedding(model="judge")},
        {"name": "y", "type": "llm_text", "model": "writer", "prompt": "Hi {{ topic }}"},
        {"name": "z", **embedding()},
        records=5,
        run={"health_check": health_check},
    )
    ran = run_engine(made)
    assert ran.result.rows_done == 5
    used = {
        event.request_resource_key.label
        for event in ran.events
        if isinstance(event, RequestEvent) and event.request_resource_key is not None
    }
    checked = {"p/m/healthcheck", "q/j/healthcheck"} if health_check else set()
    assert used == {"q/j/embedding", "p/m/chat", "p/m/embedding"} | checked
