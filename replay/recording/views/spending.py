"""The view `spending`."""

from __future__ import annotations

from replay.recording.spending_sql import ANSWERED_CALLS
from replay.recording.spending_sql import SPENDING as TOTALS
from replay.recording.views.view import (
    BIGINT,
    COUNT,
    DOUBLE,
    NO_UNIT,
    SECONDS,
    VARCHAR,
    Column,
    View,
)

_TOKENS = "tokens"
_DOLLARS = "USD"


SPENDING = View(
    "spending",
    "tokens and money of the calls that were answered, by column and model",
    "first_at",
    (
        Column(
            "task_column",
            VARCHAR,
            NO_UNIT,
            "column of the tasks that called; null for checks of a provider's health",
            "task_column",
        ),
        Column("model", VARCHAR, NO_UNIT, "provider/model", "model"),
        Column("calls", BIGINT, COUNT, "answered calls", TOTALS["calls"]),
        Column("prompt_tokens", BIGINT, _TOKENS, "in", TOTALS["prompt_tokens"]),
        Column("completion_tokens", BIGINT, _TOKENS, "out", TOTALS["completion_tokens"]),
        Column(
            "cached_tokens",
            BIGINT,
            _TOKENS,
            "of those in, from the provider's cache",
            TOTALS["cached_tokens"],
        ),
        Column(
            "reasoning_tokens",
            BIGINT,
            _TOKENS,
            "of those out, for reasoning",
            TOTALS["reasoning_tokens"],
        ),
        Column(
            "cost",
            DOUBLE,
            _DOLLARS,
            "of the calls whose cost is known; null where that is none",
            TOTALS["cost"],
        ),
        Column(
            "unpriced_calls",
            BIGINT,
            COUNT,
            "calls whose cost is not known",
            TOTALS["unpriced_calls"],
        ),
        Column(
            "wasted_tokens",
            BIGINT,
            _TOKENS,
            "in and out, of calls whose answer was rejected, whose execution did not complete its "
            "task, or whose row was dropped",
            TOTALS["wasted_tokens"],
        ),
        Column(
            "wasted_cost",
            DOUBLE,
            _DOLLARS,
            "cost of those calls, where known",
            TOTALS["wasted_cost"],
        ),
        Column("first_at", DOUBLE, SECONDS, "when the first of them was answered", "min(t) - {t0}"),
    ),
    ANSWERED_CALLS + "GROUP BY task_column, model",
)
