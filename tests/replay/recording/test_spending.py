"""Tokens and money of a run: view, report and words for people add up to the stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.events import Event, RequestEvent, RunInfo
from engine.events.run_folder import RunFolder
from engine.workflow.schema import Workflow
from replay.diagnosis.report.build import build_report, render_markdown, render_text
from replay.metrics.run_metrics import measure_run
from replay.recording.query import QueryProcess, RecordingQuery
from replay.recording.reader import open_recording
from replay.runs.recorder import finish_import
from replay.state.model import Progress
from replay.state.spending import dollars, money_words, share_done, spending_words
from tests.engine_run import Ran, run_engine

WriteJournal = Callable[..., RunFolder]
RECORDS = 40


async def picky(row: dict[str, Any]) -> str:
    if int(row["n"]) % 5 == 0:
        raise ValueError
    return "fine"


def ran() -> Ran:
    """Every fifth row is dropped after its first call; the second model has no price."""
    columns = [
        {"name": "n", "type": "sampler", "integers": {"low": 1, "high": 10_000}},
        {"name": "q", "type": "llm_text", "model": "priced", "prompt": "Ask {{ n }}"},
        {"name": "ok", "type": "custom", "function": picky, "depends_on": ["n", "q"]},
        {"name": "a", "type": "llm_text", "model": "free", "prompt": "{{ q }} {{ ok }}"},
    ]
    facts: dict[str, Any] = {
        "name": "spends",
        "records": RECORDS,
        "providers": {"p": {"type": "scripted", "completion_tokens": 7}},
        "models": {
            "priced": {"provider": "p", "model": "x", "price": {"input": 10, "output": 1000}},
            "free": {"provider": "p", "model": "y"},
        },
        "columns": columns,
        "run": {"stop_at_drop_share": None},
    }
    return run_engine(Workflow.model_validate(facts))


@pytest.fixture
def run_and_recording(write_journal: WriteJournal) -> tuple[Ran, Path]:
    run = ran()
    folder = write_journal(run.run, run.events, ended=True)
    finish_import(folder)
    return run, folder.recording


def answered(events: list[Event], model: str) -> list[dict[str, Any]]:
    return [
        event.diagnostics
        for event in events
        if isinstance(event, RequestEvent)
        and event.event_kind == "model_request_completed"
        and event.request_resource_key is not None
        and event.request_resource_key.model_id == model
    ]


def test_the_view_adds_up_to_the_stream(run_and_recording: tuple[Ran, Path]) -> None:
    run, path = run_and_recording
    with QueryProcess() as process:
        _, rows = RecordingQuery(path, process).run("SELECT * FROM spending ORDER BY task_column")
        free, priced = (row[:11] for row in rows)
    calls = answered(run.events, "x")
    cost = sum(call["cost"] for call in calls)
    tokens_in = sum(call["prompt_tokens"] for call in calls)
    dropped = run.result.rows_dropped
    assert 0 < dropped < RECORDS
    assert cost == pytest.approx((10 * tokens_in + 1000 * 7 * RECORDS) / 1e6)
    wasted_cost = (10 * 2 + 1000 * 7) * dropped / 1e6
    assert priced[:8] == ("q", "p/x", RECORDS, tokens_in, 7 * RECORDS, 0, 0, pytest.approx(cost))
    assert priced[8:] == (0, 9 * dropped, pytest.approx(wasted_cost))
    assert free[:3] == ("a", "p/y", RECORDS - dropped)
    assert free[7:] == (None, RECORDS - dropped, 0, None)


def test_why_says_what_was_spent(run_and_recording: tuple[Ran, Path]) -> None:
    run, path = run_and_recording
    reader = open_recording(path)
    try:
        report = build_report(reader)
        measures = measure_run(reader)
    finally:
        reader.close()
    assert [(line.column, line.calls) for line in report.spending] == [
        ("a", RECORDS - run.result.rows_dropped),
        ("q", RECORDS),
    ]
    text = " ".join(render_text(report).split())
    assert f"q, p/x: {RECORDS} calls, 80 tokens in, 280 out, $0.28" in text
    assert "wasted on retries and dropped rows" in text
    assert "Tokens and money" in render_markdown(report)
    assert measures.samples["tokens"] == [
        sum(
            call["prompt_tokens"] + call["completion_tokens"]
            for model in "xy"
            for call in answered(run.events, model)
        )
    ]
    assert measures.missing["cost"] == "the cost of some calls is not known"


def half_done(**changes: Any) -> tuple[Progress, RunInfo]:
    run = ran().run
    done = {"n": 1, "q": RECORDS, "a": 0}
    facts: dict[str, Any] = {
        "completed_by_column": done,
        "prompt_tokens": 1_000,
        "completion_tokens": 500,
        "answered_calls": RECORDS,
    }
    return Progress(**(facts | changes)), run


def test_words() -> None:
    progress, run = half_done()
    assert share_done(progress, run) == 0.5
    assert spending_words(progress, run, ended=True) == "1,000 in, 500 out"
    live = spending_words(progress, run, ended=False)
    assert live == "1,000 in, 500 out; about 3,000 tokens by the end"
    priced, run = half_done(
        cost=2.5, priced_calls=RECORDS - 3, cached_tokens=10, reasoning_tokens=4
    )
    assert spending_words(priced, run, ended=False) == (
        "1,000 in (10 cached), 500 out (4 reasoning), $2.50 and 3 calls of unknown cost; "
        "about 3,000 tokens, $5.00 by the end"
    )
    assert money_words(priced, run, ended=False) == "$2.50 of about $5.00"
    assert money_words(priced, run, ended=True) == "$2.50"
    assert spending_words(Progress(), run, ended=False) == ""


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0, "$0.00"), (1234.5, "$1,234.50"), (0.054, "$0.054"), (0.00001, "$1.0e-05")],
)
def test_dollars(amount: float, words: str) -> None:
    assert dollars(amount) == words
