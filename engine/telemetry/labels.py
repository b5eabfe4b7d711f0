"""Values of metric labels: few, short, and no ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.events import EVENT_KINDS, RequestResource, RunInfo
from engine.telemetry import conventions as names

OTHER = "other"
MOST_VALUES = 32
"""Different values of one label; those that come later are counted together."""
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KINDS = frozenset(kind.name for kind in EVENT_KINDS)


class BoundedValues:
    """Hands out at most `MOST_VALUES` different values, and `OTHER` for what exceeds that or is no
    word of letters, digits, `_`, `.` and `-`."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def value(self, text: str) -> str:
        """The text, or `other` once there are `MOST_VALUES` different ones."""
        if text in self._known:
            return text
        if len(self._known) >= MOST_VALUES or not _WORD.fullmatch(text):
            return OTHER
        self._known.add(text)
        return text


class RequestLabels(NamedTuple):
    """The labels of one request resource."""

    request: dict[str, str]
    """Provider, model and domain."""
    operation: dict[str, str]
    """As the GenAI conventions name them."""


class Labels:
    """Labels of the resources of one run.

    A model is called by its alias in the workflow; of several aliases that mean one endpoint, by
    the first in alphabetical order. A model whose alias a producer does not tell is `model-1`,
    `model-2` and so on, in the order of their appearance.
    """

    def __init__(self, run: RunInfo) -> None:
        self._aliases = _aliases(run)
        self._providers = BoundedValues()
        self._models = BoundedValues()
        self._domains = BoundedValues()
        self._resource_kinds = BoundedValues()
        self._requests: dict[str, RequestLabels] = {}
        self._kinds: dict[str, dict[str, str]] = {}
        self._unnamed: dict[str, str] = {}

    def learn_aliases(self, resource: RequestResource, aliases: list[str]) -> None:
        """The aliases of a resource, where the description of the run does not have them."""
        if aliases:
            self._aliases.setdefault(f"{resource.provider_name}/{resource.model_id}", min(aliases))

    def of_request(self, resource: RequestResource) -> RequestLabels:
        return self.of_label(resource.label)

    def of_label(self, label: str) -> RequestLabels:
        """`label`: `provider/model/domain`; the id of a model may have slashes of its own."""
        known = self._requests.get(label)
        if known is None:
            endpoint, _, domain = label.rpartition("/")
            provider = self._providers.value(endpoint.partition("/")[0])
            model = self._models.value(self._model(endpoint))
            known = self._requests[label] = RequestLabels(
                {
                    names.PROVIDER: provider,
                    names.MODEL: model,
                    names.DOMAIN: self._domains.value(domain),
                },
                {
                    names.PROVIDER: provider,
                    names.MODEL: model,
                    names.OPERATION: self._domains.value(names.operation_of(domain)),
                },
            )
        return known

    def resource_kind(self, resource: str) -> str:
        """Kind of a scheduler resource, such as `model_stage` of `model_stage:alpha/llama`."""
        return self._resource_kinds.value(resource.partition(":")[0])

    def of_task(self, resources: Mapping[str, Any]) -> dict[str, str]:
        """The kind of the most particular resource that a task needs."""
        particular = [name for name in resources if name != "submission"]
        name = particular[0] if particular else "submission"
        known = self._kinds.get(name)
        if known is None:
            kind = {names.RESOURCE_KIND: self.resource_kind(name)}
            if len(self._kinds) >= MOST_VALUES * MOST_VALUES:
                return kind
            known = self._kinds[name] = kind
        return known

    def _model(self, endpoint: str) -> str:
        alias = self._aliases.get(endpoint)
        if alias is not None:
            return alias
        return self._unnamed.setdefault(endpoint, f"model-{len(self._unnamed) + 1}")


def kind_label(kind: str) -> str:
    """Kinds of later versions and of other producers count as one."""
    return kind if kind in _KINDS else OTHER


def _aliases(run: RunInfo) -> dict[str, str]:
    """Endpoint -> its first alias, as the configuration of the run tells."""
    models = run.configuration.get("models")
    aliases: dict[str, str] = {}
    if isinstance(models, Mapping):
        for alias in sorted(map(str, models)):
            model = models[alias]
            if isinstance(model, Mapping):
                aliases.setdefault(f"{model.get('provider')}/{model.get('model')}", alias)
    return aliases
