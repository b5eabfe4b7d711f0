"""Aliases to endpoints: which aliases mean the same provider and model, and the cap they share."""

from __future__ import annotations

from collections.abc import Mapping

from engine.identity import ModelAlias, ProviderModelKey, RequestResourceResolver
from engine.workflow.schema import Model


def resource_resolver(models: Mapping[str, Model]) -> RequestResourceResolver:
    """Over every alias that a workflow names."""
    return RequestResourceResolver(
        ModelAlias(
            alias, ProviderModelKey(model.provider, model.model), model.max_parallel_requests
        )
        for alias, model in models.items()
    )
