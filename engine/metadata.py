"""`SchedulingMetadata`: which resource does a generator work on?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from engine.errors import UserError

MetadataKind = Literal["local", "model", "custom_model"]

_IDENTITY_PARTS: dict[str, tuple[str, ...]] = {
    "local": ("resource_name",),
    "model": ("provider_name", "canonical_model_id", "generation_kind"),
    "custom_model": ("namespace", "resource_name", "version"),
}
_MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")


FATAL_CODES = frozenset(
    {
        "invalid_kind",
        "invalid_identity",
        "invalid_metadata",
        "metadata_failed",
        "non_deterministic_identity",
        "non_positive_weight",
    }
)
"""Codes for which a fallback is not accepted."""


class SchedulingMetadataError(UserError):
    """The metadata can't be scheduled; the run does not start.

    A generator that can do with less raises it with a `fallback` that preserves its behaviour and a
    `message` that explains it; the run then uses the fallback, unless the code is one of
    `FATAL_CODES`.
    """

    def __init__(
        self,
        code: str,
        message: str,
        fallback: SchedulingMetadata | None = None,
        diagnostics: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fallback = fallback
        self.diagnostics = diagnostics or {}


@dataclass(frozen=True)
class SchedulingMetadata:
    """The resource that a generator expects: an identity from broad to specific, and a weight.

    `("local", name)`, `("model", provider, model id, generation kind)` or
    `("custom_model", namespace, name, version)`. Says nothing about how many requests follow.
    """

    kind: MetadataKind
    identity: tuple[str, ...]
    weight: int = 1

    def __post_init__(self) -> None:
        parts = _IDENTITY_PARTS.get(self.kind)
        if parts is None:
            raise SchedulingMetadataError(
                "invalid_kind",
                f"Scheduling kind {self.kind!r} is none of {', '.join(_IDENTITY_PARTS)}.",
                diagnostics={"kind": str(self.kind)},
            )
        self._check_identity(parts)
        if isinstance(self.weight, bool) or not isinstance(self.weight, int) or self.weight < 1:
            raise SchedulingMetadataError(
                "non_positive_weight",
                f"Scheduling weight must be a whole number of at least 1, not {self.weight!r}.",
                diagnostics={"weight": str(self.weight)},
            )

    def _check_identity(self, parts: tuple[str, ...]) -> None:
        identity = self.identity
        if (
            not isinstance(identity, tuple)
            or len(identity) != len(parts) + 1
            or any(not isinstance(part, str) or not part for part in identity)
            or identity[0] != self.kind
        ):
            shape = ", ".join((f'"{self.kind}"', *parts))
            raise SchedulingMetadataError(
                "invalid_identity",
                f"A {self.kind} identity must be the non-empty strings ({shape}).",
                diagnostics={"expected": list(parts)},
            )
        if any(_MEMORY_ADDRESS.search(part) for part in identity):
            raise SchedulingMetadataError(
                "non_deterministic_identity",
                "A scheduling identity must be the same in every run, but a part of this one "
                "is a memory address.",
            )


class SchedulingMetadataSource(Protocol):
    """A source of scheduling metadata: a generator, or a user's function object."""

    def get_scheduling_metadata(self) -> SchedulingMetadata: ...


DEFAULT_METADATA = SchedulingMetadata("local", ("local", "default"))
