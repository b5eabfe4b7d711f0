"""What any provider client looks like, and the errors it may raise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from engine.errors import RetryableTaskError, TaskError
from engine.identity import RequestResourceKey

ProviderErrorKind = Literal["rate_limited", "provider_failure", "provider_timeout"]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One logical request; an attempt sends it once."""

    resource: RequestResourceKey
    alias: str
    """The workflow's own name for the model."""
    prompt: str
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    timeout_seconds: float | None = 120.0
    """How long the provider may take for an attempt."""
    within_seconds: float | None = None
    """How long the caller gives it in all, waits for admission and repetitions included."""


@dataclass(frozen=True, slots=True)
class ModelResponse:
    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ProviderError(TaskError):
    """An attempt that the provider answered badly or not at all. The message is sanitised."""

    def __init__(
        self,
        kind: ProviderErrorKind,
        error_type: str,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        retryable: bool = True,
    ) -> None:
        super().__init__(error_type, message)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds
        self.retryable = retryable
        """False where sending the same request again cannot help (bad request, no permission)."""


class LocalTimeoutError(RetryableTaskError, TimeoutError):
    """A time limit of this process ended an attempt or its wait: nothing is said of the provider.

    Where nobody catches it, the task is deferred.
    """


class ModelClient(Protocol):
    """Sends one request once: no retries of its own, cancellable, usable concurrently."""

    async def send(self, request: ModelRequest) -> ModelResponse:
        """Raises `ProviderError` or `LocalTimeoutError`; anything else is an unexpected
        exception."""

    async def close(self) -> None: ...
