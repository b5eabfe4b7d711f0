"""Names of attributes: those of the GenAI semantic conventions, and our own.

The conventions for generative AI are in development status, so that each of their names stands
here and nowhere else.
"""

from __future__ import annotations

SCOPE = "headgate"

# Of the semantic conventions.
ERROR_TYPE = "error.type"
HTTP_STATUS = "http.response.status_code"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
FINISH_REASONS = "gen_ai.response.finish_reasons"

OPERATION_BY_DOMAIN = {
    "chat": "chat",
    "embedding": "embeddings",
    "image": "generate_content",
    "healthcheck": "chat",
}
"""Request domain -> the operation that the conventions call it by."""

# Our own, on metrics.
EVENT_KIND = "headgate.event.kind"
RESOURCE_KIND = "headgate.scheduler.resource.kind"
DOMAIN = "headgate.request.domain"
ALGORITHM = "headgate.algorithm"
REASON = "reason"
UNDERLYING_CAUSE = "underlying_cause"

# Our own, on spans alone.
RUN_ID = "headgate.run.id"
COLUMN = "headgate.column"
ROW_GROUP = "headgate.row_group"
TASK_ID = "headgate.task.id"
EXECUTION_ID = "headgate.task.execution.id"
TASK_LEASE_ID = "headgate.task.lease.id"
TASK_RESULT = "headgate.task.result"
ATTEMPT_ID = "headgate.request.attempt.id"
ATTEMPT_NUMBER = "headgate.request.attempt.number"
ATTEMPTS = "headgate.request.attempts"
OUTCOME = "headgate.request.outcome"
WAIT_SECONDS = "headgate.request.wait_seconds"

METRIC_LABELS = frozenset(
    {
        EVENT_KIND,
        RESOURCE_KIND,
        PROVIDER,
        MODEL,
        DOMAIN,
        OPERATION,
        ALGORITHM,
        REASON,
        UNDERLYING_CAUSE,
    }
)
"""The only labels of metrics. Each has few values: ids of runs, rows, tasks, leases and attempts,
columns, and ids of models belong into traces and recordings. `OPERATION` is the request domain by
the name of the conventions; the value of `MODEL` is an alias of the workflow."""


def operation_of(domain: str) -> str:
    """The conventions' name of the operation; a domain without one keeps its own."""
    return OPERATION_BY_DOMAIN.get(domain, domain)
