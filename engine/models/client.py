"""The interface of a provider client, and the errors that it may raise."""

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
    """Name of the model in the workflow."""
    prompt: str
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    timeout_seconds: float | None = 120.0
    """Most seconds that the provider may take for one attempt; None for no limit."""
    within_seconds: float | None = None
    """Most seconds for the whole request, with waits for admission and repetitions; None for no
    limit."""


@dataclass(frozen=True, slots=True)
class ModelResponse:
    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ProviderError(TaskError):
    """An attempt that the provider refused, failed or did not answer. The message is sanitised."""

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
        """False if the same request can't succeed later (bad request, no permission)."""


class LocalTimeoutError(RetryableTaskError, TimeoutError):
    """A time limit of the caller ended an attempt or its wait. It says nothing of the provider.

    If a user's function does not catch it, the task is deferred.
    """


class ModelClient(Protocol):
    """Sends one request once: no retries of its own, cancellable, usable concurrently."""

    async def send(self, request: ModelRequest) -> ModelResponse:
        """Send the request and return the answer.

        Raises:
            ProviderError: The provider refused it, failed, or did not answer in time.
            LocalTimeoutError: A time limit of the caller ended it. Any other exception counts as
                `unexpected_exception`.
        """

    async def close(self) -> None: ...
