"""Aliases to endpoints: which aliases mean the same provider and model, and the cap they share."""

from __future__ import annotations

from collections.abc import Mapping

from engine.identity import (
    ModelAlias,
    ProviderModelKey,
    RequestResourceKey,
    StaticCap,
    merge_static_caps,
)
from engine.workflow.model import Model


def endpoint_of(model: Model) -> ProviderModelKey:
    return ProviderModelKey(model.provider, model.model)


def chat_resource(model: Model) -> RequestResourceKey:
    return RequestResourceKey(model.provider, model.model, "chat")


def static_caps(models: Mapping[str, Model]) -> dict[ProviderModelKey, StaticCap]:
    """The cap of each endpoint that a workflow names."""
    return merge_static_caps(
        ModelAlias(alias, endpoint_of(model), model.max_parallel_requests)
        for alias, model in models.items()
    )
