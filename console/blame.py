"""Blame for display: one share per verdict."""

from __future__ import annotations

from collections.abc import Sequence

from replay.diagnosis.report.shares import Share

SEEN = 0.005
"""Smallest fraction that is shown; a smaller one rounds to 0 %."""


def by_verdict(shares: Sequence[Share]) -> list[Share]:
    """One share per verdict, `working` first, then by size; with its only resource."""
    sums: dict[str, float] = {}
    resources: dict[str, set[str | None]] = {}
    for share in shares:
        sums[share.verdict] = sums.get(share.verdict, 0.0) + share.fraction
        resources.setdefault(share.verdict, set()).add(share.resource)
    merged = [
        Share(verdict, fraction, next(iter(named)) if len(named) == 1 else None)
        for (verdict, fraction), named in zip(sums.items(), resources.values(), strict=True)
    ]
    return sorted(merged, key=lambda share: (share.verdict != "working", -share.fraction))
