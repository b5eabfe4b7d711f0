"""The documented views: what a recording can be asked in SQL, in words that stay.

The tables behind them may change with the schema; these names, columns and units do not. They are
made when a recording is opened for queries, so that every recording has them, whoever wrote it.
"""

from __future__ import annotations

from typing import NamedTuple

RECORDING = "recording"
"""The catalog under which the tables themselves are attached, read-only."""


class Column(NamedTuple):
    name: str
    unit: str
    meaning: str


class View(NamedTuple):
    name: str
    holds: str
    columns: tuple[Column, ...]
    moment: str
    """The column whose time `utc_time` and `local_time` are."""
    sql: str
    """Without those two. `{t0}` is the time of the first event, `{start}` that at which bin 0
    begins; `{rollup}` and `{blame}` are those tables with a row for each bin."""


_GAP = """
    CREATE MACRO gap(begun, ended) AS
    CASE WHEN begun IS NOT NULL AND ended IS NOT NULL THEN greatest(0, ended - begun) END
"""
"""`greatest` passes over a null; a length whose end is not known is not known."""

_UTC = "CREATE MACRO utc(seconds) AS make_timestamp({microseconds})"
_LOCAL = """
    CREATE MACRO local(seconds) AS
    timezone(current_setting('TimeZone'), make_timestamptz({microseconds}))
"""

_AT = "s"
_ID = ""
_N = "count"

_REQUESTS_OF_A_LEASE = """
    SELECT execution_id,
        count(*) AS requests,
        sum(gap(wait_started_at, acquired_at)) AS request_wait,
        sum(gap(started_at, completed_at)) AS provider_time,
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

_LEASES = f"""
    SELECT lease_id, task_id, "column" AS task_column, "group" AS task_group, row_group,
        "row" AS row_index, attempt, execution_id,
        ready_at - {{t0}} AS ready_at,
        enqueued_at - {{t0}} AS enqueued_at,
        selected_at - {{t0}} AS selected_at,
        acquired_at - {{t0}} AS acquired_at,
        spawned_at - {{t0}} AS spawned_at,
        released_at - {{t0}} AS released_at,
        result, error,
        gap(enqueued_at, selected_at) AS ready_queue_wait,
        gap(selected_at, acquired_at) AS task_admission_wait,
        gap(enqueued_at, acquired_at) AS ready_to_lease_gap,
        released_at - acquired_at AS held,
        coalesce(requests, 0) AS requests,
        coalesce(request_wait, 0) AS request_wait,
        coalesce(provider_time, 0) AS provider_time,
        gap(spawned_at + CASE WHEN requests IS NULL THEN 0 ELSE covered END, released_at)
            AS own_time,
        acquired_ordinal, released_ordinal
    FROM recording.leases LEFT JOIN ({_REQUESTS_OF_A_LEASE}) USING (execution_id)
"""

_TASKS = """
    WITH seen AS (
        SELECT task_id, arg_min(task_column, ordinal) AS task_column,
            min(row_group) AS row_group, min(t) - {t0} AS ready_at, min(ordinal) AS first_ordinal
        FROM recording.events
        WHERE task_id IS NOT NULL AND kind IN ('dependency_ready', 'ready_enqueued')
        GROUP BY task_id
    ),
    held AS (
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
    )
    SELECT task_id, coalesce(seen.task_column, held.task_column) AS task_column, task_group,
        coalesce(seen.row_group, held.row_group) AS row_group, row_index,
        coalesce(seen.ready_at, held.ready_at) AS ready_at, released_at,
        coalesce(result, 'never leased') AS result, error, coalesce(leases, 0) AS leases,
        released_at - coalesce(seen.ready_at, held.ready_at) AS ready_to_done,
        ready_queue_wait, task_admission_wait, held, coalesce(requests, 0) AS requests,
        request_wait, provider_time, own_time, first_ordinal
    FROM seen FULL JOIN held USING (task_id)
"""

_REQUESTS = """
    SELECT attempt_id, resource, "column" AS task_column, task_id, execution_id, lease_id,
        wait_started_at - {t0} AS wait_started_at,
        acquired_at - {t0} AS acquired_at,
        started_at - {t0} AS started_at,
        completed_at - {t0} AS completed_at,
        released_at - {t0} AS released_at,
        outcome,
        gap(wait_started_at, acquired_at) AS request_wait,
        gap(started_at, completed_at) AS provider_time,
        gap(acquired_at, released_at) AS held,
        first_ordinal, last_ordinal
    FROM recording.attempts LEFT JOIN (
        SELECT execution_id, any_value(task_id) AS task_id FROM recording.leases
        WHERE execution_id IS NOT NULL GROUP BY execution_id
    ) USING (execution_id)
"""

_ROLLUP = "series, key, mean, last, peak"
_BLAMED = 'scope, "column", row_group, resource, verdict, seconds'

_CEILINGS = """
    SELECT {start} + bin - {t0} AS t, key AS resource,
        max(last) FILTER (series = 'limit') AS ceiling,
        max(last) FILTER (series = 'effective_max') AS effective_max,
        coalesce(max(mean) FILTER (series = 'in_flight'), 0) AS in_flight,
        coalesce(max(peak) FILTER (series = 'in_flight'), 0) AS in_flight_peak,
        coalesce(max(mean) FILTER (series = 'waiters'), 0) AS waiters,
        coalesce(max(peak) FILTER (series = 'waiters'), 0) AS waiters_peak,
        coalesce(max(mean) FILTER (series = 'cooling'), 0) AS cooling,
        coalesce(max(mean) FILTER (series = 'completed'), 0)::BIGINT AS completed,
        coalesce(max(mean) FILTER (series = 'rate_limited'), 0)::BIGINT AS rate_limited
    FROM {rollup}
    WHERE series IN ('limit', 'effective_max', 'in_flight', 'waiters', 'cooling', 'completed',
        'rate_limited')
    GROUP BY bin, key
    ORDER BY bin, key
"""

_STALLS = """
    SELECT "start" - {t0} AS started_at, "end" - {t0} AS ended_at, "end" - "start" AS seconds,
        verdict, tier, resource, sentence,
        json_extract_string(detail, '$.advice') AS advice, evidence, detail,
        CAST(json_extract(detail, '$.expected_release') AS DOUBLE) - {t0} AS expected_release,
        CAST(json_extract(detail, '$.waiting') AS BIGINT) AS waiting
    FROM recording.verdicts
    ORDER BY "start", "end"
"""

_BLAME = """
    SELECT {start} + bin - {t0} AS t, scope, "column" AS task_column, row_group, resource, verdict,
        seconds
    FROM {blame}
"""

_SERIES = """
    SELECT {start} + bin - {t0} AS t, series, key, mean, last, peak FROM {rollup}
"""

_EVENTS = """
    SELECT ordinal, t - {t0} AS t, stream, kind, seq AS sequence, row_group, task_column, task_id,
        execution_id, attempt_id, lease_id,
        coalesce(scheduler_resource, provider_name || '/' || model_id || '/' || domain) AS resource,
        reason, diagnostics, snapshot
    FROM recording.events
"""


def _moments(column: str) -> tuple[Column, Column]:
    return (
        Column("utc_time", "UTC", f"{column} as a timestamp; null where not told"),
        Column("local_time", "local", f"{column} in the time zone of the reader"),
    )


_ordinal = "ordinal of the event in the recording"
_waits = (
    Column("request_wait", _AT, "waiting for request leases, as far as they came"),
    Column("provider_time", _AT, "calls under way at the provider, as far as they ended"),
    Column("own_time", _AT, "of the worker outside all its requests; null where not known"),
)

VIEWS: tuple[View, ...] = (
    View(
        "tasks",
        "one row for each task (a cell, or a batch of a row group) that became ready",
        (
            Column("task_id", _ID, "as the producer names it"),
            Column("task_column", _ID, "column of the workflow"),
            Column("task_group", _ID, "scheduling group; null where it never held a lease"),
            Column("row_group", _ID, "number of the row group"),
            Column("row_index", _ID, "number of the row over all row groups, null for a batch"),
            Column("ready_at", _AT, "when it first was dependency-ready"),
            Column("released_at", _AT, "when its last lease was released; null while open"),
            Column(
                "result",
                _ID,
                "of the last lease: completed, deferred, dropped, cancelled, open, unknown; "
                "or never leased",
            ),
            Column("error", _ID, "error type of the last lease"),
            Column("leases", _N, "executions, the first and all retries"),
            Column("ready_to_done", _AT, "released_at - ready_at"),
            Column("ready_queue_wait", _AT, "in the queue, over all leases"),
            Column("task_admission_wait", _AT, "from selection to the lease, over all leases"),
            Column("held", _AT, "with a task lease"),
            Column("requests", _N, "request attempts"),
            *_waits,
            Column("first_ordinal", _ID, f"of its first readiness: {_ordinal}"),
            *_moments("ready_at"),
        ),
        "ready_at",
        _TASKS,
    ),
    View(
        "requests",
        "one row for each request attempt",
        (
            Column("attempt_id", _ID, "as the producer names it"),
            Column("resource", _ID, "provider/model/domain"),
            Column("task_column", _ID, "column of the task that asked"),
            Column("task_id", _ID, "the task that asked"),
            Column("execution_id", _ID, "its execution, as in leases"),
            Column("lease_id", _ID, "request lease; null where it got none"),
            Column("wait_started_at", _AT, "when it asked for a lease"),
            Column("acquired_at", _AT, "when it got one"),
            Column("started_at", _AT, "when the call went out"),
            Column("completed_at", _AT, "when the call came back"),
            Column("released_at", _AT, "when it ended; null where that is not known"),
            Column("outcome", _ID, "success, rate_limited, provider_failure, ..."),
            Column("request_wait", _AT, "acquired_at - wait_started_at"),
            Column("provider_time", _AT, "completed_at - started_at"),
            Column("held", _AT, "released_at - acquired_at"),
            Column("first_ordinal", _ID, f"its first event: {_ordinal}"),
            Column("last_ordinal", _ID, f"its last event: {_ordinal}"),
            *_moments("wait_started_at"),
        ),
        "wait_started_at",
        _REQUESTS,
    ),
    View(
        "leases",
        "one row for each task lease; a retried task has several",
        (
            Column("lease_id", _ID, "as the producer names it"),
            Column("task_id", _ID, "the task"),
            Column("task_column", _ID, "column of the workflow"),
            Column("task_group", _ID, "scheduling group"),
            Column("row_group", _ID, "number of the row group"),
            Column("row_index", _ID, "number of the row, null for a batch"),
            Column("attempt", _N, "1 for the first execution of the task"),
            Column("execution_id", _ID, "as in requests; null where no worker was spawned"),
            Column("ready_at", _AT, "dependency-ready"),
            Column("enqueued_at", _AT, "in the queue"),
            Column("selected_at", _AT, "chosen by the queue"),
            Column("acquired_at", _AT, "lease acquired"),
            Column("spawned_at", _AT, "worker spawned"),
            Column("released_at", _AT, "lease released; null where that is not known"),
            Column("result", _ID, "completed, deferred, dropped, cancelled"),
            Column("error", _ID, "error type"),
            Column("ready_queue_wait", _AT, "selected_at - enqueued_at"),
            Column("task_admission_wait", _AT, "acquired_at - selected_at"),
            Column("ready_to_lease_gap", _AT, "acquired_at - enqueued_at"),
            Column("held", _AT, "released_at - acquired_at"),
            Column("requests", _N, "request attempts under this lease"),
            *_waits,
            Column("acquired_ordinal", _ID, _ordinal),
            Column("released_ordinal", _ID, _ordinal),
            *_moments("acquired_at"),
        ),
        "acquired_at",
        _LEASES,
    ),
    View(
        "ceilings",
        "one row for each second and request resource: its ceiling and what used it",
        (
            Column("t", _AT, "when the second begins"),
            Column("resource", _ID, "provider/model/domain"),
            Column("ceiling", "requests", "adaptive limit at the end of the second"),
            Column("effective_max", "requests", "the most the limit can be"),
            Column("in_flight", "requests", "mean over the second"),
            Column("in_flight_peak", "requests", "most at once"),
            Column("waiters", "requests", "mean over the second"),
            Column("waiters_peak", "requests", "most at once"),
            Column("cooling", "0 to 1", "part of the second in a cooldown"),
            Column("completed", _N, "calls that came back well"),
            Column("rate_limited", _N, "calls answered with 429"),
            *_moments("t"),
        ),
        "t",
        _CEILINGS,
    ),
    View(
        "stalls",
        "one row for each proved interval in which something did not move",
        (
            Column("started_at", _AT, "begin"),
            Column("ended_at", _AT, "end"),
            Column("seconds", _AT, "length"),
            Column("verdict", _ID, "what held it up"),
            Column("tier", _ID, "A (must never happen) to F"),
            Column("resource", _ID, "what it is about; null for the run"),
            Column("sentence", _ID, "for people, as it was worded when recorded"),
            Column("advice", _ID, "what can be changed, as it was worded when recorded"),
            Column("evidence", _ID, "ordinals of the events that prove it, a list"),
            Column("detail", _ID, "facts of the verdict, holders and losing verdicts, as JSON"),
            Column("expected_release", _AT, "when it frees itself; null where that is not known"),
            Column("waiting", _N, "tasks and calls in line for it"),
            *_moments("started_at"),
        ),
        "started_at",
        _STALLS,
    ),
    View(
        "blame",
        "seconds of blame by second, verdict and what it is about",
        (
            Column("t", _AT, "when the second begins"),
            Column("scope", _ID, "cell: time of live cells; run: time of request slots in demand"),
            Column("task_column", _ID, "column of the cells; empty for run"),
            Column("row_group", _ID, "of the cells"),
            Column("resource", _ID, "what the verdict is about; empty for none"),
            Column("verdict", _ID, "working, or why not"),
            Column("seconds", "cell-s, slot-s", "so many cells or slots times seconds"),
            *_moments("t"),
        ),
        "t",
        _BLAME,
    ),
    View(
        "series",
        "numbers over time, a row for each second in which one changed or is not zero",
        (
            Column("t", _AT, "when the second begins"),
            Column(
                "series",
                _ID,
                "by group: queue_depth; by request resource: limit, effective_max, in_flight, "
                "waiters, cooling, completed, rate_limited; by scheduler resource: leased; by "
                "reason: blocked; by column: tasks_done; of the run: rows_done, tokens, events",
            ),
            Column("key", _ID, "the group, resource, reason or column; empty for the run"),
            Column("mean", "as the series", "over the second (a count: its number)"),
            Column("last", "as the series", "at the end of the second"),
            Column("peak", "as the series", "most at once"),
            *_moments("t"),
        ),
        "t",
        _SERIES,
    ),
    View(
        "events",
        "the stream itself, one row for each event",
        (
            Column("ordinal", _ID, "the one order of the recording"),
            Column("t", _AT, "when it happened"),
            Column("stream", _ID, "scheduler or request"),
            Column("kind", _ID, "what happened"),
            Column("sequence", _ID, "the producer's number in the stream"),
            Column("row_group", _ID, "of the correlated task"),
            Column("task_column", _ID, "of the correlated task"),
            Column("task_id", _ID, "scheduler stream"),
            Column("execution_id", _ID, "scheduler stream"),
            Column("attempt_id", _ID, "request stream"),
            Column("lease_id", _ID, "task lease or request lease"),
            Column("resource", _ID, "scheduler or request resource"),
            Column("reason", _ID, "reason, result or outcome"),
            Column("diagnostics", _ID, "as JSON"),
            Column("snapshot", _ID, "as JSON"),
            *_moments("t"),
        ),
        "t",
        _EVENTS,
    ),
)

RUN_COLUMNS: tuple[Column, ...] = (
    Column("run_id", _ID, "as the producer names it"),
    Column("name", _ID, "of the workflow"),
    Column("producer", _ID, "headgate or data_designer"),
    Column("producer_version", _ID, "empty where not told"),
    Column("wall_start", "Unix s", "wall time of the first event; null where not told"),
    Column("utc_time", "UTC", "the same as a timestamp"),
    Column("local_time", "local", "the same in the time zone of the reader"),
    Column("monotonic_start", _AT, "the producer's clock at the first event"),
    Column("seconds", _AT, "from the first to the last event"),
    Column("events", _N, "in the recording"),
    Column("records", _N, "rows that were asked for"),
    Column("row_groups", _N, "row groups they make"),
    Column("outcome", _ID, "success, failed, cancelled; null where no end was written"),
    Column("complete", "bool", "all of it is in the recording"),
    Column("lost", "bool", "the producer died without an end"),
)
"""Of `run`, which has one row."""

UNITS = (
    "Times (s) are seconds since the first event of the run; waits and lengths are seconds, null "
    "where an end is not known. An empty unit is a name, an id or text. utc(t) and local(t) give "
    "any time of a view as a timestamp; null where the producer did not tell the wall time."
)


def create_macros(began: float | None) -> tuple[str, ...]:
    """The statements to be run before those of the views.

    `began`: Unix seconds of the first event, None where the producer does not tell. `local` is
    in the time zone of the process.
    """
    wall = "NULL::DOUBLE" if began is None else _literal(began)
    microseconds = f"TRY_CAST(({wall} + seconds) * 1e6 AS BIGINT)"
    return (
        _GAP,
        _UTC.format(microseconds=microseconds),
        _LOCAL.format(microseconds=microseconds),
    )


def create_view(view: View, t0: float, start: float, stretches: bool) -> str:
    """The statement that makes `view` in a database to which the recording is attached.

    `stretches`: the recording has rows that hold for many bins, as older ones have not.
    """
    parts = {
        "t0": _literal(t0),
        "start": _literal(start),
        "rollup": _by_bin("rollup", _ROLLUP, stretches),
        "blame": _by_bin("blame", _BLAMED, stretches),
    }
    both = f'utc("{view.moment}") AS utc_time, local("{view.moment}") AS local_time'
    return f'CREATE VIEW "{view.name}" AS SELECT *, {both} FROM ({view.sql.format(**parts)})'


def _by_bin(table: str, columns: str, stretches: bool) -> str:
    """The rows of `table`, and those of its stretches once for each bin."""
    if not stretches:
        return f"recording.{table}"
    return (
        f"(SELECT bin, {columns} FROM recording.{table} UNION ALL"
        f" SELECT unnest(range(bin, bin + bins)) AS bin, {columns}"
        f" FROM recording.{table}_stretches)"
    )


def _literal(seconds: float) -> str:
    return f"CAST('{seconds!r}' AS DOUBLE)"
