"""Aliases to endpoints: which aliases mean the same provider and model, and the cap they share."""

from __future__ import annotations

from collections.abc import Mapping

from engine.capacity import StaticCap
from engine.identity import ProviderModelKey, RequestResourceKey
from engine.workflow.model import Model


def endpoint_of(model: Model) -> ProviderModelKey:
    return ProviderModelKey(model.provider, model.model)


def chat_resource(model: Model) -> RequestResourceKey:
    return RequestResourceKey(model.provider, model.model, "chat")


def static_caps(models: Mapping[str, Model]) -> dict[ProviderModelKey, StaticCap]:
    """The cap of each endpoint: the smallest of its aliases, whatever their order."""
    aliases: dict[ProviderModelKey, list[str]] = {}
    for alias in sorted(models):
        aliases.setdefault(endpoint_of(models[alias]), []).append(alias)
    return {
        endpoint: StaticCap(
            cap=min(models[alias].max_parallel_requests for alias in names),
            aliases=tuple(names),
            raw_caps={alias: models[alias].max_parallel_requests for alias in names},
        )
        for endpoint, names in sorted(aliases.items())
    }
