from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.errors import PermanentTaskError, RetryableTaskError, UserError
from engine.metadata import SchedulingMetadata
from engine.models.client import LocalTimeoutError, ModelRequest, ModelResponse, ProviderError
from engine.virtual_time import run_virtual
from engine.workflow.columns.generator import (
    BatchContext,
    CellContext,
    ColumnGenerator,
    cell_random,
)
from engine.workflow.generators import build_generators
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow


class Echo:
    """Answers with the prompt, or with the error it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.requests: list[ModelRequest] = []
        self._error = error

    async def call(self, request: ModelRequest) -> ModelResponse:
        self.requests.append(request)
        if self._error is not None:
            raise self._error
        return ModelResponse(f"<{request.prompt}>")


MODELS = {
    "writer": {"provider": "p", "model": "m", "max_parallel_requests": 9, "max_tokens": 50},
    "twin": {"provider": "p", "model": "m", "max_parallel_requests": 4},
    "judge": {"provider": "q", "model": "j", "max_parallel_requests": 2, "timeout_seconds": 3},
}


def generator(
    column: dict[str, Any],
    function: Callable[..., Any] | None = None,
    inline: bool = False,
    others: tuple[str, ...] = ("topic",),
) -> ColumnGenerator:
    columns = [{"name": name, "type": "sampler", "values": ["tides"]} for name in others]
    if function is not None:
        column = {"type": "custom", "function": function, "depends_on": list(others)} | column
    workflow = Workflow.model_validate(
        {
            "name": "w",
            "records": 1,
            "providers": {"p": {"type": "scripted"}, "q": {"type": "scripted"}},
            "models": MODELS,
            "columns": [*columns, {"name": "x", **column}],
        }
    )
    functions = {"x": function} if function is not None else {}
    loaded = LoadedWorkflow(workflow, Path("w.yaml"), functions)
    return build_generators(loaded, inline_functions=inline)["x"]


def cell(values: Mapping[str, Any], models: Any = None, row: int = 0) -> CellContext:
    return CellContext(row, values, models or Echo())


def make(made_by: ColumnGenerator, values: Mapping[str, Any], models: Any = None) -> Any:
    return asyncio.run(made_by.generate(cell(values, models)))


def failure(made_by: ColumnGenerator, values: Mapping[str, Any]) -> PermanentTaskError:
    with pytest.raises(PermanentTaskError) as caught:
        make(made_by, values)
    return caught.value


def batch(made_by: ColumnGenerator, rows: range, seed: int = 1) -> list[Any]:
    return asyncio.run(made_by.generate_batch(BatchContext(0, rows, seed)))


def test_the_default_metadata_is_local() -> None:
    assert generator({"type": "sampler", "uuid": True}).get_scheduling_metadata() == (
        SchedulingMetadata("local", ("local", "default"), 1)
    )
    plain = generator({"type": "expression", "template": "a"})
    assert plain.get_scheduling_metadata().kind == "local"
    assert plain.request_resource() is None
    assert plain.task_type == "cell"


def test_a_cell_generator_makes_no_batches_and_a_sampler_no_cells() -> None:
    with pytest.raises(NotImplementedError):
        batch(generator({"type": "expression", "template": "a"}), range(1))
    with pytest.raises(NotImplementedError):
        make(generator({"type": "sampler", "uuid": True}), {})


# --- sampler


@pytest.mark.parametrize(
    "source",
    [{"values": ["a", 2, None]}, {"integers": {"low": 1, "high": 99}}, {"uuid": True}],
)
def test_a_row_s_value_does_not_depend_on_the_cut_into_groups(source: dict[str, Any]) -> None:
    sampler = generator({"type": "sampler", **source})
    assert sampler.task_type == "batch"
    whole = batch(sampler, range(40))
    assert batch(sampler, range(25)) + batch(sampler, range(25, 40)) == whole
    assert batch(sampler, range(40), seed=2) != whole
    assert len({str(value) for value in whole}) > 1


def test_weights_and_bounds_are_kept() -> None:
    weighted = generator({"type": "sampler", "categories": {"often": 9, "seldom": 1, "never": 0}})
    drawn = batch(weighted, range(1000))
    assert 850 < drawn.count("often") < 950
    assert "never" not in drawn
    numbers = batch(generator({"type": "sampler", "integers": {"low": 3, "high": 5}}), range(200))
    assert set(numbers) == {3, 4, 5}
    ids = batch(generator({"type": "sampler", "uuid": True}), range(200))
    assert len(set(ids)) == 200
    assert uuid.UUID(ids[0]).version == 4


# --- expression


def test_an_expression_renders_the_row() -> None:
    made_by = generator({"type": "expression", "template": "{{ topic|upper }} {{ topic|length }}"})
    assert make(made_by, {"topic": "tides"}) == "TIDES 5"


@pytest.mark.parametrize(
    "template",
    [
        "{{ topic.secret_field.deeper }}",
        "{{ topic + 1 }}",
        "{{ topic.__class__.__mro__ }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_a_failing_template_drops_the_row_without_repeating_it(template: str) -> None:
    made_by = generator({"type": "expression", "template": template})
    error = failure(made_by, {"topic": "private words"})
    assert "private" not in error.message
    assert 'column "x"' in error.message
    assert error.error_type.endswith(("Error", "SecurityError"))


# --- llm_text


def test_a_prompt_goes_to_the_endpoint_of_its_alias() -> None:
    made_by = generator(
        {"type": "llm_text", "model": "writer", "prompt": "On {{ topic }}.", "system": "Be brief."}
    )
    models = Echo()
    assert make(made_by, {"topic": "tides"}, models) == "<On tides.>"
    [request] = models.requests
    assert request.resource.label == "p/m/chat"
    assert (request.alias, request.system, request.max_tokens) == ("writer", "Be brief.", 50)
    assert request.timeout_seconds == 120
    resource = made_by.request_resource()
    assert resource is not None
    assert resource.label == "p/m/chat"


def test_aliases_of_one_endpoint_share_identity_and_the_smallest_cap() -> None:
    actual = {
        generator({"type": "llm_text", "model": alias, "prompt": "Hi"}).get_scheduling_metadata()
        for alias in ("writer", "twin")
    }
    assert actual == {SchedulingMetadata("model", ("model", "p", "m", "chat"), 4)}


def test_a_provider_s_error_passes_through_unchanged() -> None:
    error = ProviderError("rate_limit", "RateLimited", "429", retry_after_seconds=2)
    made_by = generator({"type": "llm_text", "model": "writer", "prompt": "Hi"})
    with pytest.raises(ProviderError) as caught:
        make(made_by, {}, Echo(error))
    assert caught.value is error


# --- custom


def test_a_sync_function_runs_in_a_thread() -> None:
    def where(row: dict[str, Any]) -> tuple[str, bool]:
        return row["topic"], threading.current_thread() is threading.main_thread()

    assert make(generator({}, where), {"topic": "tides", "other": 1}) == ("tides", False)


def test_inline_functions_work_under_virtual_time() -> None:
    made_by = generator({}, lambda row: row["topic"] * 2, inline=True)
    assert run_virtual(made_by.generate(cell({"topic": "ab"}))) == "abab"


def test_an_async_function_may_call_its_models() -> None:
    async def twice(row: dict[str, Any], models: Any) -> str:
        first = await models.text("writer", row["topic"])
        return str(await models.text("judge", first, system="Judge."))

    made_by = generator({"models": ["writer", "judge"]}, twice)
    models = Echo()
    assert make(made_by, {"topic": "tides"}, models) == "<<tides>>"
    assert [r.resource.label for r in models.requests] == ["p/m/chat", "q/j/chat"]
    assert [r.timeout_seconds for r in models.requests] == [120, 3]
    assert models.requests[1].system == "Judge."


def test_several_endpoints_make_one_deterministic_identity() -> None:
    def metadata(*aliases: str) -> SchedulingMetadata:
        made_by = generator({"models": list(aliases)}, lambda row: 1)
        return made_by.get_scheduling_metadata()

    assert metadata() == SchedulingMetadata("local", ("local", "default"), 1)
    assert metadata("writer", "twin") == SchedulingMetadata("model", ("model", "p", "m", "chat"), 4)
    both = metadata("writer", "judge")
    assert both == metadata("judge", "twin")
    assert both.kind == "custom_model"
    assert both.weight == 2


def test_only_a_single_endpoint_is_named_beforehand() -> None:
    named = generator({"models": ["writer", "twin"]}, lambda row: 1).request_resource()
    assert named is not None
    assert named.label == "p/m/chat"
    assert generator({"models": ["writer", "judge"]}, lambda row: 1).request_resource() is None


def test_an_undeclared_model_is_named_without_asking_it() -> None:
    async def asks(row: dict[str, Any], models: Any) -> str:
        return str(await models.text("judge", "Hi"))

    error = failure(generator({"models": ["writer"]}, asks), {"topic": "tides"})
    assert error.error_type == "UnknownModel"
    assert "declared: writer" in error.message


def raises_value(row: dict[str, Any]) -> None:
    raise ValueError(f"bad value {row['topic']}")


def stops(row: dict[str, Any]) -> Any:
    return next(iter([]))


def exits(row: dict[str, Any]) -> None:
    raise SystemExit(row["topic"])


async def raises_async(row: dict[str, Any]) -> None:
    raise KeyError(row["topic"])


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("function", "error_type"),
    [
        (raises_value, "ValueError"),
        (stops, "StopIteration"),
        (exits, "SystemExit"),
        (raises_async, "KeyError"),
    ],
)
def test_an_error_of_the_function_keeps_row_values_to_itself(
    function: Callable[..., Any], error_type: str, inline: bool
) -> None:
    error = failure(generator({}, function, inline), {"topic": "private words"})
    assert error.error_type == error_type
    line = function.__code__.co_firstlineno + 1
    assert error.message == (
        f'the function {function.__name__} of column "x" failed at line {line}'
    )
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    "error",
    [
        ProviderError("invalid_request", "HTTP500", "500"),
        LocalTimeoutError("LocalTimeout", "waited too long"),
        RuntimeError("of the admission"),
    ],
)
def test_an_error_of_a_model_call_passes_through_a_function(error: Exception) -> None:
    async def asks(row: dict[str, Any], models: Any) -> str:
        return str(await models.text("writer", "Hi"))

    with pytest.raises(type(error)) as caught:
        make(generator({"models": ["writer"]}, asks), {"topic": ""}, Echo(error))
    assert caught.value is error


def test_a_function_may_recover_from_a_model_and_fail_on_its_own() -> None:
    async def asks(row: dict[str, Any], models: Any) -> str:
        try:
            return str(await models.text("writer", "Hi"))
        except ProviderError:
            raise ArithmeticError("private words") from None

    made_by = generator({"models": ["writer"]}, asks)
    with pytest.raises(PermanentTaskError) as caught:
        make(made_by, {"topic": ""}, Echo(ProviderError("invalid_request", "HTTP500", "500")))
    assert caught.value.error_type == "ArithmeticError"


def test_a_function_may_give_a_call_a_time_and_go_on_without_an_answer() -> None:
    async def asks(row: dict[str, Any], models: Any) -> str:
        try:
            return str(await models.text("writer", "Hi", within_seconds=2.0))
        except TimeoutError:
            return "none"

    made_by = generator({"models": ["writer"]}, asks)
    late = Echo(LocalTimeoutError("LocalTimeout", "over"))
    assert make(made_by, {"topic": ""}, late) == "none"
    assert [request.within_seconds for request in late.requests] == [2.0]


def test_a_function_may_ask_for_a_retry() -> None:
    def later(row: dict[str, Any]) -> None:
        raise RetryableTaskError("NotYet", "come back", 2.0)

    with pytest.raises(RetryableTaskError, match="come back"):
        make(generator({}, later), {"topic": ""})


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: 1, "must take a row"),
        (lambda a, b, c: 1, "must take a row"),
        (lambda row, *, key: 1, "must take a row"),
        (lambda row, models: 1, "must be an `async def`"),
        (lambda row, models=None: 1, "must be an `async def`"),
    ],
)
def test_a_function_of_a_wrong_shape_is_refused(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        generator({}, function)


def test_a_second_parameter_with_a_default_is_left_alone() -> None:
    def scaled(row: dict[str, Any], factor: int = 3) -> int:
        return factor

    assert make(generator({}, scaled), {"topic": ""}) == 3


def test_a_callable_object_will_do() -> None:
    class Asks:
        async def __call__(self, row: dict[str, Any], models: Any) -> str:
            return str(await models.text("writer", row["topic"]))

    made_by = generator({"models": ["writer"]}, Asks())
    assert make(made_by, {"topic": "tides"}) == "<tides>"


def test_each_cell_has_a_random_source_of_its_own() -> None:
    draws = {
        (seed, column, row): cell_random(seed, column, row).random()
        for seed in (1, 2)
        for column in ("a", "b")
        for row in (0, 1)
    }
    assert len(set(draws.values())) == 8
    assert cell_random(1, "a", 0).random() == draws[1, "a", 0]
