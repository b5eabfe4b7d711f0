"""`LlmTextGenerator`: a model's answer to a prompt rendered from the row."""

from __future__ import annotations

from engine.errors import PermanentTaskError
from engine.generators.base import CellContext, ColumnGenerator
from engine.generators.endpoint import Endpoint, shared_metadata
from engine.generators.rendering import ColumnTemplate
from engine.identity import RequestResourceKey
from engine.metadata import SchedulingMetadata
from engine.workflow.schema import LlmTextColumn


class LlmTextGenerator(ColumnGenerator):
    def __init__(self, column: LlmTextColumn, endpoint: Endpoint) -> None:
        super().__init__(column.name)
        self._endpoint = endpoint
        self._answer_actions = column.answer_actions()
        self._prompt = ColumnTemplate(column.name, column.prompt)
        self._system = None if column.system is None else ColumnTemplate(column.name, column.system)

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        return shared_metadata([self._endpoint]) or super().get_scheduling_metadata()

    def request_resource(self) -> RequestResourceKey | None:
        return self._endpoint.resource

    async def generate(self, context: CellContext) -> str:
        prompt = self._prompt.render(context.values)
        if prompt.strip() in ("", "None"):
            shown = "is empty" if not prompt.strip() else 'is the word "None"'
            raise PermanentTaskError(
                "EmptyPrompt", f'the prompt of column "{self.column}" {shown} for this row'
            )
        system = None if self._system is None else self._system.render(context.values)
        request = self._endpoint.request(prompt, system, answer_actions=self._answer_actions)
        response = await context.models.call(request)
        return response.text
