"""The view `series`."""

from __future__ import annotations

from replay.recording.views.view import DOUBLE, NO_UNIT, SECONDS, VARCHAR, Column, View

_AS_THE_SERIES = "as the series"

SERIES = View(
    "series",
    "numbers over time, a row for each second in which one changed or is not zero",
    "t",
    (
        Column("t", DOUBLE, SECONDS, "when the second begins", "{start} + bin - {t0}"),
        Column(
            "series",
            VARCHAR,
            NO_UNIT,
            "by group: queue_depth; by request resource: limit, effective_max, in_flight, "
            "waiters, cooling, completed, rate_limited, failed, latency; by scheduler resource: "
            "leased; by reason: blocked; by column: tasks_done; of the run: rows_done, tokens, "
            "events",
            "series",
        ),
        Column(
            "key",
            VARCHAR,
            NO_UNIT,
            "the group, resource, reason or column; empty for the run",
            "key",
        ),
        Column(
            "mean",
            DOUBLE,
            _AS_THE_SERIES,
            "over the second (a count: its number; latency: of the calls that came back well)",
            "mean",
        ),
        Column(
            "last",
            DOUBLE,
            _AS_THE_SERIES,
            "at the end of the second (latency: the 95th percentile)",
            "last",
        ),
        Column("peak", DOUBLE, _AS_THE_SERIES, "most at once (latency: the longest)", "peak"),
    ),
    "{rollup}",
)
