"""`SamplerGenerator`: values drawn for a whole row group at once."""

from __future__ import annotations

import random
import uuid
from itertools import accumulate
from typing import Any, ClassVar

from engine.generators.base import BatchContext, ColumnGenerator, TaskType, cell_random
from engine.workflow.schema import SamplerColumn


class SamplerGenerator(ColumnGenerator):
    task_type: ClassVar[TaskType] = "batch"

    def __init__(self, column: SamplerColumn) -> None:
        super().__init__(column.name)
        self._integers = column.integers
        self._uuid = column.uuid
        if column.categories is not None:
            self._values: list[Any] = list(column.categories)
            weights = list(column.categories.values())
        else:
            self._values = column.values or []
            weights = column.weights or [1.0] * len(self._values)
        self._cumulative = list(accumulate(weights))

    async def generate_batch(self, context: BatchContext) -> list[Any]:
        return [self._draw(cell_random(context.seed, self.column, row)) for row in context.rows]

    def _draw(self, source: random.Random) -> Any:
        if self._uuid:
            return str(uuid.UUID(int=source.getrandbits(128), version=4))
        if self._integers is not None:
            return source.randint(self._integers.low, self._integers.high)
        return source.choices(self._values, cum_weights=self._cumulative)[0]
