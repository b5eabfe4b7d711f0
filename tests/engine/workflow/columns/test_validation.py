from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from engine.errors import PermanentTaskError, RetryableTaskError, UserError
from engine.events import SchedulerEvent
from engine.workflow.columns.validation import SqlPredicate
from engine.workflow.load import LoadedWorkflow
from tests.engine.workflow.columns.cells import (
    Answers,
    generator,
    generators,
    make,
    workflow,
)
from tests.engine_run import run_engine

REPLY = {"name": "reply", "type": "llm_text", "model": "writer", "prompt": "On {{ topic }}"}
TOPIC = {"name": "topic", "type": "sampler", "values": ["tides"]}
DIGEST = {"name": "digest", "type": "expression", "template": "{{ reply|length }}"}


def check(**parts: Any) -> dict[str, Any]:
    return {"name": "check", "type": "validation", "columns": ["reply"], **parts}


def checker(**parts: Any) -> Any:
    return generators(TOPIC, REPLY, DIGEST, check(**parts))["check"]


@pytest.mark.parametrize(
    ("sql", "passes"),
    [
        ("length(reply) > 3", True),
        ("length(reply) > 30", False),
        ("reply LIKE 'a%' AND reply <> ''", True),
        ("NULL", False),
        ("reply::INTEGER > 3", False),
        ("regexp_matches(reply, 'ans')", True),
    ],
)
def test_a_condition_in_sql(sql: str, passes: bool) -> None:
    made_by = checker(sql=sql, on_failure="keep")
    assert make(made_by, {"reply": "answer"}) is passes


def test_nested_values_can_be_looked_at() -> None:
    sql = "scores.clear.score >= 2 AND len(vector) = 3 AND missing IS NULL"
    columns = ["scores", "vector", "missing"]
    made_by = generator(
        {"type": "validation", "columns": columns, "sql": sql, "on_failure": "keep"}, *columns
    )
    row = {"scores": {"clear": {"score": 2}}, "vector": [1.0, 2.0, 3.0], "missing": None}
    assert make(made_by, row) is True
    assert make(made_by, row | {"vector": [1.0]}) is False


def test_a_row_that_fails_is_dropped_without_its_values() -> None:
    with pytest.raises(PermanentTaskError) as caught:
        make(checker(sql="length(reply) > 30"), {"reply": "private words"})
    assert caught.value.error_type == "RowRejected"
    assert caught.value.message == 'the row does not pass the check of column "check"'


@pytest.mark.parametrize(
    ("verdict", "passes"), [(True, True), (False, False), ("too short", False), ("", False)]
)
@pytest.mark.parametrize("inline", [True, False])
def test_a_function_is_a_check(verdict: Any, passes: bool, inline: bool) -> None:
    seen: list[Any] = []

    def function(row: dict[str, Any]) -> Any:
        seen.append(row)
        return verdict

    made_by = generators(
        TOPIC,
        REPLY,
        check(function=function, on_failure="keep"),
        functions={"check": function},
        inline=inline,
    )["check"]
    assert make(made_by, {"topic": "tides", "reply": "answer"}) is passes
    assert seen == [{"reply": "answer"}]


def raises_value(row: dict[str, Any]) -> bool:
    raise ValueError(row["reply"])


async def gives_none(row: dict[str, Any]) -> None:
    return None


@pytest.mark.parametrize(
    ("function", "error_type"), [(raises_value, "ValueError"), (gives_none, "WrongValue")]
)
def test_a_function_that_gives_no_verdict(function: Callable[..., Any], error_type: str) -> None:
    made_by = generators(TOPIC, REPLY, check(function=function), functions={"check": function})[
        "check"
    ]
    with pytest.raises(PermanentTaskError) as caught:
        make(made_by, {"reply": "private words"})
    assert caught.value.error_type == error_type
    assert "private" not in caught.value.message


def test_a_model_writes_again_and_is_told_why() -> None:
    made_by = checker(
        sql="length(reply) > 8", regenerate=["reply"], reason="{{ reply }} is too short."
    )
    models = Answers("too", "long enough")
    row: dict[str, Any] = {"topic": "tides", "reply": "bad"}
    assert make(made_by, row, models) is True
    assert row["reply"] == "long enough"
    first, second = models.requests
    assert [turn.text for turn in first.turns] == ["On tides", "bad"]
    assert "bad is too short." in first.prompt
    assert [turn.text for turn in second.turns] == ["On tides", "too"]
    assert "too is too short." in second.prompt


def test_what_lies_between_is_made_again_too() -> None:
    made_by = checker(
        columns=["digest"], sql="digest::INTEGER > 8", regenerate=["reply"], reason="Longer!"
    )
    row: dict[str, Any] = {"topic": "tides", "reply": "bad", "digest": "3"}
    assert make(made_by, row, Answers("long enough")) is True
    assert row == {"topic": "tides", "reply": "long enough", "digest": "11"}


@pytest.mark.parametrize(("attempts", "calls"), [(1, 1), (4, 4)])
def test_attempts_are_bounded(attempts: int, calls: int) -> None:
    models = Answers("no")
    made_by = checker(sql="length(reply) > 8", regenerate=["reply"], attempts=attempts)
    for row in (0, 1, 0):  # what one row used up is not missing to another
        models.requests.clear()
        with pytest.raises(PermanentTaskError, match=f"after it was made again {attempts} times"):
            make(made_by, {"topic": "tides", "reply": "bad"}, models, row)
        assert len(models.requests) == calls


def test_a_provider_that_fails_in_between_costs_no_attempt() -> None:
    models = Answers(RetryableTaskError("HTTP500", "no"), "long enough")
    made_by = checker(sql="length(reply) > 8", regenerate=["reply"], attempts=1)
    row: dict[str, Any] = {"topic": "tides", "reply": "bad"}
    with pytest.raises(RetryableTaskError):
        make(made_by, row, models)
    assert make(made_by, row, models) is True
    assert row["reply"] == "long enough"
    assert [turn.text for turn in models.requests[1].turns] == ["On tides", "bad"]


def test_others_wait_for_the_check_before_they_use_what_it_may_change() -> None:
    made = workflow(
        TOPIC,
        REPLY,
        DIGEST,
        check(columns=["digest"], sql="digest <> ''", regenerate=["reply"]),
        {"name": "title", "type": "expression", "template": "{{ reply }}"},
        {"name": "about", "type": "expression", "template": "{{ topic }}"},
    )
    assert made.graph.depends_on == {
        "topic": (),
        "reply": ("topic",),
        "digest": ("reply",),
        "check": ("digest", "reply"),
        "title": ("check", "reply"),
        "about": ("topic",),
    }


def test_a_second_check_has_the_first_one_made_again() -> None:
    second = {
        "name": "second",
        "type": "validation",
        "columns": ["reply"],
        "sql": "reply LIKE '%.'",
        "regenerate": ["reply"],
    }
    first = check(sql="length(reply) > 8", regenerate=["reply"])
    columns: list[dict[str, Any]] = [TOPIC, REPLY, first, second]
    made_by = generators(*columns)["second"]
    row: dict[str, Any] = {"topic": "tides", "reply": "long enough", "check": True}
    models = Answers("no.", "long enough.")
    assert make(made_by, row, models) is True
    assert row["reply"] == "long enough."
    assert len(models.requests) == 2


def test_a_run_keeps_what_was_made_again(tmp_path: Path) -> None:
    columns: list[dict[str, Any]] = [
        {"name": "number", "type": "sampler", "integers": {"low": 1, "high": 10**6}},
        {**REPLY, "prompt": "On {{ number }}"},
        check(sql="reply LIKE '%river%'", regenerate=["reply"], attempts=3),
        {"name": "title", "type": "expression", "template": "{{ reply }}!"},
    ]
    made = workflow(*columns, records=60, run={"stop_at_drop_share": None})
    ran = run_engine(LoadedWorkflow(made, None, {}), dataset=tmp_path)
    [table] = [pq.read_table(file) for file in tmp_path.glob("*.parquet")]
    rows = table.to_pylist()
    assert ran.result.outcome == "success"
    assert 0 < ran.result.rows_done == len(rows) < 60
    assert ran.result.rows_done + ran.result.rows_dropped == 60
    assert all("river" in row["reply"] and row["check"] is True for row in rows)
    assert all(row["title"] == row["reply"] + "!" for row in rows)
    drops = [e for e in ran.events if e.event_kind == "non_retryable_dropped"]
    assert len(drops) == ran.result.rows_dropped
    assert {e.reason_or_result for e in drops if isinstance(e, SchedulerEvent)} == {"RowRejected"}
    calls = ran.kinds["model_request_started"]
    assert 60 + 3 * len(drops) <= calls < 60 + 3 * 60
    # The same rows, whatever the order.
    again = run_engine(LoadedWorkflow(made, None, {}), dataset=tmp_path / "again", shuffle=5)
    [other] = [pq.read_table(file) for file in (tmp_path / "again").glob("*.parquet")]
    assert other.to_pylist() == rows
    assert again.kinds["model_request_started"] == calls


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({}, "exactly one of sql, function"),
        ({"sql": "true", "function": "m:f"}, "exactly one of sql, function"),
        ({"sql": "length(reply"}, "the SQL of a validation can't be used"),
        ({"sql": "true) AS BOOLEAN); DROP TABLE x; SELECT CAST((1"}, "must be one SELECT"),
        ({"function": "m.f"}, "module:function"),
        ({"sql": "true", "columns": ["gone"]}, 'unknown column "gone"'),
        ({"sql": "true", "regenerate": ["gone"]}, 'unknown column "gone"'),
    ],
)
def test_a_check_that_makes_no_sense_is_refused(parts: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        workflow(TOPIC, REPLY, check(**parts))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"sql": "length(rply) > 3"}, 'column "check", sql: .*rply'),
        ({"sql": "no_such_function(reply)"}, 'column "check", sql: .*no_such_function'),
        ({"sql": "(SELECT count(*) FROM '/etc/passwd') > 0"}, "/etc/passwd does not exist"),
        ({"sql": "EXISTS (FROM read_text('/etc/passwd'))"}, "reaches for a file"),
        ({"sql": "true", "regenerate": ["topic"]}, "made for a whole row group at once"),
    ],
)
def test_a_check_that_can_t_be_computed_is_told_before_the_run(
    parts: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        checker(**parts)


def test_a_condition_that_never_ends_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.workflow.columns.validation.MOST_QUERY_SECONDS", 0.2)
    endless = "(SELECT count(*) FROM range(1000000000) a, range(1000000000) b) > 0"
    predicate = SqlPredicate("check", endless, ["reply"], inline=False)
    with pytest.raises(PermanentTaskError, match="takes more than"):
        asyncio.run(predicate.reason({"reply": "x"}))
