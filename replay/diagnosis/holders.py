"""What the tasks do that hold slots, and so why the slots do not come free."""

from __future__ import annotations

from replay.diagnosis.cell_ledger import CellLedger
from replay.diagnosis.live_index import LiveIndex
from replay.diagnosis.verdicts import UNKNOWN, Blame
from replay.diagnosis.verdicts.slots import Activity

_ACTIVITY_OF: dict[str, Activity] = {
    "provider": "calling",
    "assumed": "calling",
    "overdue": "slow",
    "waiting": "waiting",
    "backing_off": "backing_off",
    "own": "own",
}
"""What holders of task slots do, by kind of meter."""


def activities(index: LiveIndex, cells: CellLedger, slots: str) -> dict[Activity, int]:
    """What the tasks do that hold slots of this scheduler resource: their number by activity."""
    counts: dict[Activity, int] = {}
    for request in index.requests_for.get(slots, ()):
        for kind, activity in _ACTIVITY_OF.items():
            number = cells.total((kind, request))
            if number:
                counts[activity] = counts.get(activity, 0) + number
    return counts


def holders_blame(index: LiveIndex, cells: CellLedger, slots: str) -> Blame:
    """Why tasks that hold slots of this scheduler resource do not give them back.

    The slots themselves, unless most of their holders are backing off after a failed call or wait
    for a slow one: then that is what keeps the next task as well.
    """
    if not index.failed and not any(index.overdue.values()):
        return ("task_capacity", slots)
    requests = sorted(index.requests_for.get(slots, ()))
    keys = [(kind, request) for request in requests for kind in _ACTIVITY_OF]
    totals = {key: number for key in keys if (number := cells.total(key))}
    if not totals:
        return ("task_capacity", slots)
    kind, request = max(totals, key=lambda key: (totals[key], key))
    if 2 * totals[kind, request] <= sum(totals.values()):
        return ("task_capacity", slots)
    if kind == "backing_off":
        return ("client_backoff", request)
    if kind == "overdue":
        return ("provider_latency", request)
    return ("task_capacity", slots)


def upstream_blame(index: LiveIndex, cells: CellLedger, running: int) -> Blame | None:
    """Why every running task is late, or None if at least one is on time.

    `running`: tasks under way in the whole run.
    """
    if running <= 0 or not (index.unsure or any(index.overdue.values())):
        return None
    late = [
        (number, kind, request)
        for kind in ("overdue", "unsure")
        for request in index.demand
        if (number := cells.total((kind, request)))
    ]
    if sum(number for number, _, _ in late) < running:
        return None
    _, kind, request = max(late)
    return ("awaits_slow_call" if kind == "overdue" else UNKNOWN, request)
