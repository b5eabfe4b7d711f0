"""What callers of request admission pass in and get back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from engine.events import RuntimeCorrelation
from engine.events.failures import FailureClass
from engine.identity import PressureSnapshot, RequestResourceKey

RequestOutcomeKind = Literal[
    "success",
    "rate_limited",
    "provider_failure",
    "provider_timeout",
    "local_cancelled",
    "local_timeout",
    "unexpected_exception",
]
RequestDenialReason = Literal[
    "no_capacity",
    "cooldown",
    "queue_timeout",
    "queued_waiters_ahead",
    "cancellation",
    "shutdown",
    "hard_policy_denial",
]
RequestWaitReason = Literal[
    "suspended",
    "outage",
    "cooldown",
    "request_rate_budget",
    "domain_limit",
    "request_plateau",
    "aggregate_cap",
    "ramp",
]
"""What keeps the head of a queue waiting."""
RequestReleaseReason = Literal[
    "released", "duplicate", "stale_lease", "wrong_controller_generation", "unknown_lease"
]


class RequestGroupSpec(NamedTuple):
    """A flow that shares an aggregate cap with others in proportion to its weight (> 0)."""

    key: str
    weight: float = 1.0


class RequestEventContext(NamedTuple):
    """Whose request it is. Copied into events, and not used otherwise."""

    captured_correlation: RuntimeCorrelation | None
    task_execution_id: str | None
    request_attempt_id: str | None
    repeats: str | None = None
    """Id of the first attempt of the same logical request; None for that attempt itself."""


@dataclass(frozen=True, slots=True)
class RequestAdmissionItem:
    """One call that needs a lease."""

    resource: RequestResourceKey
    group: RequestGroupSpec | None = None
    """None: the resource is a group of its own with weight 1."""
    queue_wait_timeout: float | None = None
    """Seconds that it may wait; None for no limit."""
    event_context: RequestEventContext | None = None
    prompt_tokens: int = 0
    """Estimate of the tokens of the prompt, for budgets of tokens."""


@dataclass(frozen=True, slots=True)
class RequestAdmissionLease:
    """Permission for one call, to be released exactly once."""

    lease_id: str
    item: RequestAdmissionItem
    acquired_at: float
    current_adaptive_limit: int
    effective_max: int
    controller_generation: int


@dataclass(frozen=True, slots=True)
class RequestAdmissionDenied:
    """Why there is no lease, and when it may be worth trying again."""

    item: RequestAdmissionItem
    reason: RequestDenialReason
    retry_after_seconds: float | None = None
    available_after_monotonic: float | None = None
    snapshot: PressureSnapshot | None = None


RequestAdmissionDecision = RequestAdmissionLease | RequestAdmissionDenied


class RequestAdmissionError(Exception):
    """A blocking acquisition ended without a lease."""

    def __init__(self, denial: RequestAdmissionDenied) -> None:
        super().__init__(f"request admission to {denial.item.resource.label}: {denial.reason}")
        self.denial = denial


class FailureReport(NamedTuple):
    """What a provider answered instead of an answer; sanitised."""

    failure: FailureClass
    message: str = ""
    status: int | None = None
    code: str | None = None
    param: str | None = None
    retry_after_said: float | None = None
    """The delay that the provider asked for, where it is beyond what is obeyed."""

    def payload(self) -> dict[str, Any]:
        """As events carry it."""
        facts = {
            "class": self.failure,
            "status": self.status,
            "code": self.code,
            "param": self.param,
            "message": self.message or None,
        }
        return {name: value for name, value in facts.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RequestReleaseOutcome:
    """How the call under a lease ended; only `rate_limited` lowers a limit."""

    kind: RequestOutcomeKind
    retry_after_seconds: float | None = None
    failure: FailureReport | None = None
    """None also where the failure says nothing of the provider."""
    cuts: bool = True
    """False if the refusal says nothing of the load: the same request is refused again and again
    while others are answered."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class RequestReleaseResult(NamedTuple):
    """Whether a request lease was released, and why not."""

    released: bool
    reason: RequestReleaseReason
    diagnostics: Mapping[str, str]


@dataclass(slots=True, eq=False)
class RequestWaiter:
    """An acquisition in the queue; `handle` is resolved exactly once."""

    waiter_id: int
    item: RequestAdmissionItem
    enqueued_at: float
    deadline: float | None
    handle: asyncio.Future[RequestAdmissionDecision]
