"""`ColumnGenerator`: how one cell, or one batch of cells, is made."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from engine.identity import RequestResourceKey
from engine.metadata import DEFAULT_METADATA, SchedulingMetadata
from engine.models.client import ModelRequest, ModelResponse

TaskType = Literal["cell", "batch"]


class ModelCalls(Protocol):
    """Sends requests on behalf of the current task."""

    async def call(self, request: ModelRequest) -> ModelResponse: ...


@dataclass(frozen=True, slots=True)
class CellContext:
    """One cell: its row (counted over the whole run), the row's values so far, its own luck."""

    row: int
    values: Mapping[str, Any]
    random: random.Random
    models: ModelCalls


@dataclass(frozen=True, slots=True)
class BatchContext:
    """One column of one row group; `rows` are counted over the whole run."""

    row_group: int
    rows: Sequence[int]
    seed: int
    """Seed of the run: rows draw from `cell_random`, so that the cut into groups changes none."""


class ColumnGenerator:
    """Makes the values of one column. `task_type` says which of the two methods is called."""

    task_type: ClassVar[TaskType] = "cell"

    def __init__(self, column: str) -> None:
        self.column = column

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        """The resource shape this generator expects; local unless it says otherwise."""
        return DEFAULT_METADATA

    def request_resource(self) -> RequestResourceKey | None:
        """Where its requests go, if it makes any and they all go to one place."""
        return None

    async def generate(self, context: CellContext) -> Any:
        """The value of one cell. Raises `PermanentTaskError` where no retry can help."""
        raise NotImplementedError(f"{type(self).__name__} makes no single cells")

    async def generate_batch(self, context: BatchContext) -> list[Any]:
        """One value for each of `context.rows`, in their order."""
        raise NotImplementedError(f"{type(self).__name__} makes no batches")


def cell_random(seed: int, column: str, row: int) -> random.Random:
    """The random source of one cell: the same in whatever order cells are made."""
    digest = hashlib.blake2b(f"{seed}\x1f{column}\x1f{row}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))
