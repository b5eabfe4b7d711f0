"""`Stretch`: what there is to say of a marked stretch of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replay.diagnosis.report.answer import Answer
from replay.diagnosis.report.bottleneck import Bottleneck
from replay.diagnosis.report.shares import Share
from replay.state.rows import BlameRow, RollupRow


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls to one request resource."""

    resource: str
    completed: float
    rate_limited: float
    in_flight: float
    """Mean."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Times are the producer's, in whole seconds of the run: blame is known by the second."""

    start: float
    end: float
    shares: tuple[Share, ...]
    demand: float
    """Slot-seconds that were wanted."""
    tasks_done: float
    rows_done: float
    tokens: float
    traffic: tuple[Traffic, ...]
    bottleneck: Bottleneck | None
    answer: Answer

    @property
    def seconds(self) -> float:
        return self.end - self.start


def demand_of(rows: Iterable[BlameRow]) -> float:
    """Slot-seconds of all blame of the run."""
    return math.fsum(row.seconds for row in rows)


def total(rows: Iterable[RollupRow], series: str) -> float:
    """The sum of a series of counts, over all its keys."""
    return math.fsum(row.mean * row.bins for row in rows if row.series == series)


def traffic(rows: Sequence[RollupRow], seconds: float) -> tuple[Traffic, ...]:
    """By request resource, in order of names."""
    sums: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.series in ("completed", "rate_limited", "in_flight"):
            of = sums.setdefault(row.key, {})
            of[row.series] = of.get(row.series, 0.0) + row.mean * row.bins
    return tuple(
        Traffic(
            key,
            of.get("completed", 0.0),
            of.get("rate_limited", 0.0),
            of.get("in_flight", 0.0) / seconds if seconds > 0 else 0.0,
        )
        for key, of in sorted(sums.items())
    )
