"""Blame rows as shares of a whole, and the bottleneck line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from engine.events import RunInfo
from replay.diagnosis.verdicts import BY_NAME, WORKING, kind_of, model_of, phrase
from replay.state.rows import BlameRow


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the blame: `fraction` of the capacity (or cell time) that went to `verdict`."""

    verdict: str
    fraction: float
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The bottleneck line: what limits the run now, over the last `window` seconds."""

    sentence: str
    verdict: str
    resource: str | None
    fraction: float
    window: float


NOTABLE_LOSS = 0.1
"""A smaller loss beside work that fills most of the capacity is not what limits a run."""


def run_shares(rows: Iterable[BlameRow]) -> tuple[Share, ...]:
    """Shares of the capacity in demand, by verdict and request resource; largest first."""
    return _shares(row for row in rows if row.scope == "run")


def cell_shares(rows: Iterable[BlameRow]) -> tuple[Share, ...]:
    """Shares of the cells' time, by verdict and what it is about; largest first."""
    return _shares(row for row in rows if row.scope == "cell")


def bottleneck(rows: Iterable[BlameRow], run: RunInfo, window: float) -> Bottleneck | None:
    """What limits the run, by the run blame of its last `window` seconds. None without any."""
    shares = run_shares(rows)
    if not shares:
        return None
    working = sum(share.fraction for share in shares if share.verdict == WORKING)
    losses = by_subject(shares)
    loss = losses[0] if losses else None
    if loss is None or (working >= 0.5 and loss.fraction < NOTABLE_LOSS):
        sentence = f"working at capacity, {_percent(working)} of the last {window:.0f} s"
        return Bottleneck(sentence, WORKING, None, working, window)
    sentence = f"limited by {subject(loss)}, {_percent(loss.fraction)} of the last {window:.0f} s"
    return Bottleneck(sentence, loss.verdict, loss.resource, loss.fraction, window)


def by_subject(shares: Iterable[Share]) -> tuple[Share, ...]:
    """Losses only, largest first; one entry for a verdict that is about the run as a whole."""
    sums: dict[tuple[str, str | None], float] = {}
    for share in shares:
        if share.verdict != WORKING:
            about = None if kind_of(share.verdict).about_run else share.resource
            sums[share.verdict, about] = sums.get((share.verdict, about), 0.0) + share.fraction
    losses = [Share(verdict, fraction, about) for (verdict, about), fraction in sums.items()]
    return tuple(sorted(losses, key=_order))


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
    sums = {place: math.fsum(seconds) for place, seconds in parts.items()}
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


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
