"""`TaskLedger`: which group holds how much of which scheduler resource, and owes how much?

Groups without leases have no entry, so that the ledger is as small as what is leased.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.decisions import TaskAdmissionLease
from engine.scheduling.views import Holders, QueueView, TaskAdmissionView

Units = dict[TaskGroupKey, dict[SchedulerResourceKey, int]]


class TaskLedger:
    """`live_view` reads the ledger itself: use it before anything changes. `view` is a copy."""

    def __init__(self, limits: Mapping[SchedulerResourceKey, int]) -> None:
        self.limits: Mapping[SchedulerResourceKey, int] = dict(limits)
        self.available = dict(limits)
        self._leased = dict.fromkeys(limits, 0)
        self._units: Units = {}
        self._running_units: Units = {}
        self._debt: Units = {}
        self.leases: dict[TaskGroupKey, int] = {}
        self._running: dict[TaskGroupKey, int] = {}
        self._holders = {resource: Holders() for resource in limits}
        self.live_view = TaskAdmissionView(
            self.limits,
            self.available,
            self._leased,
            self._units,
            self._running_units,
            self._debt,
            self.leases,
            self._running,
            self._holders,
        )

    def add(self, lease: TaskAdmissionLease, queue_view: QueueView) -> None:
        spec = lease.item.group
        group = spec.key
        units = self._units.get(group)
        if units is None:
            units = self._units[group] = {}
            self.leases[group] = 0
        self.leases[group] += 1
        for resource, amount in lease.resources.amounts.items():
            self.available[resource] -= amount
            self._leased[resource] += amount
            held = units.get(resource)
            if held is None:
                units[resource] = amount
                queued = bool(queue_view.demand(group, resource))
                self._holders[resource].add(group, spec.weight, queued)
            else:
                units[resource] = held + amount

    def remove(self, lease: TaskAdmissionLease) -> None:
        group = lease.item.group.key
        units = self._units[group]
        for resource, amount in lease.resources.amounts.items():
            self.available[resource] += amount
            self._leased[resource] -= amount
            held = units[resource] - amount
            if held:
                units[resource] = held
            else:
                del units[resource]
                self._holders[resource].remove(group)
        self.leases[group] -= 1
        if not self.leases[group]:
            del self._units[group]
            del self.leases[group]

    def holds(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> bool:
        return resource in self._units.get(group, ())

    def start_running(self, lease: TaskAdmissionLease) -> None:
        """The lease has a worker from now on."""
        group = lease.item.group.key
        units = self._running_units.get(group)
        if units is None:
            units = self._running_units[group] = {}
            self._running[group] = 0
        self._running[group] += 1
        for resource, amount in lease.resources.amounts.items():
            units[resource] = units.get(resource, 0) + amount

    def stop_running(self, lease: TaskAdmissionLease) -> None:
        group = lease.item.group.key
        units = self._running_units[group]
        for resource, amount in lease.resources.amounts.items():
            units[resource] -= amount
        self._running[group] -= 1
        if not self._running[group]:
            del self._running[group]
            del self._running_units[group]

    def change_debt(
        self, changes: Mapping[tuple[TaskGroupKey, SchedulerResourceKey], int]
    ) -> Units:
        """Book changes of debt, in units; a debt never falls below 0.

        Returns:
            The debts that have changed, with their new amounts; 0 is paid off.
        """
        changed: Units = {}
        for (group, resource), change in changes.items():
            debts = self._debt.get(group, {})
            before = debts.get(resource, 0)
            after = max(0, before + change)
            if after == before:
                continue
            changed.setdefault(group, {})[resource] = after
            if after:
                debts[resource] = after
                self._debt[group] = debts
            else:
                del debts[resource]
                if not debts:
                    del self._debt[group]
        return changed

    def view(self) -> TaskAdmissionView:
        """A copy of the ledger, which stays as it is."""
        return TaskAdmissionView(
            dict(self.limits),
            dict(self.available),
            dict(self._leased),
            _copied(self._units),
            _copied(self._running_units),
            _copied(self._debt),
            dict(self.leases),
            dict(self._running),
            {resource: holders.copy() for resource, holders in self._holders.items()},
        )


def _copied(units: Units) -> Units:
    return {
        group: {resource: amount for resource, amount in amounts.items() if amount}
        for group, amounts in units.items()
    }
