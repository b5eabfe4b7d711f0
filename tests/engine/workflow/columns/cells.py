"""Generators of single columns, and the cells that they make."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.models.client import ModelRequest, ModelResponse
from engine.workflow.columns.generator import (
    BatchContext,
    CellContext,
    ColumnGenerator,
)
from engine.workflow.generators import build_generators
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow

MODELS: dict[str, dict[str, Any]] = {
    "writer": {
        "provider": "p",
        "model": "m",
        "max_parallel_requests": 9,
        "max_tokens": 50,
        "temperature": 0.5,
    },
    "judge": {"provider": "q", "model": "j", "max_parallel_requests": 2, "timeout_seconds": 3},
}


class Answers:
    """Gives these answers in turn, the last one for ever; an exception is raised."""

    def __init__(self, *answers: str | Exception | Sequence[float]) -> None:
        self.requests: list[ModelRequest] = []
        self._answers = list(answers)

    async def call(self, request: ModelRequest) -> ModelResponse:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return ModelResponse(answer)
        return ModelResponse("", vector=tuple(answer))


def workflow(*columns: dict[str, Any], **parts: Any) -> Workflow:
    made: dict[str, Any] = {
        "name": "w",
        "records": 1,
        "providers": {"p": {"type": "scripted"}, "q": {"type": "scripted"}},
        "models": MODELS,
        "columns": list(columns),
    }
    return Workflow.model_validate(made | parts)


def generators(
    *columns: dict[str, Any],
    folder: Path = Path(),
    functions: Mapping[str, Callable[..., Any]] | None = None,
    inline: bool = True,
) -> dict[str, ColumnGenerator]:
    loaded = LoadedWorkflow(workflow(*columns), folder / "w.yaml", dict(functions or {}))
    return build_generators(loaded, inline_functions=inline)


def generator(column: dict[str, Any], *others: str, **how: Any) -> ColumnGenerator:
    """Of one column, beside samplers of these names."""
    before = [{"name": name, "type": "sampler", "values": ["tides"]} for name in others]
    return generators(*before, {"name": "x", **column}, **how)["x"]


def make(made_by: ColumnGenerator, values: dict[str, Any], models: Any = None, row: int = 0) -> Any:
    """The value of a cell; other columns that it changes are put into `values`."""
    context = CellContext(
        row,
        values,
        models or Answers("an answer"),
        seed=1,
        update=values.__setitem__,
    )
    return asyncio.run(made_by.cell(context))


def batch(
    made_by: ColumnGenerator,
    rows: Sequence[int],
    values: Sequence[Mapping[str, Any]] = (),
    seed: int = 1,
) -> list[Any]:
    given = values or [{}] * len(rows)
    return asyncio.run(made_by.batch(BatchContext(0, rows, seed, given, Answers("an answer"))))
