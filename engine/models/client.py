"""The interface of a provider client, and the errors that it may raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from engine.errors import FailureDetails, RetryableTaskError, TaskError
from engine.events.failures import (
    AnswerAction,
    AnswerVerdict,
    FailureClass,
    FailureScope,
    error_type_of,
    scope_of,
)
from engine.identity import RequestResourceKey
from engine.models.rate_budget import RateBudget
from engine.models.usage import NO_USAGE, Usage

Operation = Literal["chat", "embedding"]
ProviderErrorKind = Literal["rate_limited", "provider_failure", "provider_timeout"]
ANSWER_ACTIONS: Mapping[AnswerVerdict, AnswerAction] = {
    "refusal": "drop",
    "filtered_answer": "drop",
    "truncated": "accept",
    "empty_answer": "retry",
    "reasoning_only": "retry",
    "thinking_in_text": "accept",
}
"""What becomes of an answer unless the column says otherwise. `retry` asks once more, then drops
the row; an accepted answer with thinking loses the thinking."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said before the prompt of a request."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[str, ...] = ()
    """Addresses, or `data:` URLs."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One logical request; an attempt sends it once."""

    resource: RequestResourceKey
    alias: str
    """Name of the model in the workflow."""
    prompt: str
    """The last message of the user; what is embedded, if that is what is wanted."""
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    timeout_seconds: float | None = 120.0
    """Most seconds that the provider may take for one attempt; None for no limit."""
    within_seconds: float | None = None
    """Most seconds for the whole request, with waits for admission and repetitions; None for no
    limit."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request's body."""
    stream: bool = False
    answer_actions: Mapping[AnswerVerdict, AnswerAction] = field(default_factory=dict)
    """Where they differ from `ANSWER_ACTIONS`."""
    operation: Operation = "chat"
    turns: tuple[Turn, ...] = ()
    """The conversation between the system prompt and the prompt."""
    images: tuple[str, ...] = ()
    """Images beside the prompt: addresses, or `data:` URLs."""
    dispensable: frozenset[str] = frozenset()
    """Options that are left out for a model that does not take them."""

    def action(self, verdict: AnswerVerdict) -> AnswerAction:
        """What follows an answer that was judged so: the column's choice, or the default."""
        return self.answer_actions.get(verdict, ANSWER_ACTIONS[verdict])

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is said in it."""
        return (self.system or "", *(turn.text for turn in self.turns), self.prompt)

    def followed_by(self, answer: str, prompt: str) -> ModelRequest:
        """The request that goes on after an answer."""
        exchange = Turn("user", self.prompt, self.images), Turn("assistant", answer)
        return replace(self, turns=(*self.turns, *exchange), prompt=prompt, images=())


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """The answer of a provider to one request."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    verdict: AnswerVerdict | None = None
    """What is wrong with the answer, although the provider gave one; None for nothing."""
    finish_reason: str | None = None
    first_token_seconds: float | None = None
    """Time to the first token of a streamed answer."""
    budgets: tuple[RateBudget, ...] = ()
    details: Usage = NO_USAGE
    """Further counts of tokens, and the cost, where the provider tells them."""
    vector: tuple[float, ...] = ()
    """Of an embedding."""

    @property
    def usage(self) -> Usage:
        details = self.details
        return Usage(
            self.prompt_tokens,
            self.completion_tokens,
            details.cached_tokens,
            details.reasoning_tokens,
            details.cost,
        )


class ProviderError(TaskError):
    """An attempt that the provider refused, failed or did not answer. The message is sanitised."""

    def __init__(
        self,
        failure: FailureClass,
        error_type: str,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_seconds: float | None = None,
        budgets: tuple[RateBudget, ...] = (),
    ) -> None:
        super().__init__(error_type, message)
        self.failure = failure
        self.blames_task: Callable[[], bool | None] | None = None
        """As of `RetryableTaskError`; set by whoever knows what else the provider answers."""
        self.details: FailureDetails = FailureDetails(failure, status, code, param)
        self.retry_after_seconds = retry_after_seconds
        """What the provider asks for, however long; None where it says nothing of use."""
        self.budgets = budgets

    def obeying(self, longest_seconds: float) -> ProviderError:
        """The same where it asks for a wait that can be obeyed; else a quota that is used up."""
        wait = self.retry_after_seconds
        if self.failure != "rate_limit" or wait is None or wait <= longest_seconds:
            return self
        return ProviderError(
            "quota_used_up",
            error_type_of("quota_used_up"),
            f"{self.message} (it asks to come back in {spoken_seconds(wait)})",
            status=self.details.status,
            code=self.details.code,
            param=self.details.param,
            retry_after_seconds=wait,
            budgets=self.budgets,
        )

    @property
    def scope(self) -> FailureScope:
        return scope_of(self.failure)

    @property
    def kind(self) -> ProviderErrorKind:
        """How the lease of the attempt ends."""
        if self.failure in ("rate_limit", "overload"):
            return "rate_limited"
        return "provider_timeout" if self.failure == "timeout" else "provider_failure"

    @property
    def retryable(self) -> bool:
        """False if the same request can't succeed later."""
        return self.scope in ("resource", "person")


def spoken_seconds(seconds: float) -> str:
    """A duration in the unit that suits it."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.3g} s"


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
