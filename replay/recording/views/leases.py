"""The view `leases`.

Its waits are those of `replay.state.waits`, computed over whole tables: `own_time` is the time of
the worker less the union of its requests, since requests of one lease may run side by side.
"""

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

# `reached` is the latest end among the requests that began earlier: what a request covers beyond it
# is not counted twice.
_REQUESTS_OF_A_LEASE = """
    SELECT execution_id,
        count(*) AS requests,
        sum(gap(wait_started_at, coalesce(acquired_at, released_at))) AS request_wait,
        sum(gap(started_at, coalesce(completed_at, released_at))) AS provider_time,
        CASE WHEN bool_and("end" IS NOT NULL OR "begin" IS NULL)
            THEN sum(gap(greatest("begin", reached), "end")) END AS covered
    FROM (
        SELECT *, coalesce(max("end") OVER (
            PARTITION BY execution_id ORDER BY "begin", "end"
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), '-infinity'::DOUBLE) AS reached
        FROM (
            SELECT *, coalesce(wait_started_at, acquired_at, started_at) AS "begin",
                CASE WHEN released_at IS NOT NULL
                    THEN greatest(released_at, completed_at) END AS "end"
            FROM recording.attempts WHERE execution_id IS NOT NULL
        )
    )
    GROUP BY execution_id
"""

LEASES = View(
    "leases",
    "one row for each task lease; a retried task has several",
    "acquired_at",
    (
        Column("lease_id", VARCHAR, NO_UNIT, "as the producer names it", "lease_id"),
        Column("task_id", VARCHAR, NO_UNIT, "the task", "task_id"),
        Column("task_column", VARCHAR, NO_UNIT, "column of the workflow", '"column"'),
        Column("task_group", VARCHAR, NO_UNIT, "scheduling group", '"group"'),
        Column("row_group", BIGINT, NO_UNIT, "number of the row group", "row_group"),
        Column("row_index", BIGINT, NO_UNIT, "number of the row, null for a batch", '"row"'),
        Column("attempt", BIGINT, COUNT, "1 for the first execution of the task", "attempt"),
        Column(
            "execution_id",
            VARCHAR,
            NO_UNIT,
            "as in requests; null where no worker was spawned",
            "execution_id",
        ),
        Column("ready_at", DOUBLE, SECONDS, "dependency-ready", "ready_at - {t0}"),
        Column("enqueued_at", DOUBLE, SECONDS, "in the queue", "enqueued_at - {t0}"),
        Column("selected_at", DOUBLE, SECONDS, "chosen by the queue", "selected_at - {t0}"),
        Column("acquired_at", DOUBLE, SECONDS, "lease acquired", "acquired_at - {t0}"),
        Column("spawned_at", DOUBLE, SECONDS, "worker spawned", "spawned_at - {t0}"),
        Column(
            "released_at",
            DOUBLE,
            SECONDS,
            "lease released; null where that is not known",
            "released_at - {t0}",
        ),
        Column("result", VARCHAR, NO_UNIT, "completed, deferred, dropped, cancelled", "result"),
        Column("error", VARCHAR, NO_UNIT, "error type", "error"),
        Column(
            "ready_queue_wait",
            DOUBLE,
            SECONDS,
            "selected_at - enqueued_at",
            "gap(enqueued_at, selected_at)",
        ),
        Column(
            "task_admission_wait",
            DOUBLE,
            SECONDS,
            "acquired_at - selected_at",
            "gap(selected_at, acquired_at)",
        ),
        Column(
            "ready_to_lease_gap",
            DOUBLE,
            SECONDS,
            "acquired_at - enqueued_at",
            "gap(enqueued_at, acquired_at)",
        ),
        Column("held", DOUBLE, SECONDS, "released_at - acquired_at", "released_at - acquired_at"),
        Column(
            "requests",
            BIGINT,
            COUNT,
            "request attempts under this lease",
            "coalesce(requests, 0)",
        ),
        Column(
            "request_wait",
            DOUBLE,
            SECONDS,
            "waiting for request leases, of the waits that ended",
            "coalesce(request_wait, 0)",
        ),
        Column(
            "provider_time",
            DOUBLE,
            SECONDS,
            "calls under way at the provider, of the calls that ended",
            "coalesce(provider_time, 0)",
        ),
        Column(
            "own_time",
            DOUBLE,
            SECONDS,
            "of the worker outside all its requests; null where not known",
            "gap(spawned_at + CASE WHEN requests IS NULL THEN 0 ELSE covered END, released_at)",
        ),
        Column(
            "acquired_ordinal",
            BIGINT,
            NO_UNIT,
            "ordinal of the event that acquired it",
            "acquired_ordinal",
        ),
        Column(
            "released_ordinal",
            BIGINT,
            NO_UNIT,
            "ordinal of the event that released it",
            "released_ordinal",
        ),
    ),
    f"recording.leases LEFT JOIN ({_REQUESTS_OF_A_LEASE}) USING (execution_id)",
)
