"""The first paragraph: how the run ended, what bounds it, and where most of its time went.

`why`, the Overview and the summaries of the command line all say it in these words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from replay.diagnosis.report.losses import (
    LOSSES_EXPLAINED,
    MAX_LOSSES,
    MIN_LOSS_SHARE,
    Loss,
    losses,
)
from replay.diagnosis.report.pace import NOTABLE, Bound, Slowest
from replay.diagnosis.report.shares import Share
from replay.diagnosis.verdicts import WORKING, VerdictRow, clock, display
from replay.diagnosis.verdicts.errors import DroppedRows, FailureVerdict
from replay.diagnosis.verdicts.requests import ProviderLatency, SlowTasks

LONG_SECONDS = 2.0
LONG_FACTOR = 6.0
"""Calls that took so many times the usual, for so long, are told whatever else was lost."""
LEVEL_FACTOR = 3.0
"""The same of many calls, by their median."""
LEAST_ADVISED = 0.05
"""Share of a loss from which it is told what to do about it."""
_ADVISED = frozenset({"failure", "slow", "ceiling"})
"""Roles of verdicts that something is to be done about."""
MIN_UPSTREAM_SHARE = 0.08
"""Waiting for upstream columns from which the slowest endpoint is told."""


class Answer(NamedTuple):
    """The sentences of the first paragraph, in order."""

    ending: str
    """How the run ended, unless all is well; "" otherwise."""
    failures: str
    """What failed or hung, and what to do about it."""
    pace: str
    """What bounds the run."""
    lost: str
    """Where the rest of its capacity went."""

    @property
    def text(self) -> str:
        return " ".join(part for part in self if part)


def compose(
    ending: str,
    bound: Bound | None,
    slowest: Slowest | None,
    shares: Sequence[Share],
    verdicts: Sequence[VerdictRow],
    t0: float,
    has_calls: bool = True,
    called: Mapping[str, str] | None = None,
) -> Answer:
    """The first paragraph of a report.

    Args:
        ending: How the run ended, where not all is well.
        bound: What was saturated longest.
        slowest: The endpoint that stands out by the time of its calls.
        shares: Of the capacity that was wanted.
        verdicts: Of the same time.
        t0: When the run began, in the time of the verdicts.
        has_calls: Whether the stream tells of single calls. Of tasks alone it is known that they
            were under way, and not whether a provider worked for them.
        called: The model that a column calls.
    """
    slow = _longest_slow(verdicts)
    late = "" if slow is None else _slow(slow, t0)
    failures = _failures(verdicts) or _hint(verdicts, called or {})
    failed = " ".join(part for part in (failures, late) if part)
    if not shares:
        return Answer(
            ending, failed, "", "" if failed or ending else "Nothing ran that could wait."
        )
    lost = losses(shares, verdicts)
    working = sum(share.fraction for share in shares if share.verdict == WORKING)
    named = [loss for loss in lost if loss.fraction >= MIN_LOSS_SHARE][:MAX_LOSSES]
    pace = []
    if bound is not None and (bound.sets_the_pace or (bound.saturated >= NOTABLE and not named)):
        pace.append(bound.sentence())
    waiting = sum(loss.fraction for loss in lost if loss.verdict == "dependency")
    if slowest is not None and waiting >= MIN_UPSTREAM_SHARE:
        pace.append(slowest.sentence())
    did = "did work" if has_calls else "was in use, as far as tasks show it"
    share = f"{100 * working:.0f} % of the capacity that was wanted {did}"
    return Answer(ending, failed, " ".join(pace), _lost(share, named, slow, t0))


def _failures(verdicts: Sequence[VerdictRow]) -> str:
    """The failures that matter most, with what to do: what only a person can mend before others."""
    failed = [row for row in verdicts if isinstance(row.detail, FailureVerdict)]
    worst = sorted(failed, key=_weight)[:2]
    return " ".join(f"{row.sentence} {row.advice}".strip() for row in worst)


def _hint(verdicts: Sequence[VerdictRow], called: Mapping[str, str]) -> str:
    """Where to look for what cost rows, where nothing that failed is told."""
    for row in verdicts:
        if isinstance(row.detail, DroppedRows):
            return row.detail.hint(called.get(row.detail.column, ""))
    return ""


def _longest_slow(verdicts: Sequence[VerdictRow]) -> VerdictRow | None:
    """The longest time for which an endpoint was slow or a call hung, if it was long."""
    slow = [
        row
        for row in verdicts
        if isinstance(row.detail, ProviderLatency | SlowTasks)
        and row.end - row.start >= LONG_SECONDS
        and _is_much(row.detail)
    ]
    return max(slow, key=lambda row: row.end - row.start, default=None)


def _is_much(detail: ProviderLatency | SlowTasks) -> bool:
    median, usual = detail.median, detail.usual
    level = median is not None and usual is not None and median >= LEVEL_FACTOR * usual
    return level or detail.oldest_age >= LONG_FACTOR * detail.p95


def _slow(row: VerdictRow, t0: float) -> str:
    span = f"{clock(row.start - t0)} to {clock(row.end - t0)}"
    return f"{row.sentence[:-1]} ({span}). {row.advice}"


def _weight(row: VerdictRow) -> tuple[bool, int, int, float]:
    detail = row.detail
    assert isinstance(detail, FailureVerdict)
    return (row.tier != "B", -detail.rows_dropped, -detail.times, row.start)


def _lost(first: str, named: Sequence[Loss], slow: VerdictRow | None, t0: float) -> str:
    """`first` is what was not lost. `slow` has been told before: its words are not repeated."""
    if not named:
        return f"{first}."
    parts = []
    for index, loss in enumerate(named):
        if index >= LOSSES_EXPLAINED or (slow is not None and slow in loss.rows):
            parts.append(loss.brief(t0))
            continue
        parts.append(loss.sentence(t0))
        advice = loss.advice if display(loss.verdict).role in _ADVISED else ""
        if advice and loss.fraction >= LEAST_ADVISED and advice not in parts[0]:
            parts[-1] += f" {advice}"
    return f"{first}. The rest: " + " ".join(
        part if index == 0 else f"Then {part}" for index, part in enumerate(parts)
    )
