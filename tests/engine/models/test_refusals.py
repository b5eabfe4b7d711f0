"""What statuses, codes, types and words of providers mean, and what is repeated of them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.models.hints import budgets_of, reset_hint_seconds, seconds_in_words
from engine.models.refusals import MAX_MESSAGE_CHARS, holds_error, refusal, sanitised

WALL = 1_700_000_000.0


def openai(message: str = "no", code: Any = None, kind: str = "error", **more: Any) -> Any:
    return {"error": {"message": message, "type": kind, "code": code, "param": None, **more}}


def failure(status: int, body: Any, headers: dict[str, str] | None = None) -> str:
    return refusal(status, headers or {}, body, WALL).failure


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, openai("slow down"), "rate_limit"),
        (429, openai(code="rate_limit_exceeded"), "rate_limit"),
        (429, "Too many requests", "rate_limit"),
        (429, openai(code="insufficient_quota"), "quota_spent"),
        (429, openai(kind="insufficient_quota"), "quota_spent"),
        (429, openai("Your credit balance is too low"), "quota_spent"),
        (429, openai("Quota exceeded: GenerateRequestsPerDay limit 20"), "quota_used_up"),
        (429, openai("Rate limit reached for requests per day (RPD): Limit 200"), "quota_used_up"),
        (429, openai("Rate limit exceeded: free-models-per-day"), "quota_used_up"),
        (429, openai("Limit 30000, Used 29000, Requested 2000"), "rate_limit"),
        (429, openai("Request too large: limit 30000, requested 30601"), "request_too_large"),
        (429, openai("TPM: Limit 30,000, Requested 30,601."), "request_too_large"),
        (402, openai(), "quota_spent"),
        (403, openai("billing is not active"), "quota_spent"),
        (401, openai(code="invalid_api_key"), "auth"),
        (403, openai("You may not do this"), "auth"),
        (400, openai("API key not valid. Please pass a valid API key."), "auth"),
        (403, openai("Your input was flagged by moderation"), "content_filter"),
        (400, openai(code="content_filter"), "content_filter"),
        (404, openai(code="model_not_found"), "unknown_model"),
        (404, openai("The model `x` does not exist."), "unknown_model"),
        (404, openai("No endpoints found for x/y."), "unknown_model"),
        (400, openai("x/y is not a valid model ID"), "unknown_model"),
        (404, openai("Invalid URL (POST /chat/completions)"), "wrong_address"),
        (404, "<html><title>Not Found</title></html>", "wrong_address"),
        (405, {"detail": "Method Not Allowed"}, "wrong_address"),
        (400, openai(code="context_length_exceeded"), "context_length"),
        (400, openai("This model's maximum context length is 8192 tokens"), "context_length"),
        (400, {"object": "error", "message": "prompt is too long: 9 > 8"}, "context_length"),
        (413, "", "request_too_large"),
        (400, openai("Unsupported parameter: 'max_tokens'", "unsupported_parameter"), "bad_option"),
        (422, {"detail": [{"msg": "Extra inputs are not permitted"}]}, "bad_option"),
        (400, openai("messages must not be empty"), "invalid_request"),
        (500, openai(), "server_error"),
        (502, "<html>Bad Gateway</html>", "server_error"),
        (503, openai(), "server_error"),
        (503, openai(kind="overloaded_error"), "overload"),
        (503, openai("The engine is currently overloaded"), "overload"),
        (529, openai(), "overload"),
        (500, openai(code="overloaded"), "overload"),
        (408, "", "server_error"),
        # Errors with status 200 mean what their code would as a status.
        (200, openai("Rate limit exceeded", 429), "rate_limit"),
        (200, openai("Provider returned error", 502), "server_error"),
        (200, openai("Insufficient credits", 402), "quota_spent"),
        (200, openai("no", "429"), "rate_limit"),
        (200, openai("no", "rate_limit_exceeded"), "rate_limit"),
        (200, openai("who knows"), "server_error"),
        (200, {"error": "model is overloaded"}, "overload"),
        (200, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], "rate_limit"),
        (200, {"choices": [{"error": {"code": 502, "message": "upstream"}}]}, "server_error"),
    ],
)
def test_what_an_answer_means(status: int, body: Any, expected: str) -> None:
    assert failure(status, body) == expected


def test_retry_after_makes_an_overload_of_a_503() -> None:
    assert failure(503, openai(), {"retry-after": "3"}) == "overload"
    assert failure(503, openai(), {"retry-after": "0"}) == "server_error", "0 is no hint"


def test_google_tells_a_minute_from_a_day() -> None:
    def body(quota: str) -> Any:
        details = [{"violations": [{"quotaId": quota}]}, {"retryDelay": "36s"}]
        message = "You exceeded your current quota, please check your plan and billing details."
        return [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": message,
                           "details": details}}]  # fmt: skip

    per_minute = refusal(429, {}, body("GenerateRequestsPerMinutePerProject"), WALL)
    assert (per_minute.failure, per_minute.retry_after_seconds) == ("rate_limit", 36.0)
    assert refusal(429, {}, body("GenerateRequestsPerDayPerProject"), WALL).failure == (
        "quota_used_up"
    )


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, None, 360),
        ({"x-ratelimit-reset-tokens": "120ms"}, None, 0.12),
        ({"x-ratelimit-reset-requests": "9s", "x-ratelimit-remaining-requests": "5"}, None, None),
        ({"x-ratelimit-reset": "1700000012"}, None, 12),
        ({"x-ratelimit-reset": "1700000012000"}, None, 12),
        ({"x-ratelimit-reset": "1600000000"}, None, None),
        ({"anthropic-ratelimit-requests-reset": "2023-11-14T22:13:50Z"}, None, 30),
        ({}, openai("Please try again in 1.2s."), 1.2),
        ({}, openai("Please try again in 7m12s."), 432),
        ({}, openai("Please retry after 33 seconds."), 33),
        ({}, openai("try again in 20 minutes"), 1200),
        ({}, openai("try again later"), None),
        ({}, {"error": {"metadata": {"headers": {"X-RateLimit-Reset": "1700000005000"}}}}, 5),
        ({}, {"error": {"retry_after": 4}}, 4),
        ({}, {"error": {"retry_after": 0}}, None),
    ],
)
def test_hints_beside_retry_after(
    headers: dict[str, str], body: Any, seconds: float | None
) -> None:
    message = body["error"].get("message", "") if body else ""
    assert reset_hint_seconds(headers, body, message, WALL) == pytest.approx(seconds)


def test_words_without_a_delay() -> None:
    assert seconds_in_words("limit 30 per minute reached, 5 in the last 60 seconds") is None


def test_budgets_without_nonsense() -> None:
    told = budgets_of(
        {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": "-1",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-limit-tokens": "0",
            "x-ratelimit-remaining-tokens": "0",
            "anthropic-ratelimit-output-tokens-limit": "8000",
            "anthropic-ratelimit-output-tokens-remaining": "10",
        },
        WALL,
    )
    assert [(b.dimension, b.limit, b.remaining, b.reset_seconds) for b in told] == [
        ("requests", 100, None, 1.0),
        ("output_tokens", 8000, 10, None),
    ]


def test_a_message_is_bounded_and_repeats_neither_prompt_nor_key() -> None:
    prompt = "Write a letter to Ada Lovelace, who lives in Elm Street"
    error = refusal(
        400,
        {},
        openai(f"Invalid value: '{prompt}' with key sk-proj-abcdef123456. " + "x " * 500, "odd"),
        WALL,
        (prompt, "sk-proj-abcdef123456"),
    )
    assert "Ada" not in error.message
    assert "Elm" not in error.message
    assert "sk-proj" not in error.message
    assert "Invalid value" in error.message
    assert len(error.message) < MAX_MESSAGE_CHARS + 120
    assert error.details.payload() == {"class": "invalid_request", "status": 400, "code": "odd"}


def test_a_short_prompt_is_not_repeated_either() -> None:
    assert "Berlin" not in sanitised('the input "Berlin" is not allowed', ("Berlin",))
    key = "0f8e4c1a-9a1b-4c1d-8e2f-001122334455"
    assert sanitised(f"bad: {key} tides here", (f"{key} tides",)) == "bad: … here"
    assert sanitised(f"bad: {key} of {key}", ()) == "bad: … of …"
    assert sanitised("a\x1b[31mred\nline") == "a [31mred line"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"choices": []}, False),
        ({"error": None, "choices": [{}]}, False),
        ({"error": {}}, False),
        ({"error": {"code": 1}}, True),
        ({"object": "error", "message": "x"}, True),
        ([1], False),
        ("text", False),
    ],
)
def test_which_bodies_hold_an_error(body: Any, expected: bool) -> None:
    assert holds_error(body) is expected


def test_an_error_with_status_200_keeps_that_status() -> None:
    error = refusal(200, {}, openai("Provider returned error", 502), WALL)
    assert error.details.status == 200
    assert error.error_type == "ErrorInBody"
    assert "(HTTP 200, 502)" in error.message
    refused = refusal(502, {}, openai("Provider returned error", 502), WALL)
    assert (refused.details.status, refused.error_type) == (502, "HTTP502")
