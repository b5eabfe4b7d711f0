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
    """One cell: its row (counted over the whole run), the values of the row so far, and its own
    random source."""

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
    """Seed of the run. Rows draw from `cell_random`, so that the size of row groups changes no
    value."""


class ColumnGenerator:
    """Makes the values of one column. `task_type` says which of the two methods is called."""

    task_type: ClassVar[TaskType] = "cell"

    def __init__(self, column: str) -> None:
        self.column = column

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        """The resource that this generator works on; local by default."""
        return DEFAULT_METADATA

    def request_resource(self) -> RequestResourceKey | None:
        """The request resource of its requests; None if it makes none, or uses several."""
        return None

    async def generate(self, context: CellContext) -> Any:
        """The value of one cell. Raises `PermanentTaskError` if no retry can succeed."""
        raise NotImplementedError(f"{type(self).__name__} makes no single cells")

    async def generate_batch(self, context: BatchContext) -> list[Any]:
        """The values of `context.rows`, in their order."""
        raise NotImplementedError(f"{type(self).__name__} makes no batches")


def cell_random(seed: int, column: str, row: int) -> random.Random:
    """The random source of one cell, which does not depend on the order in which cells are made."""
    digest = hashlib.blake2b(f"{seed}\x1f{column}\x1f{row}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))
