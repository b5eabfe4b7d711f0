"""Losses of a run, summed up by cause over all resources, each with all its intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replay.diagnosis.report.shares import Share
from replay.diagnosis.verdicts import (
    WORKING,
    VerdictRow,
    clock,
    count_text,
    kind_of,
    model_of,
    phrase,
)
from replay.diagnosis.verdicts.words import enumeration

MAX_LOSSES = 5
LOSSES_EXPLAINED = 3
"""Of these the words of the longest stall are told as well."""
MIN_LOSS_SHARE = 0.02
MAX_INTERVALS = 4
CAUSES: dict[str, str] = {
    "awaits_slow_call": "provider_latency",
}
"""Verdicts that are another one's doing."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What one cause took, wherever it did."""

    verdict: str
    fraction: float
    resources: tuple[str, ...]
    """Whose slots it left unused, the most first; empty for what is about the run."""
    rows: tuple[VerdictRow, ...]
    """All its stalls, in order of time."""

    @property
    def advice(self) -> str:
        """What to do about its longest stall; "" where it has none."""
        longest = max(self.rows, key=lambda row: row.end - row.start, default=None)
        return "" if longest is None else longest.advice

    def intervals(self, t0: float) -> tuple[tuple[float, float], ...]:
        """When its stalls were, in run time; those that overlap as one."""
        joined: list[tuple[float, float]] = []
        for row in self.rows:
            start, end = row.start - t0, row.end - t0
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return tuple(joined)

    def brief(self, t0: float) -> str:
        """Share, what, where and when."""
        where = enumeration(
            list(dict.fromkeys(model_of(resource) for resource in self.resources[:3]))
        )
        head = f"{100 * self.fraction:.0f} % {phrase(self.verdict)}"
        head += f" ({where})" if where else ""
        spans = [f"{clock(start)} to {clock(end)}" for start, end in self.intervals(t0)]
        if not spans:
            return f"{head}."
        more = len(spans) - MAX_INTERVALS
        shown = ", ".join(spans[:MAX_INTERVALS])
        return f"{head}, {shown}" + (f" and {count_text(more, 'more time')}." if more > 0 else ".")

    def sentence(self, t0: float) -> str:
        """The same with the words of the longest stall."""
        if not self.rows:
            return self.brief(t0)
        longest = max(self.rows, key=lambda row: row.end - row.start)
        return f"{self.brief(t0)[:-1]}: {longest.sentence}"


def losses(shares: Iterable[Share], verdicts: Sequence[VerdictRow]) -> tuple[Loss, ...]:
    """By cause, the largest first."""
    sums: dict[str, float] = {}
    places: dict[str, dict[str, float]] = {}
    for share in shares:
        if share.verdict == WORKING:
            continue
        cause = CAUSES.get(share.verdict, share.verdict)
        sums[cause] = sums.get(cause, 0.0) + share.fraction
        if share.resource and not kind_of(share.verdict).about_run:
            known = places.setdefault(cause, {})
            known[share.resource] = known.get(share.resource, 0.0) + share.fraction
    result = []
    for cause, fraction in sums.items():
        known = places.get(cause, {})
        resources = tuple(sorted(known, key=lambda name: (-known[name], name)))
        rows = sorted(
            (row for row in verdicts if CAUSES.get(row.verdict, row.verdict) == cause),
            key=lambda row: (row.start, row.end),
        )
        result.append(Loss(cause, fraction, resources, tuple(rows)))
    return tuple(sorted(result, key=lambda loss: (-loss.fraction, loss.verdict)))
