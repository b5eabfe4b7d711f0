"""Blame rows as shares of a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from replay.diagnosis.verdicts import BY_NAME, model_of, phrase
from replay.state.rows import BlameRow


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the blame: `fraction` of the capacity (or cell time) that went to `verdict`."""

    verdict: str
    fraction: float
    resource: str | None = None


def run_shares(rows: Iterable[BlameRow]) -> tuple[Share, ...]:
    """Shares of the capacity in demand, by verdict and request resource; largest first."""
    return _shares(row for row in rows if row.scope == "run")


def cell_shares(rows: Iterable[BlameRow]) -> tuple[Share, ...]:
    """Shares of the cells' time, by verdict and what it is about; largest first."""
    return _shares(row for row in rows if row.scope == "cell")


def subject(share: Share) -> str:
    """`beta/judge-70b: cooldown after 429s`, or the phrase alone."""
    if share.resource is None or share.verdict not in BY_NAME:
        return phrase(share.verdict)
    return f"{model_of(share.resource)}: {phrase(share.verdict)}"


def _shares(rows: Iterable[BlameRow]) -> tuple[Share, ...]:
    parts: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        parts.setdefault((row.verdict, row.resource), []).append(row.seconds)
    # The same to the last bit in whatever order the rows come.
    sums = {key: math.fsum(seconds) for key, seconds in parts.items()}
    total = math.fsum(sums.values())
    if total <= 0.0:
        return ()
    shares = [
        Share(verdict, seconds / total, resource or None)
        for (verdict, resource), seconds in sums.items()
    ]
    return tuple(sorted(shares, key=_order))


def _order(share: Share) -> tuple[float, str, str]:
    return (-share.fraction, share.verdict, share.resource or "")
