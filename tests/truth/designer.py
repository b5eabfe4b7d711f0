"""A user's own Data Designer script, made from a situation: `python designer.py SPEC.json OUT`."""

import importlib
import inspect
import json
import os
import sys
from typing import Any

import data_designer.config as dd
from data_designer.interface import DataDesigner

with open(sys.argv[1]) as file:
    spec = json.load(file)
sys.path.insert(0, spec["functions"])
functions = importlib.import_module("functions")


def column_of(name: str, needs: list[str]) -> Any:
    """The user's function as Data Designer wants it: a row in, the row with its value out."""
    function = getattr(functions, name)

    async def wait_for(row: dict[str, Any]) -> dict[str, Any]:
        row[name] = await function(row)
        return row

    def call(row: dict[str, Any]) -> dict[str, Any]:
        row[name] = function(row)
        return row

    generate = wait_for if inspect.iscoroutinefunction(function) else call
    decorated = dd.custom_column_generator(required_columns=needs)(generate)
    return dd.CustomColumnConfig(name=name, generator_function=decorated)


providers = [
    dd.ModelProvider(name=name, endpoint=url, api_key="none")
    for name, url in spec["providers"].items()
]
builder = dd.DataDesignerConfigBuilder(
    model_configs=[
        dd.ModelConfig(
            alias=alias,
            model=model,
            provider=provider,
            inference_parameters=dd.ChatCompletionInferenceParams(
                max_parallel_requests=cap, timeout=60
            ),
        )
        for alias, provider, model, cap in spec["models"]
    ]
)
builder.add_column(
    dd.SamplerColumnConfig(
        name="topic",
        sampler_type="category",
        params=dd.CategorySamplerParams(values=[f"topic-{n}" for n in range(40)]),
    )
)
for name, needs, model, function, prompt in spec["columns"]:
    if function is None:
        builder.add_column(dd.LLMTextColumnConfig(name=name, model_alias=model, prompt=prompt))
    else:
        builder.add_column(column_of(function, needs))
designer = DataDesigner(artifact_path=sys.argv[2], model_providers=providers)
designer.set_run_config(
    dd.RunConfig(
        otel_metrics_port=None, write_scheduler_events=True, buffer_size=spec["buffer_size"]
    )
)
rows = len(designer.create(builder, num_records=spec["records"]).load_dataset())
with open(os.path.join(sys.argv[2], "rows"), "w") as file:
    file.write(str(rows))
