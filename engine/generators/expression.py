"""`ExpressionGenerator`: text rendered from other columns."""

from __future__ import annotations

from engine.generators.base import CellContext, ColumnGenerator
from engine.generators.rendering import render
from engine.workflow.schema import ExpressionColumn
from engine.workflow.templates import compile_template


class ExpressionGenerator(ColumnGenerator):
    def __init__(self, column: ExpressionColumn) -> None:
        super().__init__(column.name)
        self._template = compile_template(column.template)

    async def generate(self, context: CellContext) -> str:
        return render(self._template, self.column, context.values)
