"""SQL for answered calls with their tokens and cost, and whether they came to nothing."""

from __future__ import annotations

ANSWERED_CALLS = """
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
"""
"""Over the tables of a recording that is attached as `recording`."""

SPENDING = {
    "calls": "count(*)",
    "prompt_tokens": "CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT)",
    "completion_tokens": "CAST(coalesce(sum(completion_tokens), 0) AS BIGINT)",
    "cached_tokens": "CAST(coalesce(sum(cached_tokens), 0) AS BIGINT)",
    "reasoning_tokens": "CAST(coalesce(sum(reasoning_tokens), 0) AS BIGINT)",
    "cost": "sum(cost)",
    "unpriced_calls": "count(*) - count(cost)",
    "wasted_tokens": "CAST(coalesce(sum(CASE WHEN wasted THEN prompt_tokens + completion_tokens "
    "END), 0) AS BIGINT)",
    "wasted_cost": "sum(CASE WHEN wasted THEN cost END)",
}
"""What is said of them together, by name."""


def spending_query() -> str:
    """The same by column and model, on the connection of the recording itself."""
    totals = ", ".join(SPENDING.values())
    source = ANSWERED_CALLS.replace("recording.", "")
    return f"SELECT task_column, model, {totals} FROM {source} GROUP BY 1, 2 ORDER BY 1, 2"
