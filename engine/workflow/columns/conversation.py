"""`ModelColumn`: what all columns share whose value a chat model gives; `Conversation` makes the
request for a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from engine.errors import PermanentTaskError
from engine.events.failures import AnswerAction, AnswerVerdict
from engine.models.client import ModelRequest, Turn
from engine.models.settings import SamplingParameters
from engine.strict_model import StrictModel
from engine.workflow.columns.base import BaseColumn, BuildContext, checked_templates
from engine.workflow.columns.endpoint import Endpoint
from engine.workflow.columns.generator import CellContext, ColumnGenerator
from engine.workflow.columns.images import ImageSource
from engine.workflow.columns.rendering import ColumnTemplate


class Example(StrictModel):
    """A prompt, and the answer that is wanted for it."""

    prompt: str
    """What the user would say; a template."""
    answer: str
    """What the model should answer; a template."""

    _check = field_validator("prompt", "answer")(checked_templates)


class Message(StrictModel):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    """Who says it."""
    text: str
    """What is said; a template."""
    images: list[str] = Field([])
    """As `images` of the column."""

    _check = field_validator("text")(checked_templates)

    @field_validator("images")
    @classmethod
    def _are_templates(cls, value: list[str]) -> list[str]:
        return [checked_templates(template) for template in value]


class ModelColumn(BaseColumn, SamplingParameters):
    """A column whose value a chat model gives. Parameters of the model may be set for it alone."""

    model: str
    """Alias of the model that is asked."""
    prompt: str
    """What the model is asked, as the last message of the user; a template."""
    system: str | None = None
    """System prompt; a template."""
    examples: list[Example] = Field([])
    """Few-shot examples, said before everything else."""
    messages: list[Message] = Field([])
    """A conversation before the prompt."""
    images: list[str] = Field([])
    """Images that go with the prompt: templates of an address (http, https, data), or of the path
    of a file in the workflow's folder. One that renders to nothing is left out."""
    on_refusal: AnswerAction | None = None
    """What becomes of a refusal: `accept`, `retry` or `drop`; None takes the engine's default.
    `retry` asks once more, then drops the row."""
    on_filtered: AnswerAction | None = None
    """The same for an answer that a content filter has cut."""
    on_truncated: AnswerAction | None = None
    """The same for an answer that is cut at the token limit."""
    on_empty: AnswerAction | None = None
    """The same for an answer without text."""
    on_reasoning_only: AnswerAction | None = None
    """The same for an answer of which the model used all tokens for reasoning."""
    on_thinking: AnswerAction | None = None
    """The same for an answer whose text holds the model's thinking."""

    _check = field_validator("prompt", "system")(checked_templates)

    @field_validator("images")
    @classmethod
    def _are_templates(cls, value: list[str]) -> list[str]:
        return [checked_templates(template) for template in value]

    def answer_actions(self) -> dict[AnswerVerdict, AnswerAction]:
        """What becomes of answers that are not as they should be, where the column says so."""
        actions: dict[AnswerVerdict, AnswerAction | None] = {
            "refusal": self.on_refusal,
            "filtered_answer": self.on_filtered,
            "truncated": self.on_truncated,
            "empty_answer": self.on_empty,
            "reasoning_only": self.on_reasoning_only,
            "thinking_in_text": self.on_thinking,
        }
        return {verdict: action for verdict, action in actions.items() if action is not None}

    def templates(self) -> dict[str, str]:
        named = {"prompt": self.prompt}
        if self.system is not None:
            named["system"] = self.system
        for number, example in enumerate(self.examples):
            named[f"examples, {number}, prompt"] = example.prompt
            named[f"examples, {number}, answer"] = example.answer
        for number, message in enumerate(self.messages):
            named[f"messages, {number}, text"] = message.text
            for position, image in enumerate(message.images):
                named[f"messages, {number}, images, {position}"] = image
        for position, image in enumerate(self.images):
            named[f"images, {position}"] = image
        return named

    def aliases(self) -> Sequence[str]:
        return [self.model]

    def must_not_be_empty(self) -> dict[str, str]:
        return {"prompt": self.prompt}

    def conversation(self, build: BuildContext) -> Conversation:
        return Conversation(self, build.chat[self.model], ImageSource(build.folder))


class Conversation:
    """Makes the requests of a column."""

    def __init__(self, column: ModelColumn, endpoint: Endpoint, images: ImageSource) -> None:
        self.column = column.name
        self.endpoint = endpoint.overridden(column)
        self._answer_actions = column.answer_actions()
        self._prompt = _Said(column.name, "user", column.prompt, column.images)
        self._system = None if column.system is None else ColumnTemplate(column.name, column.system)
        self._before = [
            message
            for example in column.examples
            for message in (
                _Said(column.name, "user", example.prompt),
                _Said(column.name, "assistant", example.answer),
            )
        ]
        self._before += [
            _Said(column.name, message.role, message.text, message.images)
            for message in column.messages
        ]
        self._images = images

    def request(self, context: CellContext, ending: str = "") -> ModelRequest:
        """The request for a row. Raises `PermanentTaskError` for a row that has none.

        Args:
            context: The cell.
            ending: What is added to the prompt.
        """
        request = self.rendered(context.values, ending)
        if context.rejection is not None:
            _, value, reason = context.rejection
            request = request.followed_by(
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
                f"That was not accepted: {reason}\nAnswer again, without this fault.{ending}",
            )
        return request

    def rendered(self, values: Mapping[str, Any], ending: str = "") -> ModelRequest:
        last = self._prompt.turn(values, self._images)
        if last.text.strip() in ("", "None"):
            shown = "is empty" if not last.text.strip() else 'is the word "None"'
            raise PermanentTaskError(
                "EmptyPrompt", f'the prompt of column "{self.column}" {shown} for this row'
            )
        return self.endpoint.request(
            last.text + ending,
            None if self._system is None else self._system.render(values),
            answer_actions=self._answer_actions,
            turns=tuple(message.turn(values, self._images) for message in self._before),
            images=last.images,
        )


class _Said:
    """The template of one message."""

    def __init__(
        self,
        column: str,
        role: Literal["system", "user", "assistant"],
        text: str,
        images: Sequence[str] = (),
    ) -> None:
        self._role = role
        self._column = column
        self._text = ColumnTemplate(column, text)
        self._images = [ColumnTemplate(column, image) for image in images]

    def turn(self, values: Mapping[str, Any], source: ImageSource) -> Turn:
        addresses = [image.render(values).strip() for image in self._images]
        return Turn(
            self._role,
            self._text.render(values),
            tuple(source.url(self._column, address) for address in addresses if address),
        )


class ModelGenerator(ColumnGenerator):
    """A generator whose calls all go to one endpoint."""

    def __init__(self, column: str, endpoint: Endpoint) -> None:
        super().__init__(column)
        self.endpoint = endpoint

    def endpoints(self) -> Sequence[Endpoint]:
        return (self.endpoint,)
