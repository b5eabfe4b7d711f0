"""The view `blame`."""

from __future__ import annotations

from replay.recording.views.view import BIGINT, DOUBLE, NO_UNIT, SECONDS, VARCHAR, Column, View

BLAME = View(
    "blame",
    "seconds of blame by second, verdict and what it is about",
    "t",
    (
        Column("t", DOUBLE, SECONDS, "when the second begins", "{start} + bin - {t0}"),
        Column(
            "scope",
            VARCHAR,
            NO_UNIT,
            "cell: time of live cells; run: time of request slots in demand",
            "scope",
        ),
        Column("task_column", VARCHAR, NO_UNIT, "column of the cells; empty for run", '"column"'),
        Column("row_group", BIGINT, NO_UNIT, "of the cells", "row_group"),
        Column(
            "resource", VARCHAR, NO_UNIT, "what the verdict is about; empty for none", "resource"
        ),
        Column("verdict", VARCHAR, NO_UNIT, "working, or why not", "verdict"),
        Column(
            "seconds", DOUBLE, "cell-s, slot-s", "number of cells or slots times seconds", "seconds"
        ),
    ),
    "{blame}",
)
