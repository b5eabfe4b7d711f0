"""`EmbeddingColumn`: a text as a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from engine.errors import FailureDetails, PermanentTaskError, RetryableTaskError
from engine.events.failures import error_type_of
from engine.identity import RequestDomain
from engine.models.client import ModelRequest
from engine.models.settings import SamplingParameters
from engine.workflow.columns.base import BaseColumn, BuildContext, checked_templates
from engine.workflow.columns.conversation import ModelGenerator
from engine.workflow.columns.endpoint import Endpoint
from engine.workflow.columns.generator import CellContext, ColumnGenerator
from engine.workflow.columns.rendering import ColumnTemplate


class EmbeddingColumn(BaseColumn):
    """A text as a list of numbers, from the operation `embeddings` of an endpoint."""

    type: Literal["embedding"] = "embedding"
    """A vector that a model gives."""
    model: str
    """Alias of the model that is asked."""
    text: str
    """What is embedded; a template."""
    dimensions: int | None = Field(None, ge=1)
    """Numbers in a vector. A vector of another length is asked for again, like any call that
    failed; None takes the length of the first one."""
    request_dimensions: bool = False
    """Ask the endpoint for `dimensions` numbers, for models that have a choice."""
    extra_body: dict[str, Any] = Field({})
    """Further fields of the request's body, as they are."""
    timeout_seconds: float | None = Field(None, gt=0)
    """Most seconds for one answer; None takes the model's, or the provider's."""

    example: ClassVar[str] = (
        "{ name: vector, type: embedding, model: embedder, text: '{{ ticket }}', dimensions: 64 }"
    )

    _check = field_validator("text")(checked_templates)

    def templates(self) -> dict[str, str]:
        return {"text": self.text}

    def aliases(self) -> Sequence[str]:
        return [self.model]

    def domain(self) -> RequestDomain:
        return "embedding"

    def must_not_be_empty(self) -> dict[str, str]:
        return {"text": self.text}

    def generator(self, build: BuildContext) -> ColumnGenerator:
        return EmbeddingGenerator(self, build.embedding[self.model])


class EmbeddingGenerator(ModelGenerator):
    """Asks the endpoint for the vector of the rendered text, and checks how long it is."""

    def __init__(self, column: EmbeddingColumn, endpoint: Endpoint) -> None:
        options = dict(column.extra_body)
        if column.request_dimensions and column.dimensions is not None:
            options["dimensions"] = column.dimensions
        own = SamplingParameters(extra_body=options, timeout_seconds=column.timeout_seconds)
        super().__init__(column.name, endpoint.plain().overridden(own))
        self._text = ColumnTemplate(column.name, column.text)
        self._dimensions = column.dimensions

    def rendered(self, values: Mapping[str, Any]) -> ModelRequest:
        """The request for a row. Raises `PermanentTaskError` for one without text."""
        text = self._text.render(values)
        if text.strip() in ("", "None"):
            raise PermanentTaskError(
                "EmptyPrompt", f'the text of column "{self.column}" is empty for this row'
            )
        return self.endpoint.request(text)

    def placeholder(self) -> Any:
        return [0.0] * (self._dimensions or 1)

    async def generate(self, context: CellContext) -> list[float]:
        response = await context.models.call(self.rendered(context.values))
        length = len(response.vector)
        if self._dimensions is None:
            self._dimensions = length
        if length != self._dimensions:
            raise RetryableTaskError(
                error_type_of("wrong_dimension"),
                f'column "{self.column}" wants embeddings of {self._dimensions} numbers, and this '
                f"one has {length}",
                details=FailureDetails("wrong_dimension"),
            )
        return list(response.vector)
