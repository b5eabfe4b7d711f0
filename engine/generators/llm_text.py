"""`LlmTextGenerator`: a model's answer to a prompt rendered from the row."""

from __future__ import annotations

from engine.errors import PermanentTaskError
from engine.generators.base import CellContext, ColumnGenerator
from engine.generators.endpoint import Endpoint, shared_metadata
from engine.generators.rendering import render
from engine.identity import RequestResourceKey
from engine.metadata import SchedulingMetadata
from engine.workflow.schema import LlmTextColumn
from engine.workflow.templates import compile_template


class LlmTextGenerator(ColumnGenerator):
    def __init__(self, column: LlmTextColumn, endpoint: Endpoint) -> None:
        super().__init__(column.name)
        self._endpoint = endpoint
        self._answer_actions = column.answer_actions()
        self._prompt = compile_template(column.prompt)
        self._system = compile_template(column.system) if column.system is not None else None

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        return shared_metadata([self._endpoint]) or super().get_scheduling_metadata()

    def request_resource(self) -> RequestResourceKey | None:
        return self._endpoint.resource

    async def generate(self, context: CellContext) -> str:
        prompt = render(self._prompt, self.column, context.values)
        if prompt.strip() in ("", "None"):
            shown = "is empty" if not prompt.strip() else 'is the word "None"'
            raise PermanentTaskError(
                "EmptyPrompt", f'the prompt of column "{self.column}" {shown} for this row'
            )
        system = (
            render(self._system, self.column, context.values) if self._system is not None else None
        )
        request = self._endpoint.request(prompt, system, answer_actions=self._answer_actions)
        response = await context.models.call(request)
        return response.text
