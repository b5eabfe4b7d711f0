"""The embedded demo: two scripted providers, one of which goes through 429 storms."""

from __future__ import annotations

from engine.models.provider_script import Latency, RateLimitWindow
from engine.workflow.schema import (
    ExpressionColumn,
    Integers,
    LlmTextColumn,
    Model,
    RunSettings,
    SamplerColumn,
    ScriptedProvider,
    Workflow,
)


def demo_workflow(records: int = 240, seed: int = 7) -> Workflow:
    """Three columns of work for the healthy `alpha`, two for the stormy `beta` behind it.

    More rows are in flight than `alpha` gets through in a storm, so that it keeps its rate. `beta`
    has little to spare beside it: most of what its slots lose is lost to the storms.
    """
    return Workflow(
        name="demo",
        records=records,
        seed=seed,
        providers={
            "alpha": ScriptedProvider(seed=seed, latency=Latency(mean=0.65, spread=0.15)),
            "beta": ScriptedProvider(
                seed=seed + 1,
                latency=Latency(mean=0.8, spread=0.2),
                rate_limits=(
                    RateLimitWindow(start=3, end=7.5, retry_after=1.5, allow=2),
                    RateLimitWindow(start=24, end=29, retry_after=None, allow=3),
                ),
            ),
        },
        models={
            "writer": Model(provider="alpha", model="gen-8b", max_parallel_requests=10),
            "judge": Model(provider="beta", model="judge-70b", max_parallel_requests=12),
        },
        columns=[
            SamplerColumn(
                name="topic",
                categories={"tides": 3, "bridges": 2, "lanterns": 2, "orchards": 1},
            ),
            SamplerColumn(name="number", integers=Integers(low=100, high=999)),
            LlmTextColumn(
                name="question",
                model="writer",
                prompt="Ask question {{ number }} about {{ topic }}.",
            ),
            LlmTextColumn(
                name="keywords",
                model="writer",
                prompt="Name keywords for {{ topic }}, variant {{ number }}.",
            ),
            LlmTextColumn(
                name="answer",
                model="writer",
                system="Answer in one sentence.",
                prompt="{{ question }}",
            ),
            LlmTextColumn(
                name="critique",
                model="judge",
                prompt="What is wrong with this? {{ question }} {{ answer }}",
            ),
            LlmTextColumn(
                name="verdict",
                model="judge",
                prompt="Accept or reject {{ number }}: {{ critique }}",
            ),
            ExpressionColumn(
                name="summary",
                template="{{ topic }}: {{ answer }} [{{ keywords }}] {{ verdict }}",
            ),
        ],
        run=RunSettings(buffer_size=20, max_concurrent_row_groups=6),
    )
