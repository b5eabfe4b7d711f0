"""NVIDIA NeMo Data Designer's side of the comparison, driven as its own scheduler drives it.

Runs in an interpreter that has the package; of headgate it needs the script alone.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from data_designer.config import (
    CategorySamplerParams,
    ChatCompletionInferenceParams,
    DataDesignerConfigBuilder,
    ExpressionColumnConfig,
    LLMTextColumnConfig,
    ModelConfig,
    ModelProvider,
    RunConfig,
    SamplerColumnConfig,
    SamplerType,
)
from data_designer.engine.dataset_builders.dataset_builder import DatasetBuilder
from data_designer.engine.dataset_builders.scheduling.queue import FairTaskQueue
from data_designer.engine.dataset_builders.scheduling.resources import (
    SchedulableTask,
    SchedulerResourceRequest,
    TaskGroupKey,
    TaskGroupSpec,
    stable_task_id,
)
from data_designer.engine.dataset_builders.scheduling.task_admission import (
    TaskAdmissionConfig,
    TaskAdmissionController,
    TaskAdmissionLease,
)
from data_designer.engine.dataset_builders.scheduling.task_model import Task
from data_designer.engine.dataset_builders.scheduling.task_policies import (
    BoundedBorrowTaskAdmissionPolicyConfig,
)
from data_designer.engine.models.clients.adapters.openai_compatible import OpenAICompatibleClient
from data_designer.engine.models.clients.types import (
    AssistantMessage,
    ChatCompletionRequest,
    ChatCompletionResponse,
    Usage,
)
from data_designer.engine.models.request_admission.controller import (
    AdaptiveRequestAdmissionController,
)
from data_designer.engine.models.request_admission.outcomes import RequestReleaseOutcome
from data_designer.engine.models.request_admission.resources import (
    RequestAdmissionItem,
    RequestDomain,
    RequestGroupSpec,
    RequestResourceKey,
)
from data_designer.interface import DataDesigner

from engine.benchmark.admission_loop import AdmissionParts
from engine.models.provider_script import Latency, ProviderScript
from engine.models.script import ScriptPlayer
from tests.bench.peer.common import (
    BUFFER_SIZE,
    CAP,
    CATEGORIES,
    IN_FLIGHT,
    JUDGE_CAP,
    JUDGE_COLUMN,
    LATENCY_SECONDS,
    ROW_GROUPS,
    WORKFLOWS,
    Parts,
    RunCost,
    cpu_seconds_of,
    elapsed,
    summary_of,
)

RELEASED = RequestReleaseOutcome(kind="success")


class DataDesignerSide:
    """What `worker` can ask of this engine; `HeadgateSide` has the same methods."""

    def admission(self, groups: int, capacity: int, tasks: int, model_work: bool) -> Parts:
        """Groups as its resolver makes them: only model work has a cap of its own and more
        resources than a submission slot."""
        pool = "request:alpha/m"
        limits = {"llm_wait": capacity, pool: capacity} if model_work else {}
        admission = TaskAdmissionController(
            TaskAdmissionConfig(
                submission_capacity=capacity,
                resource_limits=limits,
                bounded_borrow=BoundedBorrowTaskAdmissionPolicyConfig(),
            )
        )
        queue = FairTaskQueue()
        kind = "model" if model_work else "local"
        specs = [
            TaskGroupSpec(TaskGroupKey(kind, (f"g{n}",)), 1.0, 2 * CAP if model_work else None)
            for n in range(groups)
        ]
        needs = SchedulerResourceRequest({"submission": 1} | dict.fromkeys(limits, 1))
        work = []
        for n in range(tasks):
            task = Task(f"c{n % groups}", 0, n, "cell")
            work.append(SchedulableTask(stable_task_id(task), task, specs[n % groups], needs))

        def acquire(selection: Any) -> Any:
            return admission.try_acquire(selection.item, selection.queue_view)

        return Parts(
            AdmissionParts(
                enqueue=queue.enqueue,
                select=lambda: (
                    queue.select_next(admission.is_eligible) if queue.has_queued_tasks else None
                ),
                acquire=acquire,
                commit=queue.commit,
                release=admission.release,
                is_lease=lambda decision: isinstance(decision, TaskAdmissionLease),
            ),
            work,
        )

    async def requests(self, earlier: int, measured: int) -> float:
        controller = AdaptiveRequestAdmissionController()
        controller.register(
            provider_name="alpha", model_id="m", alias="writer", max_parallel_requests=CAP
        )
        resource = RequestResourceKey("alpha", "m", RequestDomain.CHAT)
        item = RequestAdmissionItem(resource, RequestGroupSpec(resource))
        for _ in range(earlier):
            controller.release(await controller.acquire_async(item), RELEASED)
        return await cpu_seconds_of(
            controller.acquire_async, item, controller.release, RELEASED, measured
        )

    async def waiters(self, waiters: int, seconds: float) -> float:
        controller = AdaptiveRequestAdmissionController()
        controller.register(
            provider_name="alpha", model_id="m", alias="writer", max_parallel_requests=CAP
        )
        resource = RequestResourceKey("alpha", "m", RequestDomain.CHAT)
        item = RequestAdmissionItem(resource, RequestGroupSpec(resource))

        async def call() -> None:
            lease = await controller.acquire_async(item)
            await asyncio.sleep(seconds)
            controller.release(lease, RELEASED)

        return await elapsed(call, waiters)

    def run(
        self,
        records: int,
        recorded: bool,
        base_url: str | None,
        folder: Path,
        workflow: str = "review",
        judge_url: str | None = None,
    ) -> RunCost:
        """A real `create`; counted is its building of the dataset, not the profile after it."""
        endpoints = {"alpha": base_url or "http://127.0.0.1:1/v1"}
        if judge_url is not None:
            endpoints["beta"] = judge_url
        designer = DataDesigner(
            artifact_path=folder,
            model_providers=[
                ModelProvider(name=name, endpoint=url, provider_type="openai", api_key="none")
                for name, url in endpoints.items()
            ],
            auto_configure_logging=False,
        )
        designer.set_run_config(
            RunConfig(
                buffer_size=BUFFER_SIZE,
                max_concurrent_row_groups=ROW_GROUPS,
                max_in_flight_tasks=IN_FLIGHT,
                write_scheduler_events=recorded,
                otel_metrics_port=None,
            )
        )
        spent: list[tuple[float, float]] = []
        build = DatasetBuilder.build
        complete = OpenAICompatibleClient.acompletion

        def timed(self: Any, **options: Any) -> Any:
            before, began = time.process_time(), time.perf_counter()
            try:
                return build(self, **options)
            finally:
                spent.append((time.process_time() - before, time.perf_counter() - began))

        DatasetBuilder.build = timed
        if base_url is None:
            OpenAICompatibleClient.acompletion = _scripted()
        try:
            config = _config(workflow, judge_url is not None)
            result = designer.create(config, num_records=records, dataset_name="bench")
        finally:
            DatasetBuilder.build, OpenAICompatibleClient.acompletion = build, complete
        rows = len(result.load_dataset())
        files = list(folder.glob("**/scheduler_events.jsonl"))
        events = sum(file.read_bytes().count(b"\n") for file in files)
        (cpu, seconds), written = spent[0], sum(file.stat().st_size for file in files)
        return RunCost(cpu, seconds, rows, events, written)


def _scripted() -> Any:
    """Answers in place of the HTTP adapter what headgate's scripted provider would answer."""
    player = ScriptPlayer(
        ProviderScript(latency=Latency(distribution="constant", mean=LATENCY_SECONDS))
    )

    async def complete(
        self: OpenAICompatibleClient, request: ChatCompletionRequest
    ) -> ChatCompletionResponse:
        prompt = str(request.messages[-1]["content"])
        reply = player.arrive(time.monotonic(), request.model, prompt)
        try:
            await asyncio.sleep(reply.seconds)
        finally:
            player.leave(reply)
        tokens = (
            reply.prompt_tokens,
            reply.completion_tokens,
            reply.prompt_tokens + reply.completion_tokens,
        )
        return ChatCompletionResponse(AssistantMessage(reply.text), Usage(*tokens))

    return complete


def _config(workflow: str, judged: bool) -> Any:
    aliases = [("writer", "m", "alpha", CAP)]
    if judged:
        aliases.append(("judge", "j", "beta", JUDGE_CAP))
    builder = DataDesignerConfigBuilder(
        model_configs=[
            ModelConfig(
                alias=alias,
                model=model,
                provider=provider,
                inference_parameters=ChatCompletionInferenceParams(max_parallel_requests=cap),
            )
            for alias, model, provider, cap in aliases
        ]
    )
    for name in ("topic", "style"):
        builder.add_column(
            SamplerColumnConfig(
                name=name,
                sampler_type=SamplerType.CATEGORY,
                params=CategorySamplerParams(values=list(CATEGORIES)),
            )
        )
    for name, prompt in WORKFLOWS[workflow].items():
        alias = "judge" if judged and name == JUDGE_COLUMN else "writer"
        builder.add_column(LLMTextColumnConfig(name=name, model_alias=alias, prompt=prompt))
    builder.add_column(ExpressionColumnConfig(name="summary", expr=summary_of(workflow)))
    return builder
