"""`LlmTextColumn`: a model's answer to a prompt rendered from the row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.models.client import ModelRequest
from engine.workflow.columns.base import BuildContext
from engine.workflow.columns.conversation import Conversation, ModelColumn, ModelGenerator
from engine.workflow.columns.generator import CellContext, ColumnGenerator


class LlmTextColumn(ModelColumn):
    """A model's answer to a prompt rendered from other columns."""

    type: Literal["llm_text"] = "llm_text"
    """Text that a model writes."""

    example: ClassVar[str] = (
        "{ name: reply, type: llm_text, model: writer, prompt: 'Answer: {{ ticket }}' }"
    )

    def generator(self, build: BuildContext) -> ColumnGenerator:
        return LlmTextGenerator(self.conversation(build))


class LlmTextGenerator(ModelGenerator):
    """The answer's text as it came."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation.column, conversation.endpoint)
        self._conversation = conversation

    def rendered(self, values: Mapping[str, Any]) -> ModelRequest:
        return self._conversation.rendered(values)

    async def generate(self, context: CellContext) -> str:
        response = await context.models.call(self._conversation.request(context))
        return response.text
