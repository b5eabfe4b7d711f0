"""The view `stalls`."""

from __future__ import annotations

from replay.recording.views.view import (
    BIGINT,
    BIGINT_LIST,
    COUNT,
    DOUBLE,
    NO_UNIT,
    SECONDS,
    VARCHAR,
    Column,
    View,
)

STALLS = View(
    "stalls",
    "one row for each proved interval in which something did not move",
    "started_at",
    (
        Column("started_at", DOUBLE, SECONDS, "begin", '"start" - {t0}'),
        Column("ended_at", DOUBLE, SECONDS, "end", '"end" - {t0}'),
        Column("seconds", DOUBLE, SECONDS, "length", '"end" - "start"'),
        Column("verdict", VARCHAR, NO_UNIT, "what held it up", "verdict"),
        Column("tier", VARCHAR, NO_UNIT, "A (must never happen) to F", "tier"),
        Column("resource", VARCHAR, NO_UNIT, "what it is about; null for the run", "resource"),
        Column(
            "sentence", VARCHAR, NO_UNIT, "for people, as it was worded when recorded", "sentence"
        ),
        Column(
            "advice",
            VARCHAR,
            NO_UNIT,
            "what can be changed, as it was worded when recorded",
            "json_extract_string(detail, '$.advice')",
        ),
        Column(
            "evidence",
            BIGINT_LIST,
            NO_UNIT,
            "ordinals of the events that prove it, a list",
            "evidence",
        ),
        Column(
            "detail",
            VARCHAR,
            NO_UNIT,
            "facts of the verdict, holders and losing verdicts, as JSON",
            "detail",
        ),
        Column(
            "expected_release",
            DOUBLE,
            SECONDS,
            "when it frees itself; null where that is not known",
            "CAST(json_extract(detail, '$.expected_release') AS DOUBLE) - {t0}",
        ),
        Column(
            "waiting",
            BIGINT,
            COUNT,
            "tasks and calls in line for it",
            "CAST(json_extract(detail, '$.waiting') AS BIGINT)",
        ),
    ),
    'recording.verdicts ORDER BY "start", "end"',
)
