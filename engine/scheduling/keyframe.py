"""The scheduler's part of a keyframe: its own ledgers as `plans/event-stream.md` defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.rows.admission import RowGroupAdmission
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.queue import FairTaskQueue


def ledger_keyframe(
    queue: FairTaskQueue, admission: TaskAdmissionController, row_groups: RowGroupAdmission
) -> dict[str, Any]:
    """Queue, leases and row groups at this instant. Zero entries are left out of the maps."""
    waiting, ledger = queue.view(), admission.view()
    groups = {
        "in_flight": sorted(row_groups.in_flight),
        # No event reports the target before the first admission.
        "target": row_groups.target if row_groups.has_admitted else None,
        "checkpointed": row_groups.finished,
        "admitted": row_groups.admitted,
    }
    return {
        "queued_total": waiting.queued_total,
        "queued_by_group": _labelled(waiting.queued_by_group()),
        "demand_by_resource": _labelled(waiting.demand_by_resource()),
        "limits": _labelled(ledger.limits),
        "available": _labelled(ledger.available),
        "leased": _labelled(ledger.leased),
        "leased_by_group": _labelled(ledger.leases),
        "running_by_group": _labelled(ledger.running),
        "debt_by_group": {
            group.label: _labelled(debts) for group, debts in ledger.debt_by_group.items()
        },
        "active_leases": admission.active_leases,
        "row_groups": {name: value for name, value in groups.items() if value},
        "release_diagnostics": dict(admission.release_diagnostics),
    }


def _labelled(amounts: Mapping[Any, int]) -> dict[str, int]:
    return {key.label: amount for key, amount in amounts.items() if amount}
