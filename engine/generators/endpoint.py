"""`Endpoint`: a model alias, resolved for a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.events.failures import AnswerAction, AnswerVerdict
from engine.identity import RequestResourceKey
from engine.metadata import SchedulingMetadata
from engine.models.client import ModelRequest
from engine.workflow.endpoints import resource_resolver
from engine.workflow.schema import Workflow

_DEFAULT_ACTIONS: Mapping[AnswerVerdict, AnswerAction] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Endpoint:
    alias: str
    resource: RequestResourceKey
    cap: int
    """Static cap of provider and model, over all aliases that share them."""
    temperature: float | None
    max_tokens: int | None
    timeout_seconds: float
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False

    def request(
        self,
        prompt: str,
        system: str | None = None,
        within_seconds: float | None = None,
        answer_actions: Mapping[AnswerVerdict, AnswerAction] = _DEFAULT_ACTIONS,
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
        )


def endpoints_of(workflow: Workflow) -> dict[str, Endpoint]:
    """Every alias of the workflow."""
    resources = resource_resolver(workflow.models)
    return {
        alias: Endpoint(
            alias,
            resources.resolve(alias, "chat"),
            resources.cap(alias),
            model.temperature,
            model.max_tokens,
            workflow.request_timeout(alias),
            model.request_options(),
            model.stream,
        )
        for alias, model in workflow.models.items()
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
