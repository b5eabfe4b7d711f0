"""The bottleneck line: what limits the run over the last while, in one short sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replay.diagnosis.report.losses import losses
from replay.diagnosis.report.pace import Bound
from replay.diagnosis.report.shares import Share
from replay.diagnosis.verdicts import WORKING, model_of, phrase
from replay.state.failures import failure_words
from replay.state.model import Failure

NOTABLE_LOSS = 0.1
"""A smaller loss beside work that fills most of the capacity is not what limits a run."""


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What limits the run now, over the last `window` seconds."""

    sentence: str
    verdict: str
    resource: str | None
    fraction: float
    window: float


def bottleneck(
    shares: Sequence[Share], bound: Bound | None, failures: Sequence[Failure], window: float
) -> Bottleneck | None:
    """By the same shares and bound as the first paragraph; None without any shares.

    `failures` are those of the run so far.
    """
    if not shares:
        return None
    over = f"of the last {window:.0f} s"
    working = sum(share.fraction for share in shares if share.verdict == WORKING)
    lost = losses(shares, ())
    largest = lost[0] if lost else None
    errors = _errors(failures)
    if largest is not None and (working < 0.5 or largest.fraction >= NOTABLE_LOSS):
        places = [model_of(name) for name in largest.resources]
        where = f"{places[0]}: " if len(set(places)) == 1 else ""
        sentence = (
            f"limited by {where}{phrase(largest.verdict)}, {_percent(largest.fraction)} {over}"
        )
        resource = largest.resources[0] if len(largest.resources) == 1 else None
        return Bottleneck(sentence + errors, largest.verdict, resource, largest.fraction, window)
    if bound is not None and bound.sets_the_pace:
        sentence = f"{bound.model} sets the pace: at its cap of {bound.cap}"
        sentence += f" for {_percent(bound.saturated)} {over}"
    else:
        sentence = f"no limit reached, {_percent(working)} of the capacity wanted at work, last"
        sentence += f" {window:.0f} s"
    return Bottleneck(sentence + errors, WORKING, None, working, window)


def _errors(failures: Sequence[Failure]) -> str:
    """The failure that cost most, and that there are others."""
    worst = max(failures, key=lambda failure: (failure.rows_dropped, failure.times), default=None)
    if worst is None:
        return ""
    others = sum(failure.times for failure in failures) - worst.times
    more = f" and {others:,} other errors" if others else ""
    return f"; {worst.times:,} × {failure_words(worst)}{more}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
