"""The view `spending`."""

from __future__ import annotations

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


def _total(name: str) -> str:
    return f"CAST(coalesce(sum({name}), 0) AS BIGINT)"


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
        Column("calls", BIGINT, COUNT, "answered calls", "count(*)"),
        Column("prompt_tokens", BIGINT, _TOKENS, "in", _total("prompt_tokens")),
        Column("completion_tokens", BIGINT, _TOKENS, "out", _total("completion_tokens")),
        Column(
            "cached_tokens",
            BIGINT,
            _TOKENS,
            "of those in, from the provider's cache",
            _total("cached_tokens"),
        ),
        Column(
            "reasoning_tokens",
            BIGINT,
            _TOKENS,
            "of those out, for reasoning",
            _total("reasoning_tokens"),
        ),
        Column(
            "cost",
            DOUBLE,
            _DOLLARS,
            "of the calls whose cost is known; null where that is none",
            "sum(cost)",
        ),
        Column(
            "unpriced_calls", BIGINT, COUNT, "calls whose cost is not known", "count(*) - count(cost)"
        ),
        Column(
            "wasted_tokens",
            BIGINT,
            _TOKENS,
            "in and out, of calls whose answer was rejected, whose execution did not complete its "
            "task, or whose row was dropped",
            "CAST(coalesce(sum(CASE WHEN wasted THEN prompt_tokens + completion_tokens END), 0) "
            "AS BIGINT)",
        ),
        Column(
            "wasted_cost",
            DOUBLE,
            _DOLLARS,
            "cost of those calls, where known",
            "sum(CASE WHEN wasted THEN cost END)",
        ),
        Column("first_at", DOUBLE, SECONDS, "when the first of them was answered", "min(t) - {t0}"),
    ),
    """
    (
        SELECT calls.*, action IN ('retry', 'drop') OR result NOT IN ('completed', 'open')
            OR dropped.row_index IS NOT NULL AS wasted
        FROM (
            SELECT t, task_column, attempt_id, provider_name || '/' || model_id AS model,
                coalesce(TRY_CAST(json_extract_string(diagnostics, '$.prompt_tokens') AS BIGINT), 0)
                    AS prompt_tokens,
                coalesce(
                    TRY_CAST(json_extract_string(diagnostics, '$.completion_tokens') AS BIGINT), 0)
                    AS completion_tokens,
                TRY_CAST(json_extract_string(diagnostics, '$.cached_tokens') AS BIGINT)
                    AS cached_tokens,
                TRY_CAST(json_extract_string(diagnostics, '$.reasoning_tokens') AS BIGINT)
                    AS reasoning_tokens,
                TRY_CAST(json_extract_string(diagnostics, '$.cost') AS DOUBLE) AS cost,
                coalesce(json_extract_string(diagnostics, '$.action'), '') AS action
            FROM recording.events
            WHERE kind = 'model_request_completed' AND reason = 'success'
        ) AS calls
        LEFT JOIN (
            SELECT attempt_id, any_value(execution_id) AS execution_id FROM recording.attempts
            GROUP BY attempt_id
        ) AS attempts USING (attempt_id)
        LEFT JOIN (
            SELECT execution_id, any_value("row") AS row_index,
                any_value(CASE WHEN released_at IS NULL THEN 'open'
                    ELSE coalesce(result, 'open') END) AS result
            FROM recording.leases WHERE execution_id IS NOT NULL GROUP BY execution_id
        ) AS executions USING (execution_id)
        LEFT JOIN (
            SELECT DISTINCT "row" AS row_index FROM recording.leases
            WHERE result = 'dropped' AND "row" IS NOT NULL
        ) AS dropped ON dropped.row_index = executions.row_index
    )
    GROUP BY task_column, model
    """,
)
