"""`ExpressionGenerator`: text rendered from other columns."""

from __future__ import annotations

from engine.generators.base import CellContext, ColumnGenerator
from engine.generators.rendering import ColumnTemplate
from engine.workflow.schema import ExpressionColumn


class ExpressionGenerator(ColumnGenerator):
    def __init__(self, column: ExpressionColumn) -> None:
        super().__init__(column.name)
        self._template = ColumnTemplate(column.name, column.template)

    async def generate(self, context: CellContext) -> str:
        return self._template.render(context.values)
