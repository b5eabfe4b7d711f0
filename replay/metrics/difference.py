"""One number of two runs: how far apart, in which direction, and whether that means anything.

How much two runs of the same work differ by chance is known where there are enough iterations of
both, or where a virtual clock leaves nothing to chance. Elsewhere no direction is a finding: a
small difference has none, and a larger one only seems to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from replay.metrics.stats import median_interval
from replay.runs.artifact import Direction

Judgement = Literal[
    "better", "worse", "same", "seems_better", "seems_worse", "too_close", "different", "unknown"
]
"""Of B against A. `same`: equal, or within the noise. `seems_...`, `too_close`: the noise is not
known. `different` where it is not known which direction is better."""
Noise = Literal["measured", "none", "unknown"]
"""Whether it is known by how much such runs differ by chance; `none` where nothing is chance."""

SMALL = 0.05
"""Of the larger number: up to here a difference of single runs is too close to tell."""
SURE_ENOUGH = 0.9
"""Confidence that both intervals must have for noise to be told: five iterations do."""
NOTHING = 1e-9
"""Difference, relative to the larger or to 1, below which two numbers are the same."""


class Difference(msgspec.Struct, frozen=True):
    """One number of both sides. `change` is b - a, `ratio` b / a; None where they can't be told.

    `noise`: `beyond`, `within`, `none` (deterministic) or `unknown`.
    """

    name: str
    unit: str
    a: float | None
    b: float | None
    change: float | None
    ratio: float | None
    judgement: Judgement
    noise: Literal["beyond", "within", "none", "unknown"]
    interval_a: tuple[float, float] | None = None
    interval_b: tuple[float, float] | None = None
    missing_reasons: tuple[str, ...] = ()


def differ(
    name: str,
    unit: str,
    better: Direction | None,
    a: float | None,
    b: float | None,
    noise: Noise,
    repeats: tuple[Sequence[float], Sequence[float]] = ((), ()),
    missing: tuple[str, ...] = (),
    least: float = 0.0,
) -> Difference:
    """`repeats` are the numbers of the iterations of either side; `least` is the difference up to
    which single runs are too close to tell, whatever it is of the number."""
    if a is None or b is None:
        why = missing or ("no reason is given",)
        return Difference(name, unit, a, b, None, None, "unknown", "unknown", missing_reasons=why)
    change, ratio = b - a, (b / a if a else None)
    larger = max(abs(a), abs(b))
    if abs(change) <= NOTHING * max(larger, 1.0):
        judgement: Judgement = "same"
    elif better is None:
        judgement = "different"
    else:
        judgement = "better" if (change > 0) == (better == "higher") else "worse"
    if noise == "none":
        return Difference(name, unit, a, b, change, ratio, judgement, "none")
    if noise == "measured" and min(map(len, repeats)) > 1:
        left, right = map(median_interval, repeats)
        if min(left.confidence, right.confidence) >= SURE_ENOUGH:
            apart = left.high < right.low or right.high < left.low
            return Difference(
                name,
                unit,
                a,
                b,
                change,
                ratio,
                judgement if apart else "same",
                "beyond" if apart else "within",
                (left.low, left.high),
                (right.low, right.high),
            )
    if judgement != "same" and abs(change) <= max(SMALL * larger, least):
        judgement = "too_close"
    elif judgement == "better":
        judgement = "seems_better"
    elif judgement == "worse":
        judgement = "seems_worse"
    return Difference(name, unit, a, b, change, ratio, judgement, "unknown")
