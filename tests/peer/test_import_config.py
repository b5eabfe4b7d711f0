"""A configuration that the real package writes becomes a workflow that runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from engine.workflow.imports.data_designer import import_data_designer, read_config
from engine.workflow.imports.yaml_text import workflow_yaml
from engine.workflow.load import load_workflow
from tests.engine_run import run_engine

SCRIPT = """
import sys
import data_designer.config as dd

builder = dd.DataDesignerConfigBuilder(model_configs=[
    dd.ModelConfig(alias="m", model="x", provider="nvidia",
                   inference_parameters=dd.ChatCompletionInferenceParams(max_tokens=64))])
sampler = dd.SamplerColumnConfig
builder.add_column(sampler(name="topic", sampler_type="category",
                           params=dd.CategorySamplerParams(values=["a", "b"], weights=[1, 3])))
builder.add_column(sampler(name="kind", sampler_type="subcategory",
                           params=dd.SubcategorySamplerParams(
                               category="topic", values={"a": ["x"], "b": ["y", "z"]})))
builder.add_column(sampler(name="size", sampler_type="gaussian",
                           params=dd.GaussianSamplerParams(mean=5, stddev=1, decimal_places=1)))
builder.add_column(dd.LLMTextColumnConfig(name="text", model_alias="m", drop=True,
                                          prompt="On {{ topic }} of {{ kind }}, {{ size }}"))
builder.add_column(dd.LLMJudgeColumnConfig(
    name="judge", model_alias="m", prompt="Judge {{ text }}",
    scores=[dd.Score(name="clear", description="Is it?", options={1: "no", 2: "yes"})]))
builder.add_column(dd.ExpressionColumnConfig(name="score", expr="{{ judge.clear.score }}",
                                             dtype="int"))
builder.write_config(sys.argv[1])
"""


def test_what_they_write_runs_here(tmp_path: Path) -> None:
    for suffix in ("yaml", "json"):
        config = tmp_path / f"config.{suffix}"
        python = os.environ["HEADGATE_PEER_PYTHON"]
        subprocess.run([python, "-c", SCRIPT, str(config)], cwd=tmp_path, check=True)
        imported = import_data_designer(read_config(config), records=12)
        assert imported.notes == []
        imported.workflow["providers"] = {"nvidia": {"type": "scripted"}}
        path = tmp_path / f"{suffix}.yaml"
        path.write_text(workflow_yaml(imported.workflow))
        ran = run_engine(load_workflow(path))
        assert (ran.result.outcome, ran.result.rows_done) == ("success", 12)
        assert ran.kinds["model_request_started"] == 24
