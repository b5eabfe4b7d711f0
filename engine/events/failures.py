"""The classes of failures: what an answer, or the lack of one, means for the request, for the
provider and for whoever runs it.

This table is the only list of classes. Events name a failure by its class; what a run does about it
follows from the scope.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

FailureClass = Literal[
    "rate_limit",
    "overload",
    "server_error",
    "connection",
    "timeout",
    "malformed_answer",
    "quota_spent",
    "quota_used_up",
    "auth",
    "unknown_model",
    "wrong_address",
    "bad_option",
    "request_too_large",
    "context_length",
    "content_filter",
    "invalid_request",
    "refusal",
    "filtered_answer",
    "truncated",
    "empty_answer",
    "reasoning_only",
    "thinking_in_text",
    "invalid_structure",
    "wrong_dimension",
]
AnswerVerdict = Literal[
    "refusal",
    "filtered_answer",
    "truncated",
    "empty_answer",
    "reasoning_only",
    "thinking_in_text",
]
"""The classes of answers that are not as they should be."""
AnswerAction = Literal["accept", "retry", "drop"]
FailureScope = Literal["resource", "person", "request", "answer"]
"""`resource`: of the provider, and passes by itself. `person`: of the provider, until somebody
acts. `request`: of this request, which can never succeed. `answer`: the provider answered, but the
answer is not usable."""


class FailureKind(NamedTuple):
    """A class of failures: what it says of the provider, and what a person can do."""

    name: FailureClass
    error_type: str | None
    """The type of error that events name; None where that is its HTTP status."""
    scope: FailureScope
    meaning: str
    """As a clause: "the provider ..."."""
    advice: str


FAILURE_KINDS: tuple[FailureKind, ...] = (
    FailureKind(
        "rate_limit",
        "RateLimited",
        "resource",
        "refuses more requests for a while",
        "lower max_parallel_requests, or set requests_per_minute to what the account may use",
    ),
    FailureKind(
        "overload",
        "Overloaded",
        "resource",
        "is overloaded",
        "wait, or lower max_parallel_requests; the run goes on by itself",
    ),
    FailureKind("server_error", None, "resource", "fails", "wait; the run goes on by itself"),
    FailureKind(
        "connection",
        "ConnectionFailed",
        "resource",
        "can't be reached",
        "check the network and base_url; the run goes on by itself",
    ),
    FailureKind(
        "timeout",
        "ProviderTimeout",
        "resource",
        "does not answer in time",
        "raise timeout_seconds if such answers are expected to take longer",
    ),
    FailureKind(
        "malformed_answer",
        "MalformedAnswer",
        "resource",
        "answers with something that is no chat completion",
        "check that base_url leads to an endpoint that speaks the OpenAI API",
    ),
    FailureKind(
        "quota_spent",
        "QuotaSpent",
        "person",
        "says that the account has no credit or quota left",
        "add credit or raise the spending limit of the account, then run again",
    ),
    FailureKind(
        "quota_used_up",
        "QuotaUsedUp",
        "person",
        "says that a quota is used up for now",
        "run again once the quota is back, or run with --wait",
    ),
    FailureKind(
        "auth",
        "KeyRefused",
        "person",
        "does not accept the key",
        "check the key and what it may use, then run again",
    ),
    FailureKind(
        "unknown_model",
        "UnknownModel",
        "person",
        "does not know the model",
        "check the name of the model and that the account may use it",
    ),
    FailureKind(
        "wrong_address",
        "WrongAddress",
        "person",
        "does not know the address",
        "check base_url: it usually ends in /v1",
    ),
    FailureKind(
        "bad_option",
        "BadOption",
        "person",
        "does not accept an option of the model",
        "remove or change the option in the workflow",
    ),
    FailureKind(
        "request_too_large",
        "RequestTooLarge",
        "request",
        "says that the request is larger than it will ever admit",
        "shorten the prompt, or raise the limit of the account",
    ),
    FailureKind(
        "context_length",
        "ContextLength",
        "request",
        "says that the request exceeds the context of the model",
        "shorten the prompt or max_tokens, or take a model with a longer context",
    ),
    FailureKind(
        "content_filter",
        "ContentFilter",
        "request",
        "blocks the request by its content filter",
        "change the prompt of these rows",
    ),
    FailureKind(
        "invalid_request",
        None,
        "request",
        "does not accept the request",
        "look at the provider's code and parameter",
    ),
    FailureKind(
        "refusal",
        "Refusal",
        "answer",
        "answers with a refusal",
        "change the prompt, or set on_refusal of the column",
    ),
    FailureKind(
        "filtered_answer",
        "FilteredAnswer",
        "answer",
        "cut the answer by its content filter",
        "change the prompt, or set on_filtered of the column",
    ),
    FailureKind(
        "truncated",
        "TruncatedAnswer",
        "answer",
        "cut the answer at the token limit",
        "raise max_tokens, or set on_truncated of the column",
    ),
    FailureKind(
        "empty_answer",
        "EmptyAnswer",
        "answer",
        "answers with no text",
        "change the prompt, or set on_empty of the column",
    ),
    FailureKind(
        "reasoning_only",
        "ReasoningOnly",
        "answer",
        "used its tokens for reasoning and gave no text",
        "raise max_tokens or lower reasoning_effort",
    ),
    FailureKind(
        "thinking_in_text",
        "ThinkingInText",
        "answer",
        "puts its thinking into the text of the answer",
        "have the server separate it, or set on_thinking of the column",
    ),
    FailureKind(
        "invalid_structure",
        "InvalidStructure",
        "answer",
        "gives no JSON that fits the column's schema, also when told what is wrong with it",
        "simplify the schema, raise correction_rounds of the column, or take a stronger model",
    ),
    FailureKind(
        "wrong_dimension",
        "WrongDimension",
        "answer",
        "answers with an embedding of another dimension",
        "set dimensions of the column to what the model gives",
    ),
)
ERROR_IN_BODY = "ErrorInBody"
"""The type of a provider's failure that it tells in the body of an answer with status 200."""
FAILURES: dict[FailureClass, FailureKind] = {kind.name: kind for kind in FAILURE_KINDS}
assert tuple(FAILURES) == get_args(FailureClass)


def scope_of(failure: FailureClass) -> FailureScope:
    """Whom a failure of this class concerns: the request, its provider or the run."""
    return FAILURES[failure].scope


def error_type_of(failure: FailureClass, status: int | None = None) -> str:
    """The type of error that events name for a failure answered with `status`."""
    answered = status is not None and 200 <= status < 300
    return FAILURES[failure].error_type or (ERROR_IN_BODY if answered else f"HTTP{status}")
