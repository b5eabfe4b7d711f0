"""The structs of the `why` report. Times are seconds of run time: 0 is the first event."""

from __future__ import annotations

from typing import Any

import msgspec

REPORT_VERSION = 1


class RunFacts(msgspec.Struct, frozen=True):
    run_id: str
    name: str
    producer: str
    producer_version: str
    outcome: str | None
    complete: bool
    producer_lost: bool
    records: int | None
    events: int
    lost_events: int
    broken_lines: int
    seconds: float
    began_monotonic: float = 0.0
    """What the producer's monotonic clock said at time 0."""
    began_at: float | None = None
    """Unix seconds of time 0; None where the producer does not tell."""


class BlameLine(msgspec.Struct, frozen=True):
    verdict: str
    phrase: str
    resource: str | None
    fraction: float
    advice: str


class ColumnBlame(msgspec.Struct, frozen=True):
    column: str
    seconds: float
    """Cell-seconds from dependency-ready to released."""
    blame: tuple[BlameLine, ...]


class VerdictLine(msgspec.Struct, frozen=True):
    verdict: str
    tier: str
    resource: str | None
    start: float
    end: float
    seconds: float
    sentence: str
    advice: str
    evidence: tuple[int, ...]
    """Ordinals of events."""
    also: dict[str, float]
    holders: list[dict[str, Any]]
    expected_release: float | None
    detail: dict[str, Any]


class WhyReport(msgspec.Struct, frozen=True):
    version: int
    diagnosis_version: int
    answer: str
    run: RunFacts
    start: float
    end: float
    run_blame: tuple[BlameLine, ...]
    """Shares of the slots of request resources in demand; together 1, or empty."""
    cell_blame: tuple[BlameLine, ...]
    """Shares of the cells' time from dependency-ready to released; together 1, or empty."""
    cell_blame_by_column: tuple[ColumnBlame, ...]
    verdicts: tuple[VerdictLine, ...]
    """What must never happen first, then the longest."""
    lacks: tuple[str, ...]
    """What the producer's stream does not carry."""
    not_provable: tuple[str, ...] = ()
    """Verdicts that this stream could not prove: that they are absent says nothing."""
