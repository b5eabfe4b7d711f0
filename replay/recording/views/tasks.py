"""The view `tasks`."""

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

TASKS = View(
    "tasks",
    "one row for each task (a cell, or a batch of a row group) that became ready",
    "ready_at",
    (
        Column("task_id", VARCHAR, NO_UNIT, "as the producer names it", "task_id"),
        Column(
            "task_column",
            VARCHAR,
            NO_UNIT,
            "column of the workflow",
            "coalesce(ready.task_column, leased.task_column)",
        ),
        Column(
            "task_group",
            VARCHAR,
            NO_UNIT,
            "scheduling group; null where it never held a lease",
            "task_group",
        ),
        Column(
            "row_group",
            BIGINT,
            NO_UNIT,
            "number of the row group",
            "coalesce(ready.row_group, leased.row_group)",
        ),
        Column(
            "row_index",
            BIGINT,
            NO_UNIT,
            "number of the row over all row groups, null for a batch",
            "row_index",
        ),
        Column(
            "ready_at",
            DOUBLE,
            SECONDS,
            "when it first was dependency-ready",
            "coalesce(ready.ready_at, leased.ready_at)",
        ),
        Column(
            "released_at",
            DOUBLE,
            SECONDS,
            "when its last lease was released; null while open",
            "released_at",
        ),
        Column(
            "result",
            VARCHAR,
            NO_UNIT,
            "of the last lease: completed, deferred, dropped, cancelled, open, unknown; "
            "or never leased",
            "coalesce(result, 'never leased')",
        ),
        Column("error", VARCHAR, NO_UNIT, "error type of the last lease", "error"),
        Column(
            "leases", BIGINT, COUNT, "executions, the first and all retries", "coalesce(leases, 0)"
        ),
        Column(
            "ready_to_done",
            DOUBLE,
            SECONDS,
            "released_at - ready_at",
            "released_at - coalesce(ready.ready_at, leased.ready_at)",
        ),
        Column(
            "ready_queue_wait", DOUBLE, SECONDS, "in the queue, over all leases", "ready_queue_wait"
        ),
        Column(
            "task_admission_wait",
            DOUBLE,
            SECONDS,
            "from selection to the lease, over all leases",
            "task_admission_wait",
        ),
        Column("held", DOUBLE, SECONDS, "with a task lease, over all leases", "held"),
        Column("requests", BIGINT, COUNT, "request attempts", "coalesce(requests, 0)"),
        Column(
            "request_wait",
            DOUBLE,
            SECONDS,
            "waiting for request leases, of the waits that ended",
            "request_wait",
        ),
        Column(
            "provider_time",
            DOUBLE,
            SECONDS,
            "calls under way at the provider, of the calls that ended",
            "provider_time",
        ),
        Column(
            "own_time",
            DOUBLE,
            SECONDS,
            "of the worker outside all its requests; null where not known",
            "own_time",
        ),
        Column(
            "first_ordinal",
            BIGINT,
            NO_UNIT,
            "ordinal of the event that first made it ready",
            "first_ordinal",
        ),
    ),
    """
    (
        SELECT task_id, arg_min(task_column, ordinal) AS task_column,
            min(row_group) AS row_group, min(t) - {t0} AS ready_at, min(ordinal) AS first_ordinal
        FROM recording.events
        WHERE task_id IS NOT NULL AND kind IN ('dependency_ready', 'ready_enqueued')
        GROUP BY task_id
    ) AS ready
    FULL JOIN (
        SELECT task_id, any_value(task_column) AS task_column,
            any_value(task_group) AS task_group, min(row_group) AS row_group,
            min(row_index) AS row_index, count(*) AS leases, min(ready_at) AS ready_at,
            CASE WHEN bool_and(released_at IS NOT NULL) THEN max(released_at) END AS released_at,
            arg_max(CASE WHEN released_at IS NULL THEN 'open' ELSE coalesce(result, 'unknown') END,
                acquired_ordinal) AS result,
            arg_max(error, acquired_ordinal) AS error,
            sum(ready_queue_wait) AS ready_queue_wait,
            sum(task_admission_wait) AS task_admission_wait, sum(held) AS held,
            sum(requests)::BIGINT AS requests, sum(request_wait) AS request_wait,
            sum(provider_time) AS provider_time, sum(own_time) AS own_time
        FROM leases GROUP BY task_id
    ) AS leased USING (task_id)
    """,
    reads=("leases",),
)
