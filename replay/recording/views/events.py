"""The view `events`."""

from __future__ import annotations

from replay.recording.views.view import BIGINT, DOUBLE, NO_UNIT, SECONDS, VARCHAR, Column, View

EVENTS = View(
    "events",
    "the stream itself, one row for each event",
    "t",
    (
        Column("ordinal", BIGINT, NO_UNIT, "position of the event in the recording", "ordinal"),
        Column("t", DOUBLE, SECONDS, "when it happened", "t - {t0}"),
        Column("stream", VARCHAR, NO_UNIT, "scheduler or request", "stream"),
        Column("kind", VARCHAR, NO_UNIT, "what happened", "kind"),
        Column("sequence", BIGINT, NO_UNIT, "the producer's number in the stream", "seq"),
        Column("row_group", BIGINT, NO_UNIT, "of the correlated task", "row_group"),
        Column("task_column", VARCHAR, NO_UNIT, "of the correlated task", "task_column"),
        Column("task_id", VARCHAR, NO_UNIT, "scheduler stream", "task_id"),
        Column("execution_id", VARCHAR, NO_UNIT, "scheduler stream", "execution_id"),
        Column("attempt_id", VARCHAR, NO_UNIT, "request stream", "attempt_id"),
        Column("lease_id", VARCHAR, NO_UNIT, "task lease or request lease", "lease_id"),
        Column(
            "resource",
            VARCHAR,
            NO_UNIT,
            "scheduler or request resource",
            "coalesce(scheduler_resource, provider_name || '/' || model_id || '/' || domain)",
        ),
        Column("reason", VARCHAR, NO_UNIT, "reason, result or outcome", "reason"),
        Column("diagnostics", VARCHAR, NO_UNIT, "as JSON", "diagnostics"),
        Column("snapshot", VARCHAR, NO_UNIT, "as JSON", "snapshot"),
    ),
    "recording.events",
)
