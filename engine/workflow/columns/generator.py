"""`ColumnGenerator`: how one cell, or one batch of cells, is made."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

from engine.identity import RequestResourceKey
from engine.metadata import DEFAULT_METADATA, SchedulingMetadata
from engine.models.client import ModelRequest, ModelResponse
from engine.workflow.columns.endpoint import Endpoint, shared_metadata
from engine.workflow.columns.findings import Finding, LintView
from engine.workflow.columns.rendering import ColumnCondition

TaskType = Literal["cell", "batch"]


class ModelCalls(Protocol):
    """Sends requests on behalf of the current task."""

    async def call(self, request: ModelRequest) -> ModelResponse: ...


class Rejection(NamedTuple):
    """Why the value that a cell had must be made again."""

    number: int
    """1 for the first rejection of a row."""
    value: Any
    reason: str


def _no_update(column: str, value: Any) -> None:
    raise NotImplementedError("this cell changes no other column")


@dataclass(frozen=True, slots=True)
class CellContext:
    """One cell: its row (counted over the whole run) and the values of the row so far."""

    row: int
    values: Mapping[str, Any]
    models: ModelCalls
    seed: int = 0
    """Seed of the run."""
    rejection: Rejection | None = None
    """Set where the cell is made again."""
    update: Callable[[str, Any], None] = _no_update
    """Puts another value into a column of the same row."""


@dataclass(frozen=True, slots=True)
class BatchContext:
    """One column of one row group; `rows` are counted over the whole run."""

    row_group: int
    rows: Sequence[int]
    seed: int
    """Seed of the run. Rows draw from `cell_random`, so that the size of row groups changes no
    value."""
    values: Sequence[Mapping[str, Any]] = field(default=())
    """Of `rows`, in their order, so far."""
    models: ModelCalls | None = None


class Placeholder(str):
    """A text of which templates may take any field: `<column.field>`."""

    def __getattr__(self, name: str) -> Placeholder:
        if name.startswith("_"):
            raise AttributeError(name)
        return Placeholder(f"{self[:-1]}.{name}>")


class ColumnGenerator:
    """Makes the values of one column. `task_type` says which of the two methods is called."""

    task_type: TaskType = "cell"
    skip: ColumnCondition | None = None
    """Rows for which it holds get `skip_value`, and nothing is made."""
    skip_value: Any = None

    def __init__(self, column: str) -> None:
        self.column = column

    def endpoints(self) -> Sequence[Endpoint]:
        """Where its requests go."""
        return ()

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        """The resource that this generator works on: its endpoints, or local."""
        return shared_metadata(self.endpoints()) or DEFAULT_METADATA

    def request_resource(self) -> RequestResourceKey | None:
        """The request resource of its requests; None if it makes none, or uses several."""
        resources = {endpoint.resource for endpoint in self.endpoints()}
        return resources.pop() if len(resources) == 1 else None

    def rendered(self, values: Mapping[str, Any]) -> ModelRequest | None:
        """Its first request for a row with these values; None if it makes none, or they are not
        known before."""
        return None

    def placeholder(self) -> Any:
        """What stands for a value where none is made."""
        return Placeholder(f"<{self.column}>")

    def findings(self, view: LintView) -> Iterator[Finding]:
        """What is probably not meant, and shows only in what the column uses."""
        yield from ()

    async def cell(self, context: CellContext) -> Any:
        """The value of one cell, which may be skipped."""
        if self.skip is not None and self.skip.holds(context.values):
            return self.skip_value
        return await self.generate(context)

    async def batch(self, context: BatchContext) -> list[Any]:
        """The values of `context.rows`, of which some may be skipped."""
        if self.skip is None:
            return await self.generate_batch(context)
        wanted = [n for n, row in enumerate(context.values) if not self.skip.holds(row)]
        values = [self.skip_value] * len(context.rows)
        part = replace(
            context,
            rows=[context.rows[n] for n in wanted],
            values=[context.values[n] for n in wanted],
        )
        for n, value in zip(wanted, await self.generate_batch(part), strict=True):
            values[n] = value
        return values

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
