"""A user's own Data Designer script: five LLM columns on two providers over a seed dataset.

It knows nothing of headgate. ALPHA_URL and BETA_URL name the providers; its arguments are
MODE (create or preview) RECORDS SEED OUT [name=value of RunConfig ...]. In OUT it leaves the rows
as it loaded them, and what their generation cost.
"""

import json
import os
import sys
import time

import data_designer.config as dd
from data_designer.interface import DataDesigner

mode, records, seed, out, *settings = sys.argv[1:]
run_config = {
    name: json.loads(value) for name, value in (setting.split("=") for setting in settings)
}

providers = [
    dd.ModelProvider(name="alpha", endpoint=os.environ["ALPHA_URL"], api_key="none"),
    dd.ModelProvider(name="beta", endpoint=os.environ["BETA_URL"], api_key="none"),
]


def model(alias: str, name: str, provider: str, cap: int) -> dd.ModelConfig:
    return dd.ModelConfig(
        alias=alias,
        model=name,
        provider=provider,
        inference_parameters=dd.ChatCompletionInferenceParams(max_parallel_requests=cap),
    )


builder = dd.DataDesignerConfigBuilder(
    model_configs=[
        model("writer", "gen-8b", "alpha", 8),
        model("judge", "judge-70b", "beta", 8),
    ]
)
builder.with_seed_dataset(dd.LocalFileSeedSource(path=seed))
for column, alias, prompt in (
    ("ticket", "writer", "Write ticket {{ number }} about {{ topic }}"),
    ("summary", "writer", "Sum up: {{ ticket }}"),
    ("reply", "writer", "Answer: {{ ticket }}"),
    ("tone", "judge", "Judge the tone of {{ reply }}"),
    ("score", "judge", "Score {{ summary }} against {{ reply }}"),
):
    builder.add_column(dd.LLMTextColumnConfig(name=column, model_alias=alias, prompt=prompt))

designer = DataDesigner(artifact_path=out, model_providers=providers)
designer.set_run_config(dd.RunConfig(otel_metrics_port=None, **run_config))
began = time.monotonic()
spent = time.process_time()
if mode == "create":
    dataset = designer.create(builder, num_records=int(records)).load_dataset()
else:
    dataset = designer.preview(builder, num_records=int(records)).dataset
cost = {"wall": time.monotonic() - began, "cpu": time.process_time() - spent}
with open(os.path.join(out, "cost.json"), "w") as file:
    json.dump({**cost, "whole_process_cpu": time.process_time()}, file)
dataset.to_json(os.path.join(out, "loaded.json"), orient="records")
