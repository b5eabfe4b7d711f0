"""Failures of calls and tasks: what they were, whose, how many, and what they cost.

A failure is counted where it happened, at a call or in a task's own code. The error that a task
then reports belongs to the failed call of the same column that came last, so that a dropped row is
charged to the provider's answer that cost it.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import msgspec

from engine.events.failures import ERROR_IN_BODY, FAILURE_KINDS, FailureClass, FailureKind
from replay.state.model import Failure, State
from replay.state.task import Task

ErrorClass = Literal[
    "authentication", "quota", "rate_limit", "server", "connection", "timeout", "request", "answer",
    "waited", "other", "code",
]  # fmt: skip
"""`authentication` and `quota`: nothing will succeed until a person acts. `rate_limit`: a call was
given up after 429s. `server`: the endpoint failed. `connection`: it could not be reached.
`timeout`: it did not answer in time. `request`: it refuses requests of this form. `answer`: it
answered, and the answer is of no use. `waited`: the call was given up before it went out. `other`:
a failed call of which nothing more is told. `code`: code of the run itself, such as a column's."""

MAX_FAILURES = 200
"""Kinds of failures that are told apart; what comes beyond them counts under `other`."""
MAX_MESSAGE_CHARS = 200
_OTHER = "other"

_BY_FAILURE: dict[FailureClass, ErrorClass] = {
    "rate_limit": "rate_limit",
    "overload": "server",
    "server_error": "server",
    "connection": "connection",
    "timeout": "timeout",
    "quota_spent": "quota",
    "quota_used_up": "quota",
    "auth": "authentication",
    "malformed_answer": "answer",
}
"""Of the engine's classes; the others follow from their scope."""


def _class_of_kind(kind: FailureKind) -> ErrorClass:
    return _BY_FAILURE.get(kind.name, "answer" if kind.scope == "answer" else "request")


_BY_ERROR_TYPE = {
    kind.error_type: _class_of_kind(kind) for kind in FAILURE_KINDS if kind.error_type is not None
}
_BY_WORD: dict[str, ErrorClass] = {
    **_BY_ERROR_TYPE,
    ERROR_IN_BODY: "server",
    "rate_limited": "rate_limit",
    "ModelRateLimitError": "rate_limit",
    "authentication": "authentication",
    "permission_denied": "authentication",
    "ModelAuthenticationError": "authentication",
    "ModelPermissionDeniedError": "authentication",
    "quota_exceeded": "quota",
    "ModelQuotaExceededError": "quota",
    "internal_server": "server",
    "api_error": "server",
    "provider_failure": "server",
    "ModelInternalServerError": "server",
    "ModelAPIError": "server",
    "api_connection": "connection",
    "ModelAPIConnectionError": "connection",
    "timeout": "timeout",
    "provider_timeout": "timeout",
    "ModelTimeoutError": "timeout",
    "bad_request": "request",
    "client_error": "request",
    "not_found": "request",
    "unprocessable_entity": "request",
    "unsupported_params": "request",
    "unsupported_capability": "request",
    "context_window_exceeded": "request",
    "ModelBadRequestError": "request",
    "ModelRequestRejectedError": "request",
    "ModelNotFoundError": "request",
    "ModelUnprocessableEntityError": "request",
    "ModelUnsupportedParamsError": "request",
    "ModelUnsupportedCapabilityError": "request",
    "ModelContextWindowExceededError": "request",
    "NoText": "answer",
    "ModelStructuredOutputError": "answer",
    "ModelGenerationValidationFailureError": "answer",
    "local_timeout": "waited",
    "LocalTimeout": "waited",
    "request_admission_timeout": "waited",
    "ModelRequestAdmissionTimeoutError": "waited",
}
_BY_STATUS: dict[int, ErrorClass] = {
    429: "rate_limit",
    401: "authentication",
    402: "quota",
    403: "authentication",
    408: "timeout",
    504: "timeout",
}
_STATUS = re.compile(r"HTTP ?(\d{3})\Z")
NEVER_A_FAILURE = frozenset({"success", "rate_limited", "local_cancelled"})
"""Outcomes of calls. A 429 is an answer to wait for, and has verdicts of its own."""
SPENT = frozenset({"QuotaSpent", "quota_exceeded"})
"""A 429 that no wait mends."""


def http_status(error: str) -> int | None:
    """The status that the name of an error gives."""
    match = _STATUS.match(error)
    return None if match is None else int(match[1])


def class_of(error: str) -> ErrorClass:
    """The class of an error by its name, as producers write it."""
    status = http_status(error)
    if status is not None:
        failure_class = _BY_STATUS.get(status)
        if failure_class is not None:
            return failure_class
        return "server" if status >= 500 else "request"
    return _BY_WORD.get(error, "code")


_NAMES: dict[ErrorClass, str] = {
    "authentication": "authentication error",
    "quota": "no quota left",
    "rate_limit": "429",
    "server": "server error",
    "connection": "connection failed",
    "timeout": "time-out",
    "request": "request refused",
    "answer": "unusable answer",
    "waited": "gave up waiting",
}
_STATUSES: dict[str, str] = {
    "authentication": "HTTP 401",
    "ModelAuthenticationError": "HTTP 401",
    "permission_denied": "HTTP 403",
    "ModelPermissionDeniedError": "HTTP 403",
    "not_found": "HTTP 404",
    "ModelNotFoundError": "HTTP 404",
    "internal_server": "HTTP 5xx",
    "ModelInternalServerError": "HTTP 5xx",
    ERROR_IN_BODY: "told in the body of an answer with HTTP 200",
}
"""Of errors that are named by a word, what they stand for."""
_NAMED_KINDS: dict[str, FailureKind] = {
    kind.error_type: kind
    for kind in FAILURE_KINDS
    if kind.error_type is not None and _class_of_kind(kind) in ("answer", "request")
}
"""The engine's kinds whose class alone does not say what was wrong, by their error."""


def named_kind(error: str) -> FailureKind | None:
    """The engine's kind of failure of this error, where its class alone does not say enough."""
    return _NAMED_KINDS.get(error)


def error_words(error: str) -> str:
    """What failed, in a few words: `HTTP 401`, `server error`, `ValueError`."""
    status = http_status(error)
    if status is not None:
        return f"HTTP {status}"
    failure_class = class_of(error)
    words = _NAMES.get(failure_class, error)
    kind = named_kind(error)
    if kind is not None:
        return f"{words} ({kind.name.replace('_', ' ')})"
    return f"{words} ({_STATUSES[error]})" if error in _STATUSES else words


def error_of(failure: Failure) -> str:
    """The error; by the status of the answer where that says so and the error says no more."""
    if named_kind(failure.error) is not None:
        return failure.error
    refused = failure.status is not None and failure.status >= 400
    return f"HTTP{failure.status}" if refused else failure.error


def name_of(failure: Failure) -> str:
    """What failed, in a few words, by its status where that is told."""
    return error_words(error_of(failure))


def failure_words(failure: Failure) -> str:
    """The same with where: `HTTP 401 from beta`, `ValueError in column score`."""
    words = name_of(failure)
    if failure.resource:
        return f"{words} from {failure.resource.split('/', 1)[0]}"
    return f"{words} in column {failure.column}" if failure.column else words


def class_of_failure(failure: Failure) -> ErrorClass:
    """The class of a failure: a call never fails in the code of a column.

    The engine's own word tells more than the status: a quota that is used up is answered with 429.
    """
    if failure.error in _BY_ERROR_TYPE:
        return _BY_ERROR_TYPE[failure.error]
    if failure.status is not None and failure.status >= 400:
        return class_of(f"HTTP{failure.status}")
    failure_class = class_of(failure.error)
    return "other" if failure_class == "code" and failure.resource else failure_class


def record_call(
    state: State,
    resource: str,
    column: str,
    error: str,
    at: float,
    ordinal: int,
    status: int | None = None,
) -> None:
    """A call of `column` to `resource` has failed with `error`."""
    failure = _failure(state, resource, column, error, at, ordinal)
    failure.of_calls = True
    failure.status = failure.status if status is None else status
    failure.times += 1


def record_task(
    state: State,
    task: Task | None,
    column: str,
    error: str | None,
    at: float,
    ordinal: int,
    *,
    dropped: bool,
    message: str = "",
) -> None:
    """A task of `column` has failed, and said so with `message`; `dropped`: its row is lost with
    it."""
    if error is not None and not dropped and class_of(error) == "rate_limit":
        return
    began = None if task is None else task.acquired_at
    failure = _failed_call(state, column, -math.inf if began is None else began)
    if failure is not None and error is not None:
        same = error == failure.error or class_of(error) != "code"
        failure = failure if same else None
    if failure is None:
        if error is None:
            return
        resource = "" if task is None or class_of(error) == "code" else task.request_resource or ""
        failure = _failure(state, resource, column, error, at, ordinal)
        failure.times += 1
        failure.message = failure.message or message[:MAX_MESSAGE_CHARS]
    if dropped:
        failure.rows_dropped += 1
        failure.last_at, failure.last_ordinal = max(failure.last_at, at), ordinal


def since(before: State, after: State) -> list[Failure]:
    """What failed between two states of one run; `first_at` is that of the whole run."""
    failures = []
    for key, failure in after.failures.items():
        previous = before.failures.get(key)
        times = failure.times - (previous.times if previous is not None else 0)
        dropped = failure.rows_dropped - (previous.rows_dropped if previous is not None else 0)
        if times > 0 or dropped > 0:
            failures.append(msgspec.structs.replace(failure, times=times, rows_dropped=dropped))
    return failures


def _failure(
    state: State, resource: str, column: str, error: str, at: float, ordinal: int
) -> Failure:
    key = "\n".join((resource, column, error))
    failure = state.failures.get(key)
    if failure is None:
        if len(state.failures) >= MAX_FAILURES:
            key, resource, column, error = _OTHER, "", "", _OTHER
        failure = state.failures.get(key) or Failure(resource, column, error, at, at, ordinal)
        state.failures[key] = failure
    failure.last_at = max(failure.last_at, at)
    failure.last_ordinal = ordinal
    return failure


def _failed_call(state: State, column: str, began: float) -> Failure | None:
    """The failed call of this column that came last, since `began`."""
    return max(
        (
            failure
            for failure in state.failures.values()
            if failure.of_calls and failure.column == column and failure.last_at >= began
        ),
        key=lambda failure: failure.last_ordinal,
        default=None,
    )
