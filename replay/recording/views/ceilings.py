"""The view `ceilings`."""

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

_REQUESTS = "requests"

CEILINGS = View(
    "ceilings",
    "one row for each second and request resource: its ceiling and what used it",
    "t",
    (
        Column("t", DOUBLE, SECONDS, "when the second begins", "{start} + bin - {t0}"),
        Column("resource", VARCHAR, NO_UNIT, "provider/model/domain", "key"),
        Column(
            "ceiling",
            DOUBLE,
            _REQUESTS,
            "adaptive limit at the end of the second",
            "max(last) FILTER (series = 'limit')",
        ),
        Column(
            "effective_max",
            DOUBLE,
            _REQUESTS,
            "the most the limit can be",
            "max(last) FILTER (series = 'effective_max')",
        ),
        Column(
            "in_flight",
            DOUBLE,
            _REQUESTS,
            "mean over the second",
            "coalesce(max(mean) FILTER (series = 'in_flight'), 0)",
        ),
        Column(
            "in_flight_peak",
            DOUBLE,
            _REQUESTS,
            "most at once",
            "coalesce(max(peak) FILTER (series = 'in_flight'), 0)",
        ),
        Column(
            "waiters",
            DOUBLE,
            _REQUESTS,
            "mean over the second",
            "coalesce(max(mean) FILTER (series = 'waiters'), 0)",
        ),
        Column(
            "waiters_peak",
            DOUBLE,
            _REQUESTS,
            "most at once",
            "coalesce(max(peak) FILTER (series = 'waiters'), 0)",
        ),
        Column(
            "cooling",
            DOUBLE,
            "0 to 1",
            "part of the second in a cooldown",
            "coalesce(max(mean) FILTER (series = 'cooling'), 0)",
        ),
        Column(
            "completed",
            BIGINT,
            COUNT,
            "calls that came back well",
            "coalesce(max(mean) FILTER (series = 'completed'), 0)::BIGINT",
        ),
        Column(
            "rate_limited",
            BIGINT,
            COUNT,
            "calls answered with 429",
            "coalesce(max(mean) FILTER (series = 'rate_limited'), 0)::BIGINT",
        ),
        Column(
            "failed",
            BIGINT,
            COUNT,
            "calls that failed otherwise; null where none did, and in recordings that do not tell",
            "(max(mean) FILTER (series = 'failed'))::BIGINT",
        ),
        Column(
            "latency",
            DOUBLE,
            SECONDS,
            "mean provider_time of the calls that came back well; null where none did, and in "
            "recordings that do not tell",
            "max(mean) FILTER (series = 'latency')",
        ),
        Column(
            "latency_p95",
            DOUBLE,
            SECONDS,
            "95th percentile of the same",
            "max(last) FILTER (series = 'latency')",
        ),
    ),
    """
    {rollup}
    WHERE series IN ('limit', 'effective_max', 'in_flight', 'waiters', 'cooling', 'completed',
        'rate_limited', 'failed', 'latency')
    GROUP BY bin, key
    ORDER BY bin, key
    """,
)
