"""`dry_run`: what a run would do, without a call: the plan that `headgate plan` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from engine.errors import TaskError
from engine.events.failures import FAILURE_KINDS, FailureScope
from engine.models.client import ModelRequest, ModelResponse
from engine.models.executor import estimated_tokens
from engine.models.settings import TokenPrice
from engine.models.usage import Price, Usage
from engine.run.lint import lint
from engine.run.plan import RunPlan
from engine.workflow.columns.base import BaseColumn
from engine.workflow.columns.findings import Finding
from engine.workflow.columns.generator import BatchContext, CellContext


class PlannedMessage(msgspec.Struct, frozen=True):
    """A message of a request that a dry run shows."""

    role: str
    text: str
    images: int = 0


class PlannedColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the plan."""

    name: str
    type: str
    depends_on: tuple[str, ...]
    """Columns that it waits for."""
    written: bool
    """Whether it is in the output."""
    task_type: str
    """`cell`: a task for each row; `batch`: one for each row group."""
    tasks: int
    group: str
    resources: tuple[str, ...]
    """What a task of it takes."""
    models: tuple[str, ...]
    """Aliases that it may call."""
    fewest_calls: int
    most_calls: int | None
    """Where all calls succeed; None where a function decides."""
    prompt_tokens: int | None
    """About as many as the prompts of `fewest_calls` have; None where no prompt is known."""
    most_completion_tokens: int | None
    """Of `fewest_calls`; None without a limit of tokens."""
    first_prompt: tuple[PlannedMessage, ...] = ()
    """The first request of the first row; values that only a call would give are placeholders."""
    first_value: Any = None
    """The value of the first row, or its placeholder."""
    first_problem: str | None = None
    """Why the first row would fail."""


class PlannedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One alias."""

    alias: str
    endpoint: str
    cap: int
    fewest_calls: int
    prompt_tokens: int
    most_completion_tokens: int | None
    prompt_cost: float | None
    """Of those prompts in US dollars; None without a price."""
    most_cost: float | None
    """With all completion tokens; None without a price or a limit of tokens."""


class PlannedFailure(msgspec.Struct, frozen=True):
    """What the run does about a class of failures."""

    name: str
    scope: str
    meaning: str
    follows: str


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would do."""

    name: str
    records: int
    row_groups: int
    seed: int
    columns: tuple[PlannedColumn, ...]
    """In the order in which they can be made."""
    models: tuple[PlannedModel, ...]
    resource_limits: dict[str, int]
    capacity: dict[str, Any]
    """Configured capacity values, each with its source."""
    failures: tuple[PlannedFailure, ...]
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...]


async def dry_run(plan: RunPlan) -> DryRun:
    """Decides all that can be decided without a call. Functions of the user are not called."""
    columns = await _planned_columns(plan)
    workflow = plan.workflow
    return DryRun(
        name=workflow.name,
        records=workflow.records,
        row_groups=len(plan.row_groups),
        seed=workflow.seed,
        columns=tuple(columns),
        models=tuple(_planned_models(plan, columns)),
        resource_limits={key.label: limit for key, limit in plan.limits.items()},
        capacity=plan.capacity.as_dict()["configured"],
        failures=tuple(_failures(workflow.run.max_attempts)),
        warnings=tuple(sentence for _, sentence in plan.warnings),
        findings=tuple(lint(workflow, plan.generators)),
    )


async def _planned_columns(plan: RunPlan) -> list[PlannedColumn]:
    workflow = plan.workflow
    values: dict[str, Any] = {}
    made: set[str] = set()
    """Columns whose value is no placeholder, nor made from one."""
    planned = []
    for column_plan in plan.columns:
        name = column_plan.name
        column = workflow.column(name)
        generator = plan.generators[name]
        request, problem = None, None
        known = made.issuperset(column_plan.depends_on)
        try:
            request = generator.rendered(values)
            if _is_made_without_calls(column):
                values[name] = await _first_value(plan, name, values)
                made |= {name} if known else set()
            else:
                values[name] = generator.placeholder()
        except TaskError as error:
            # What comes of a placeholder says nothing of the row.
            problem = error.message if known else None
            values[name] = generator.placeholder()
        fewest, most = column.calls_per_row()
        by_function = column.type == "custom" and fewest > 0
        tokens = None if request is None else estimated_tokens(request) * workflow.records
        planned.append(
            PlannedColumn(
                name=name,
                type=column.type,
                depends_on=column_plan.depends_on,
                written=not column.drop,
                task_type=column_plan.task_type,
                tasks=(
                    workflow.records if column_plan.task_type == "cell" else len(plan.row_groups)
                ),
                group=column_plan.scheduling.group.key.label,
                resources=tuple(column_plan.scheduling.resource_request.labels),
                models=tuple(column.aliases()),
                fewest_calls=fewest * workflow.records,
                most_calls=None if by_function else most * workflow.records,
                prompt_tokens=tokens,
                most_completion_tokens=_most_completion_tokens(request, workflow.records),
                first_prompt=() if request is None else tuple(_messages(request)),
                first_value=str(values[name]) if isinstance(values[name], str) else values[name],
                first_problem=problem,
            )
        )
    return planned


def _is_made_without_calls(column: BaseColumn) -> bool:
    return not (column.aliases() or column.reference() is not None or column.renewed())


async def _first_value(plan: RunPlan, name: str, values: Mapping[str, Any]) -> Any:
    """What a column without calls gives for the first row."""
    generator, seed = plan.generators[name], plan.workflow.seed
    if generator.task_type == "batch":
        return (await generator.batch(BatchContext(0, [0], seed, [values], _NoCalls())))[0]
    return await generator.cell(CellContext(0, values, _NoCalls(), seed))


class _NoCalls:
    """A dry run makes no call."""

    async def call(self, request: ModelRequest) -> ModelResponse:
        raise AssertionError("a dry run makes no call")


def _messages(request: ModelRequest) -> list[PlannedMessage]:
    messages = [] if request.system is None else [PlannedMessage("system", request.system)]
    messages += [PlannedMessage(turn.role, turn.text, len(turn.images)) for turn in request.turns]
    role = "input" if request.operation == "embedding" else "user"
    return [*messages, PlannedMessage(role, request.prompt, len(request.images))]


def _most_completion_tokens(request: ModelRequest | None, rows: int) -> int | None:
    if request is None:
        return None
    if request.operation == "embedding":
        return 0
    limit = request.max_tokens or request.options.get("max_completion_tokens")
    return limit * rows if isinstance(limit, int) else None


def _planned_models(plan: RunPlan, columns: list[PlannedColumn]) -> list[PlannedModel]:
    planned = []
    for alias, model in plan.workflow.models.items():
        users = [column for column in columns if alias in column.models]
        limits = [column.most_completion_tokens for column in users]
        known = [limit for limit in limits if limit is not None]
        prompt_tokens = sum(column.prompt_tokens or 0 for column in users)
        completion = sum(known) if len(known) == len(limits) else None
        planned.append(
            PlannedModel(
                alias=alias,
                endpoint=f"{model.provider}/{model.model}",
                cap=plan.resources.cap(alias),
                fewest_calls=sum(
                    column.fewest_calls // max(1, len(column.models)) for column in users
                ),
                prompt_tokens=prompt_tokens,
                most_completion_tokens=completion,
                prompt_cost=_cost(model.price, prompt_tokens, 0),
                most_cost=_cost(model.price, prompt_tokens, completion),
            )
        )
    return planned


def _cost(price: TokenPrice | None, prompt: int, completion: int | None) -> float | None:
    if price is None:
        return None
    return Usage(prompt, completion).cost_at(Price(price.input, price.output))


def _failures(max_attempts: int) -> Iterator[PlannedFailure]:
    follows: dict[FailureScope, str] = {
        "resource": f"the call is repeated; {max_attempts} failures of the task itself drop the "
        "row",
        "person": "the run stops once nothing else has work, and can go on later",
        "request": "the row is dropped",
        "answer": "the answer is taken, asked for again or the row dropped, as the column says",
    }
    for kind in FAILURE_KINDS:
        yield PlannedFailure(kind.name, kind.scope, kind.meaning, follows[kind.scope])
