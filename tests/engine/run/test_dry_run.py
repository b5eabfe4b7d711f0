from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.run.dry_run import DryRun, PlannedColumn, dry_run
from engine.run.lint import lint
from engine.run.plan import plan_run
from engine.run.preview import preview_run
from engine.workflow.load import LoadedWorkflow
from tests.engine.workflow.columns.cells import workflow

TOPIC = {"name": "topic", "type": "sampler", "values": ["tides"]}
TEXT = {
    "name": "text",
    "type": "llm_text",
    "model": "writer",
    "system": "Be brief.",
    "prompt": "On {{ topic }}",
}
SCORES = [{"name": "clear", "description": "Clear?", "options": {1: "no", 2: "yes"}}]
JUDGE = {
    "name": "quality",
    "type": "llm_judge",
    "model": "judge",
    "prompt": "Judge {{ text }}",
    "scores": SCORES,
    "correction_rounds": 1,
}


def loaded(*columns: dict[str, Any], folder: Path = Path(), **parts: Any) -> LoadedWorkflow:
    made = workflow(*columns, **parts)
    functions = {c.name: c.reference() for c in made.columns if callable(c.reference())}
    return LoadedWorkflow(made, folder / "w.yaml", functions)  # type: ignore[arg-type]


def planned(*columns: dict[str, Any], **parts: Any) -> DryRun:
    return asyncio.run(dry_run(plan_run(loaded(*columns, **parts))))


def column(made: DryRun, name: str) -> PlannedColumn:
    [result] = [column for column in made.columns if column.name == name]
    return result


def codes(*columns: dict[str, Any], **parts: Any) -> list[tuple[str, str | None]]:
    given = loaded(*columns, **parts)
    findings = lint(given.workflow, plan_run(given).generators)
    return [(finding.code, finding.column) for finding in findings]


def test_a_plan_counts_tasks_calls_and_tokens() -> None:
    made = planned(TOPIC, TEXT, JUDGE, records=250, run={"buffer_size": 100})
    assert (made.records, made.row_groups) == (250, 3)
    assert [c.name for c in made.columns] == ["topic", "text", "quality"]
    assert [c.tasks for c in made.columns] == [3, 250, 250]
    text, quality = column(made, "text"), column(made, "quality")
    assert (text.fewest_calls, text.most_calls) == (250, 250)
    assert (quality.fewest_calls, quality.most_calls) == (250, 500)
    assert text.prompt_tokens == 250 * ((len("Be brief.") + len("On tides")) // 4 + 1)
    assert text.most_completion_tokens == 250 * 50
    assert quality.most_completion_tokens is None
    writer, judge = made.models
    assert (writer.alias, writer.endpoint, writer.cap, writer.fewest_calls) == (
        "writer",
        "p/m",
        9,
        250,
    )
    assert judge.fewest_calls == 250
    assert made.capacity["buffer_size"] == {
        "value": 100,
        "source": "run_config",
        "fallback_from": None,
        "missing_reason": None,
    }


def test_a_plan_has_costs_where_prices_are_given() -> None:
    price = {"input": 2.0, "output": 10.0}
    models = {"writer": {"provider": "p", "model": "m", "max_tokens": 50, "price": price}}
    made = planned(TOPIC, TEXT, records=1_000_000, models=models)
    [model] = made.models
    assert model.prompt_cost == pytest.approx(2.0 * model.prompt_tokens / 1e6)
    assert model.prompt_cost is not None
    assert model.most_cost == pytest.approx(model.prompt_cost + 10.0 * 50)
    [unpriced] = planned(TOPIC, TEXT, models={"writer": models["writer"] | {"price": None}}).models
    assert (unpriced.prompt_cost, unpriced.most_cost) == (None, None)


def test_a_plan_says_what_follows_from_failures() -> None:
    made = planned(TOPIC, TEXT, run={"max_attempts": 7})
    follows = {failure.name: failure.follows for failure in made.failures}
    assert "7 failures" in follows["server_error"]
    assert "dropped" in follows["context_length"]
    assert len(follows) == len(made.failures) > 20


def test_the_first_prompts_are_those_that_the_run_would_send() -> None:
    made = planned(TOPIC, TEXT, JUDGE)
    assert [(m.role, m.text) for m in column(made, "text").first_prompt] == [
        ("system", "Be brief."),
        ("user", "On tides"),
    ]
    [requested] = column(made, "quality").first_prompt
    assert requested.text.startswith("Judge <text>\n")
    assert column(made, "topic").first_value == "tides"


def test_a_row_that_would_fail_is_told_and_no_function_is_called() -> None:
    def function(row: dict[str, Any]) -> str:
        raise AssertionError("a plan calls no function")

    own = {"name": "own", "type": "custom", "function": function, "depends_on": ["topic"]}
    empty = {"name": "empty", "type": "llm_text", "model": "writer", "prompt": "{{ topic[9:] }}"}
    made = planned(TOPIC, own, empty)
    assert column(made, "own").first_value == "<own>"
    assert column(made, "empty").first_problem == (
        'the prompt of column "empty" is empty for this row'
    )


def test_placeholders_have_the_fields_that_templates_take() -> None:
    own = {"name": "own", "type": "custom", "function": lambda row: {}, "depends_on": ["topic"]}
    later = {
        "name": "later",
        "type": "expression",
        "template": "{{ own.size.wide }} {{ quality.clear.score }}",
    }
    number = {
        "name": "number",
        "type": "expression",
        "template": "{{ own.n }}",
        "value_type": "integer",
    }
    made = planned(TOPIC, TEXT, JUDGE, own, later, number)
    assert column(made, "later").first_value in ("<own.size.wide> 1", "<own.size.wide> 2")
    assert column(made, "number").first_problem is None
    assert column(made, "number").first_value == "<number>"


def test_calls_of_a_function_are_an_open_number() -> None:
    async def function(row: dict[str, Any], models: Any) -> str:
        return "x"

    own = {"name": "own", "type": "custom", "function": function, "models": ["writer"]}
    made = planned(TOPIC, own)
    assert (column(made, "own").fewest_calls, column(made, "own").most_calls) == (1, None)


def test_a_workflow_as_it_should_be_has_no_findings() -> None:
    assert codes(TOPIC, TEXT, JUDGE, records=100) == []


@pytest.mark.parametrize(
    ("columns", "finding"),
    [
        ([TOPIC | {"drop": True}, TEXT | {"prompt": "Hi"}, JUDGE], ("unused_column", "topic")),
        ([TOPIC, TEXT], ("unused_model", None)),
        (
            [TOPIC, TEXT | {"prompt": "{% if topic %}On {{ topic }}{% endif %}"}, JUDGE],
            ("empty_template", "text"),
        ),
        (
            [TOPIC | {"skip_when": "1 > 2"}, TEXT | {"prompt": "{{ topic }}"}, JUDGE],
            ("empty_template", "text"),
        ),
        (
            [TOPIC | {"values": ["a", ""]}, TEXT | {"prompt": " {{ topic }} "}, JUDGE],
            ("empty_template", "text"),
        ),
    ],
)
def test_lint_finds(columns: list[dict[str, Any]], finding: tuple[str, str | None]) -> None:
    assert codes(*columns, records=100) == [finding]


@pytest.mark.parametrize(
    "prompt",
    [
        "{% if topic %}On {{ topic }}{% else %}On anything{% endif %}",
        "{{ topic or 'anything' }}",
        "{% set a = topic %}On {{ a }}",
        "{{ topic }}!",
    ],
)
def test_lint_lets_pass_what_is_never_empty(prompt: str) -> None:
    skipped = TOPIC | {"skip_when": "1 > 2"}
    assert codes(skipped, TEXT | {"prompt": prompt}, JUDGE, records=100) == []


def test_lint_finds_a_cap_that_never_fills() -> None:
    assert codes(TOPIC, TEXT, JUDGE, records=4) == [("cap_never_fills", None)]
    assert codes(TOPIC, TEXT, JUDGE, records=100, run={"max_in_flight_tasks": 8}) == [
        ("cap_never_fills", None)
    ]
    two = [TEXT, TEXT | {"name": "more"}]
    assert codes(TOPIC, *two, JUDGE, records=5) == []


def test_lint_finds_a_seed_that_is_used_up(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("word\na\nb\n")
    seed = {"name": "word", "type": "seed", "path": "words.csv", "field": "word"}
    parts = {"folder": tmp_path, "models": {}, "providers": {}}
    assert codes(seed, records=3, **parts) == [("seed_repeats", "word")]
    assert codes(seed, records=2, **parts) == []
    assert codes(seed | {"order": "sampled"}, records=3, **parts) == []


def test_a_preview_makes_the_rows_that_the_run_begins_with() -> None:
    quick = {"type": "scripted", "latency": {"mean": 0}}
    number = {"name": "number", "type": "sampler", "integers": {"low": 1, "high": 9**9}}
    check = {
        "name": "check",
        "type": "validation",
        "columns": ["number"],
        "sql": "number % 3 <> 0",
    }
    given = loaded(
        number, TEXT | {"prompt": "On {{ number }}"}, check, providers={"p": quick, "q": quick}
    )
    small, large = (asyncio.run(preview_run(given, rows)) for rows in (4, 9))
    assert large.rows[: len(small.rows)] == small.rows
    assert small.calls >= len(small.rows)
    assert len(large.rows) + len(large.lost) == 9
    assert {(lost.column, lost.error_type) for lost in large.lost} == {("check", "RowRejected")}
    assert {lost.row for lost in large.lost} <= set(range(9))
