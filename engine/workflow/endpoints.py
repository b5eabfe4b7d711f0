"""Resolves the aliases of a workflow to endpoints, and to the caps that they share."""

from __future__ import annotations

from collections.abc import Mapping

from engine.identity import ModelAlias, ProviderModelKey, RequestResourceResolver
from engine.models.settings import Model


def resource_resolver(models: Mapping[str, Model]) -> RequestResourceResolver:
    """A resolver for all aliases of a workflow."""
    return RequestResourceResolver(
        ModelAlias(
            alias, ProviderModelKey(model.provider, model.model), model.max_parallel_requests
        )
        for alias, model in models.items()
    )
