"""`refusal`: status, headers and body of an answer that is none become one `ProviderError`.

The only place that knows what providers mean by their statuses, codes, types and words. A body
tells more than a status: routers and gateways send errors with status 200, and some providers send
429 for what no waiting mends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from engine.events.failures import FAILURES, FailureClass, error_type_of
from engine.models.client import ProviderError
from engine.models.hints import budgets_of, reset_hint_seconds, retry_after_seconds

MAX_MESSAGE_CHARS = 200
_MAX_CODE_CHARS = 80
_HIDDEN = "…"

_QUOTA_CODES = frozenset(
    "insufficient_quota billing_hard_limit_reached billing_not_active insufficient_balance "
    "insufficient_user_quota insufficient_credits payment_required account_deactivated "
    "credit_balance_too_low out_of_credits arrearage billing_error".split()
)
_AUTH_CODES = frozenset(
    "invalid_api_key authentication_error invalid_authentication unauthorized unauthenticated "
    "permission_denied permission_error access_denied invalid_token expired_token "
    "invalid_organization account_suspended".split()
)
_MODEL_CODES = frozenset(
    "model_not_found deploymentnotfound model_not_available invalid_model unknown_model "
    "model_not_supported model_deprecated".split()
)
_FILTER_CODES = frozenset(
    "content_filter content_policy_violation responsibleaipolicyviolation moderation_blocked "
    "data_inspection_failed content_filter_error safety".split()
)
_OPTION_CODES = frozenset(
    "unsupported_parameter unsupported_value unknown_parameter unrecognized_parameter".split()
)
_SIZE_CODES = frozenset(
    "request_too_large string_above_max_length payload_too_large request_entity_too_large".split()
)
_CONTEXT_CODES = frozenset("context_length_exceeded context_window_exceeded".split())
_RATE_CODES = frozenset(
    "rate_limit_exceeded rate_limit_error rate_limit rate_limited too_many_requests "
    "requests_limit_reached tokens_limit_reached throttling throttlingexception".split()
)
_OVERLOAD_CODES = frozenset(
    "overloaded overloaded_error server_overloaded engine_overloaded model_overloaded "
    "capacity_exceeded unavailable service_overloaded no_capacity".split()
)
_CODE_STATUS: dict[str, int] = {
    **dict.fromkeys(_QUOTA_CODES, 402),
    **dict.fromkeys(_AUTH_CODES, 401),
    **dict.fromkeys(_MODEL_CODES, 404),
    **dict.fromkeys(_RATE_CODES | {"resource_exhausted"}, 429),
    **dict.fromkeys(_OVERLOAD_CODES, 529),
    **dict.fromkeys(
        _FILTER_CODES
        | _OPTION_CODES
        | _SIZE_CODES
        | _CONTEXT_CODES
        | {"invalid_request_error", "invalid_argument", "bad_request", "badrequesterror"},
        400,
    ),
}

_QUOTA_WORDS = re.compile(
    r"insufficient (?:credit|balance|fund|quota)|not enough credit|out of credit|credit balance|"
    r"no (?:credit|quota) left|requires? (?:more|at least \$?[\d.]+) credits?|billing|"
    r"payment required|spend(?:ing)? limit|exceeded your current quota|arrears",
    re.IGNORECASE,
)
_DAILY_WORDS = re.compile(
    r"per[ _-]?day|perday|daily|\b(?:rpd|tpd)\b|per[ _-]?month|monthly|free-models-per-day",
    re.IGNORECASE,
)
_KEY_WORDS = re.compile(
    r"api[ _-]?key[^.]{0,40}(?:not valid|invalid|incorrect|expired|missing|revoked)|"
    r"(?:invalid|incorrect|expired|missing)[^.]{0,20}(?:api[ _-]?key|credentials|token)",
    re.IGNORECASE,
)
_MODEL_WORDS = re.compile(
    r"model[^.]{0,120}(?:not exist|not found|not a valid|not available|unknown|not supported for)|"
    r"(?:unknown|invalid|no such|no) model|no endpoints found|not a valid model|"
    r"deployment[^.]{0,60}not exist",
    re.IGNORECASE,
)
_FILTER_WORDS = re.compile(
    r"content (?:filter|policy|management)|moderation|flagged|safety system|inappropriate",
    re.IGNORECASE,
)
_CONTEXT_WORDS = re.compile(
    r"(?:maximum|max|model'?s?) context|context[ _](?:length|window|size)|prompt is too long|"
    r"reduce the length|too many (?:input )?tokens|input is too long|"
    r"exceeds? the (?:maximum )?(?:number of )?tokens|"
    r"max_model_len",
    re.IGNORECASE,
)
_SIZE_WORDS = re.compile(
    r"(?:request|payload|body|prompt|input|message)s? (?:is |was |are )?"
    r"(?:too (?:large|big|long)|exceeds)|entity too large",
    re.IGNORECASE,
)
_OPTION_WORDS = re.compile(
    r"unsupported (?:parameter|value|option)|unknown (?:parameter|name|field|argument)|"
    r"unrecognized (?:request )?(?:argument|parameter|field)|"
    r"extra (?:inputs|fields) (?:are )?not permitted|"
    r"(?:parameter|argument|field)[^.]{0,60}(?:not supported|not allowed|is unsupported)",
    re.IGNORECASE,
)
_OVERLOAD_WORDS = re.compile(
    r"overload|at capacity|over capacity|queue (?:is )?full|too many (?:pending|queued|concurrent)|"
    r"high demand|slow ?down|busy|no (?:available )?capacity|temporarily unavailable due to load",
    re.IGNORECASE,
)
_LIMIT_AND_REQUESTED = re.compile(
    r"limit:?\s*([\d,]+).{0,60}?requested:?\s*([\d,]+)", re.IGNORECASE | re.DOTALL
)
_SECRET = re.compile(
    r"\b(?:sk|pk|rk|key|gsk|xai|nvapi|hf|org|proj)[-_][A-Za-z0-9_\-*.]{4,}|bearer \S+|"
    r"[A-Za-z0-9_\-]{32,}",
    re.IGNORECASE,
)


class ErrorBody(NamedTuple):
    """What an error body says, in whatever shape. Nothing of it is sanitised."""

    codes: tuple[str, ...]
    """Code, type and status words, lower case."""
    code: str | None
    """The code to report."""
    param: str | None
    message: str
    status: int | None
    """A status that the body gives by number."""


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: Any,
    wall: float,
    private: Sequence[str] = (),
) -> ProviderError:
    """The error for an answer that is an error.

    Args:
        status: Its HTTP status; with 200 the body decides what it means.
        headers: Its headers, names in lower case.
        body: The decoded JSON; anything else for a body that is none.
        wall: Unix seconds.
        private: Texts that must not be repeated: prompt, system prompt, key.
    """
    content = error_body(body)
    meant = status
    if status < 400:
        meant = content.status or next(
            (_CODE_STATUS[c] for c in content.codes if c in _CODE_STATUS), 500
        )
    wait = retry_after_seconds(headers, wall)
    failure = classify(meant, content, wait is not None)
    if failure in ("rate_limit", "overload", "quota_used_up") and wait is None:
        wait = reset_hint_seconds(headers, body, content.message, wall)
    return ProviderError(
        failure,
        error_type_of(failure, status),
        describe(failure, status, content, private),
        status=status,
        code=content.code,
        param=content.param,
        retry_after_seconds=wait,
        budgets=budgets_of(headers, wall),
    )


def classify(status: int, content: ErrorBody, waits: bool) -> FailureClass:
    """The class of a failure; `waits`: `Retry-After` names a delay."""
    codes, words = frozenset(content.codes), content.message
    per_day = bool(_DAILY_WORDS.search(words)) or any(map(_DAILY_WORDS.search, codes))
    if status == 402 or codes & _QUOTA_CODES:
        return "quota_spent"
    if status == 429:
        return _classify_429(codes, words, per_day, waits)
    if codes & _CONTEXT_CODES or (status in (400, 413, 422) and _CONTEXT_WORDS.search(words)):
        return "context_length"
    if status == 413 or codes & _SIZE_CODES or (status in (400, 422) and _SIZE_WORDS.search(words)):
        return "request_too_large"
    if codes & _FILTER_CODES or (status in (400, 403, 422) and _FILTER_WORDS.search(words)):
        return "content_filter"
    if codes & _MODEL_CODES or (status in (400, 404, 422) and _MODEL_WORDS.search(words)):
        return "unknown_model"
    if (
        status in (401, 403)
        or codes & {"invalid_api_key"}
        or (status == 400 and _KEY_WORDS.search(words))
    ):
        return "quota_spent" if status == 403 and _QUOTA_WORDS.search(words) else "auth"
    if status in (404, 405, 410) or 300 <= status < 400:
        return "wrong_address"
    if codes & _OPTION_CODES or (status in (400, 422) and _OPTION_WORDS.search(words)):
        return "bad_option"
    if status == 529 or codes & _OVERLOAD_CODES:
        return "overload"
    if status >= 500 or status in (408, 409, 425):
        overloaded = (waits and status in (500, 502, 503, 504)) or _OVERLOAD_WORDS.search(words)
        return "overload" if overloaded else "server_error"
    return "invalid_request"


def _classify_429(codes: frozenset[str], words: str, per_day: bool, waits: bool) -> FailureClass:
    numbers = _LIMIT_AND_REQUESTED.search(words)
    if numbers is not None and _integer(numbers[2]) > _integer(numbers[1]):
        return "request_too_large"
    if codes & _SIZE_CODES or _SIZE_WORDS.search(words) or codes & _CONTEXT_CODES:
        return "request_too_large"
    if per_day:
        return "quota_used_up"
    if codes & _AUTH_CODES:
        return "auth"
    if _QUOTA_WORDS.search(words) and not waits and "resource_exhausted" not in codes:
        return "quota_spent"
    return "overload" if codes & _OVERLOAD_CODES else "rate_limit"


def error_body(body: Any) -> ErrorBody:
    """Reads the shapes that are about: OpenAI's, vLLM's flat one, Google's list, FastAPI's detail,
    an error inside a choice, plain words."""
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, str):
        return ErrorBody((), None, None, "" if "<" in body[:200] else body[:1000], None)
    if not isinstance(body, dict):
        return ErrorBody((), None, None, "", None)
    error: Any = body.get("error")
    if error is None and isinstance(body.get("errors"), list) and body["errors"]:
        error = body["errors"][0]
    if error is None:
        error = _choice_error(body)
    if error is None:
        error = body
    if isinstance(error, str):
        error = {**body, "message": error}
    if not isinstance(error, dict):
        return ErrorBody((), None, None, "", None)
    message = error.get("message") or error.get("detail") or error.get("msg") or ""
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode("utf-8", "replace")
    values = [error.get("code"), error.get("type"), error.get("status")]
    inner = error.get("innererror") or error.get("details")
    if isinstance(inner, dict):
        values.append(inner.get("code"))
    numbers = [number for v in values if (number := _status(v)) is not None]
    words = [v for v in values if isinstance(v, str) and not v.isdecimal()]
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str):
        message = f"{message}: {raw}" if message else raw
    if isinstance(inner, list):
        message += " " + msgspec.json.encode(inner).decode("utf-8", "replace")[:1000]
    code = words[0] if words else (str(numbers[0]) if numbers else None)
    if code in ("error", "Error"):
        code = words[1] if len(words) > 1 else (str(numbers[0]) if numbers else None)
    param = error.get("param")
    return ErrorBody(
        tuple(word.lower() for word in words),
        _clean(code, _MAX_CODE_CHARS) if code else None,
        _clean(param, _MAX_CODE_CHARS) if isinstance(param, str) and param else None,
        message[:4000],
        numbers[0] if numbers else None,
    )


def _choice_error(body: dict[str, Any]) -> Any:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("error") if isinstance(first, dict) else None


def holds_error(body: Any) -> bool:
    """Whether a body that came with status 200 is an error."""
    if not isinstance(body, dict):
        return False
    if body.get("error") or body.get("object") == "error" or body.get("errors"):
        return True
    return _choice_error(body) is not None


def describe(
    failure: FailureClass, status: int | None, content: ErrorBody, private: Sequence[str] = ()
) -> str:
    """One bounded sentence: what it means, status and code, and the provider's words."""
    facts = [f"HTTP {status}" if status < 400 else str(status)] if status is not None else []
    if content.code and content.code != str(status):
        facts.append(content.code)
    if content.param:
        facts.append(f"parameter {content.param}")
    sentence = f"the provider {FAILURES[failure].meaning}"
    if facts:
        sentence += f" ({', '.join(facts)})"
    words = sanitised(content.message, private)
    return f"{sentence}: {words}" if words else sentence


def sanitised(text: str, private: Sequence[str] = ()) -> str:
    """A provider's words without secrets, and without what they repeat of a private text."""
    words = _clean(text, 4 * MAX_MESSAGE_CHARS).split()
    hidden = [False] * len(words)
    for secret in private:
        spaced = " ".join(secret.split())
        if not spaced:
            continue
        run = min(3, len(spaced.split()))
        for start in range(len(words) - run + 1):
            piece = " ".join(words[start : start + run]).strip("\"'`.,:;()[]{}")
            if len(piece) >= 4 and piece in spaced:
                hidden[start : start + run] = [True] * run
    shown = [_HIDDEN if hide else word for word, hide in zip(words, hidden, strict=True)]
    # Secrets come last: their marks would keep a private text from being recognised.
    kept: list[str] = []
    for word in _SECRET.sub(_HIDDEN, " ".join(shown)).split():
        if word != _HIDDEN or kept[-1:] != [_HIDDEN]:
            kept.append(word)
    sentence = " ".join(kept)
    if len(sentence) > MAX_MESSAGE_CHARS:
        sentence = sentence[: MAX_MESSAGE_CHARS - 1].rstrip() + _HIDDEN
    return "" if sentence == _HIDDEN else sentence


def _clean(text: str, most_chars: int) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * most_chars])
    return printable.strip()[:most_chars]


def _status(value: Any) -> int | None:
    """The HTTP status that a code is; None for a word."""
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 400 <= value <= 599 else None


def _integer(text: str) -> int:
    return int(text.replace(",", "") or 0)
