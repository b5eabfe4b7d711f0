"""`Endpoint`: a model alias, resolved for a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from engine.events.failures import AnswerAction, AnswerVerdict
from engine.identity import RequestDomain, RequestResourceKey
from engine.metadata import SchedulingMetadata
from engine.models.client import ModelRequest, Turn
from engine.models.settings import Model, Provider, SamplingParameters
from engine.workflow.endpoints import resource_resolver

_DEFAULT_ACTIONS: Mapping[AnswerVerdict, AnswerAction] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The model that a column asks, with the settings that hold for its requests."""

    alias: str
    resource: RequestResourceKey
    cap: int
    """Static cap of provider and model, over all aliases that share them."""
    temperature: float | None
    max_tokens: int | None
    timeout_seconds: float
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False

    def plain(self) -> Endpoint:
        """The same without the model's parameters, all of which are for chat."""
        return replace(self, options={}, temperature=None, max_tokens=None, stream=False)

    def overridden(self, own: SamplingParameters) -> Endpoint:
        """The same with what a column says for itself."""
        options = dict(self.options)
        max_tokens = self.max_tokens
        if own.max_tokens is not None or own.max_completion_tokens is not None:
            options.pop("max_completion_tokens", None)
            max_tokens = own.max_tokens
        return replace(
            self,
            temperature=self.temperature if own.temperature is None else own.temperature,
            max_tokens=max_tokens,
            timeout_seconds=own.timeout_seconds or self.timeout_seconds,
            options=options | own.request_options(),
        )

    def request(
        self,
        prompt: str,
        system: str | None = None,
        within_seconds: float | None = None,
        answer_actions: Mapping[AnswerVerdict, AnswerAction] = _DEFAULT_ACTIONS,
        turns: tuple[Turn, ...] = (),
        images: tuple[str, ...] = (),
    ) -> ModelRequest:
        return ModelRequest(
            self.resource,
            self.alias,
            prompt,
            system,
            self.temperature,
            self.max_tokens,
            self.timeout_seconds,
            within_seconds,
            self.options,
            self.stream,
            answer_actions,
            "embedding" if self.resource.domain == "embedding" else "chat",
            turns,
            images,
        )


def endpoints_of(
    models: Mapping[str, Model], providers: Mapping[str, Provider], domain: RequestDomain = "chat"
) -> dict[str, Endpoint]:
    """Every alias of a workflow."""
    resources = resource_resolver(models)
    return {
        alias: Endpoint(
            alias,
            resources.resolve(alias, domain),
            resources.cap(alias),
            model.temperature,
            model.max_tokens,
            model.timeout_seconds or providers[model.provider].timeout_seconds,
            model.request_options(),
            model.stream,
        )
        for alias, model in models.items()
    }


def shared_metadata(endpoints: Sequence[Endpoint]) -> SchedulingMetadata | None:
    """Scheduling metadata of a generator that uses these endpoints.

    One endpoint gives `model`; several give a `custom_model` that is named after all of them and
    has the weight of the smallest cap. None for no endpoint.
    """
    if not endpoints:
        return None
    weight = min(endpoint.cap for endpoint in endpoints)
    labels = sorted({endpoint.resource.provider_model.label for endpoint in endpoints})
    if len(labels) == 1:
        resource = endpoints[0].resource
        identity: tuple[str, ...] = (
            "model",
            resource.provider_name,
            resource.model_id,
            resource.domain,
        )
        return SchedulingMetadata(kind="model", identity=identity, weight=weight)
    identity = ("custom_model", "endpoints", "+".join(labels), "1")
    return SchedulingMetadata(kind="custom_model", identity=identity, weight=weight)
