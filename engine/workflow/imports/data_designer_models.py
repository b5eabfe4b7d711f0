"""The models of a configuration of Data Designer, and the providers that they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KNOWN_PROVIDERS = {
    "nvidia": ("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
}
"""Name to address and variable of the key."""
_PARAMETERS = ("temperature", "top_p", "max_tokens", "max_parallel_requests")


def providers_and_models(
    config: Mapping[str, Any], notes: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sections of the workflow; what has no equivalent is added to `notes`."""
    providers: dict[str, Any] = {}
    models: dict[str, Any] = {}
    for raw in config.get("model_configs") or ():
        alias, provider = str(raw.get("alias")), str(raw.get("provider") or "nvidia")
        parameters = raw.get("inference_parameters") or {}
        embeds = parameters.get("generation_type") == "embedding"
        model = {"provider": provider, "model": raw.get("model")}
        for name in _PARAMETERS:
            value = parameters.get(name)
            if isinstance(value, Mapping):
                notes.append(
                    f'model "{alias}": a distribution of {name} has no equivalent: set one value'
                )
            elif value is not None:
                model[name] = value
        if parameters.get("timeout") is not None:
            model["timeout_seconds"] = parameters["timeout"]
        if parameters.get("extra_body"):
            if embeds:
                notes.append(f'model "{alias}": put extra_body into the columns of type embedding')
            else:
                model["extra_body"] = parameters["extra_body"]
        models[alias] = model
        providers.setdefault(provider, _provider(provider, notes))
    return providers, models


def _provider(name: str, notes: list[str]) -> dict[str, Any]:
    if name in KNOWN_PROVIDERS:
        address, variable = KNOWN_PROVIDERS[name]
        return {"type": "openai", "base_url": address, "api_key_env": variable}
    notes.append(
        f'provider "{name}": a configuration does not hold its address: set base_url and '
        "api_key_env"
    )
    return {"type": "openai", "base_url": "http://localhost:8000/v1"}
