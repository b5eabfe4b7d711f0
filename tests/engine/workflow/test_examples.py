from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.clock import LoopClock
from engine.events import EventStream
from engine.models.provider_script import Latency, ProviderScript
from engine.run.execute import RunControl, execute_run
from engine.run.lint import lint
from engine.run.plan import plan_run
from engine.workflow.examples import EXAMPLES, FOLDER, example_files
from engine.workflow.load import load_workflow
from engine.workflow.schema import OpenAIProvider, ScriptedProvider
from tests.engine_run import run_engine
from tests.scripted_server import ScriptedServer


def written(name: str, folder: Path, *, scripted: bool) -> Path:
    for file, text in example_files(name, scripted=scripted).items():
        (folder / file).write_text(text)
    return folder / "workflow.yaml"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_each_example_is_a_folder() -> None:
    folders = {path.name for path in FOLDER.iterdir() if (path / "workflow.yaml").exists()}
    assert folders == set(EXAMPLES)
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_wants_real_endpoints_and_keys_of_the_environment(
    name: str, tmp_path: Path
) -> None:
    loaded = load_workflow(written(name, tmp_path, scripted=False))
    providers = loaded.workflow.providers.values()
    assert all(isinstance(provider, OpenAIProvider) for provider in providers)
    assert len(loaded.workflow.key_variables()) == len(providers)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_on_scripted_providers(name: str, tmp_path: Path) -> None:
    loaded = load_workflow(written(name, tmp_path, scripted=True))
    workflow = loaded.workflow
    assert all(isinstance(p, ScriptedProvider) for p in workflow.providers.values())
    plan = plan_run(loaded, inline_functions=True)
    assert lint(workflow, plan.generators) == []
    ran = run_engine(loaded, dataset=tmp_path / "dataset")
    rows = rows_of(tmp_path / "dataset")
    assert ran.result.outcome == "success"
    assert 0 < ran.result.rows_done == len(rows)
    assert ran.result.rows_done + ran.result.rows_dropped == workflow.records
    assert list(rows[0]) == workflow.output_columns
    # Only checks drop rows here.
    dropped = {e.reason_or_result for e in ran.events if e.event_kind == "non_retryable_dropped"}  # type: ignore[union-attr]
    assert dropped <= {"RowRejected"}
    again = run_engine(loaded, dataset=tmp_path / "again", shuffle=3)
    assert rows_of(tmp_path / "again") == rows
    assert again.result.rows_done == ran.result.rows_done


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_makes_the_same_rows_over_http(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(name, tmp_path, scripted=False)
    variables = load_workflow(path).workflow.key_variables()
    for variable in variables.values():
        monkeypatch.setenv(variable, "a-key")
    at_once = ProviderScript(latency=Latency(mean=0))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with ScriptedServer(dict.fromkeys(variables, at_once)) as server:
            text = path.read_text()
            for provider in variables:
                address = f'\\1base_url: "{server.url(provider)}"'
                text = re.sub(rf'(  {provider}: .*?)base_url: "[^"]*"', address, text)
            path.write_text(text)
            plan = plan_run(load_workflow(path))
            clock, control = LoopClock(loop), RunControl()
            stream = EventStream(clock, "example", [], loop.call_soon)
            folder = tmp_path / "over-http"
            result = await execute_run(plan, stream, clock, dataset=folder, control=control)
            assert result.outcome == "success"

    asyncio.run(main())
    loaded = load_workflow(written(name, tmp_path, scripted=True))
    run_engine(loaded, dataset=tmp_path / "in-process")
    assert rows_of(tmp_path / "over-http") == rows_of(tmp_path / "in-process") != []


def test_near_duplicates_are_gone(tmp_path: Path) -> None:
    loaded = load_workflow(written("embedding-deduplication", tmp_path, scripted=True))
    run_engine(loaded, dataset=tmp_path / "dataset")
    sentences = [row["sentence"] for row in rows_of(tmp_path / "dataset")]
    # There are 12 prompts, and so at most as many answers.
    assert len(sentences) == len(set(sentences)) <= 12
