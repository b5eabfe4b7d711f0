"""Where the tasks of each scheduling group are, and what they hold or lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from engine.events import RunInfo
from replay.state.model import State


@dataclass(frozen=True, slots=True)
class QueueRow:
    """What a group has beyond the counts of its `GroupRow`; amounts are by scheduler resource."""

    key: str
    weight: float
    share: float
    """Its part of the weights of all groups that have work, 0 to 1; 0 without work."""
    demand: Mapping[str, int]
    held: Mapping[str, int]
    debt: Mapping[str, int]
    calls_waiting: int = 0
    """Calls of its tasks that wait for admission."""
    calls_in_provider: int = 0
    waits_for: str | None = None
    """Why most of its waiting calls wait, as their ceiling says."""


def queue_rows(run: RunInfo, state: State) -> tuple[QueueRow, ...]:
    """One for each group of the state."""
    group_of = {column.name: column.group for column in run.columns}
    waiting: Counter[str] = Counter()
    calling: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    for attempt in state.attempts.values():
        key = group_of.get(attempt.column or "")
        if key is None:
            continue
        if attempt.phase == "waiting":
            waiting[key] += 1
            ceiling = state.ceilings.get(attempt.resource)
            if ceiling is not None and ceiling.wait_reason not in (None, "none"):
                cooling = ceiling.wait_reason == "cooldown"
                reason = ceiling.cooldown_reason if cooling else str(ceiling.wait_reason)
                reasons.setdefault(key, Counter())[reason] += 1
        elif attempt.phase == "in_provider":
            calling[key] += 1
    at_work = {key: group for key, group in state.groups.items() if group.queued or group.leased}
    total = sum(group.weight for group in at_work.values())
    return tuple(
        QueueRow(
            key=key,
            weight=group.weight,
            share=group.weight / total if key in at_work and total > 0 else 0.0,
            demand=dict(group.demand),
            held=dict(group.leased_amounts),
            debt=dict(group.debt),
            calls_waiting=waiting[key],
            calls_in_provider=calling[key],
            waits_for=reasons[key].most_common(1)[0][0] if key in reasons else None,
        )
        for key, group in state.groups.items()
    )
