"""The view `requests`."""

from __future__ import annotations

from replay.recording.views.view import BIGINT, DOUBLE, NO_UNIT, SECONDS, VARCHAR, Column, View

REQUESTS = View(
    "requests",
    "one row for each request attempt",
    "wait_started_at",
    (
        Column("attempt_id", VARCHAR, NO_UNIT, "as the producer names it", "attempt_id"),
        Column("resource", VARCHAR, NO_UNIT, "provider/model/domain", "resource"),
        Column("task_column", VARCHAR, NO_UNIT, "column of the task that made it", '"column"'),
        Column("task_id", VARCHAR, NO_UNIT, "the task that made it", "task_id"),
        Column("execution_id", VARCHAR, NO_UNIT, "its execution, as in leases", "execution_id"),
        Column("lease_id", VARCHAR, NO_UNIT, "request lease; null where it got none", "lease_id"),
        Column(
            "wait_started_at",
            DOUBLE,
            SECONDS,
            "when it asked for a lease",
            "wait_started_at - {t0}",
        ),
        Column("acquired_at", DOUBLE, SECONDS, "when it got one", "acquired_at - {t0}"),
        Column("started_at", DOUBLE, SECONDS, "when the call went out", "started_at - {t0}"),
        Column("completed_at", DOUBLE, SECONDS, "when the call came back", "completed_at - {t0}"),
        Column(
            "released_at",
            DOUBLE,
            SECONDS,
            "when it ended; null where that is not known",
            "released_at - {t0}",
        ),
        Column(
            "outcome", VARCHAR, NO_UNIT, "success, rate_limited, provider_failure, ...", "outcome"
        ),
        Column(
            "request_wait",
            DOUBLE,
            SECONDS,
            "until it got a lease, or gave up",
            "gap(wait_started_at, coalesce(acquired_at, released_at))",
        ),
        Column(
            "provider_time",
            DOUBLE,
            SECONDS,
            "from the call's start to its answer, or to its end where none came",
            "gap(started_at, coalesce(completed_at, released_at))",
        ),
        Column(
            "held", DOUBLE, SECONDS, "released_at - acquired_at", "gap(acquired_at, released_at)"
        ),
        Column("first_ordinal", BIGINT, NO_UNIT, "ordinal of its first event", "first_ordinal"),
        Column("last_ordinal", BIGINT, NO_UNIT, "ordinal of its last event", "last_ordinal"),
    ),
    """
    recording.attempts LEFT JOIN (
        SELECT execution_id, any_value(task_id) AS task_id FROM recording.leases
        WHERE execution_id IS NOT NULL GROUP BY execution_id
    ) USING (execution_id)
    """,
)
