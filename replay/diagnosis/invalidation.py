"""Dirty sets: which inputs have changed, and which results must be recomputed for it.

`Changes` names the entities whose place in the live index is out of date. `DirtySets` names the
meters and resources whose blame or division is. Both are written through their methods alone; the
index is brought up to date from the first, attribution recomputes the second.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from replay.diagnosis.cell_ledger import Key, queued_key
from replay.diagnosis.live_index import LiveIndex
from replay.diagnosis.slot_ledger import WHOLE
from replay.state.model import State


class Changes(msgspec.Struct):
    """What the events of the current instant are about; the index does not show it yet."""

    tasks: dict[str, int] = {}
    """With the ordinal of the last event about each; `calls` likewise."""
    calls: dict[str, int] = {}
    groups: dict[str, None] = {}
    resources: dict[str, None] = {}
    """Request resources whose ceiling may have changed."""

    def add_task(self, task_id: str, ordinal: int) -> None:
        self.tasks[task_id] = ordinal

    def add_call(self, attempt_id: str, ordinal: int) -> None:
        self.calls[attempt_id] = ordinal

    def add_group(self, group: str) -> None:
        self.groups[group] = None

    def add_resource(self, resource: str) -> None:
        self.resources[resource] = None

    def drain_calls(self) -> dict[str, int]:
        calls, self.calls = self.calls, {}
        return calls

    def drain_tasks(self) -> dict[str, int]:
        tasks, self.tasks = self.tasks, {}
        return tasks

    def drain_groups(self) -> dict[str, None]:
        groups, self.groups = self.groups, {}
        return groups

    def drain_resources(self) -> dict[str, None]:
        resources, self.resources = self.resources, {}
        return resources


class DirtySets(msgspec.Struct):
    """Meters and resources to recompute before time moves on.

    The other fields hold what a result was last computed from, so that a change that cannot alter
    the result invalidates nothing.
    """

    meters: dict[Key, None] = {}
    queues: dict[str, None] = {}
    """Scheduler resources: the queues of all groups that take from them."""
    resources: dict[str, None] = {}
    """Request resources, and `WHOLE` for the run."""
    levels: dict[str, int] = {}
    """Free amount of each scheduler resource, up to the most that one task takes."""
    presence: dict[str, tuple[bool, bool, float]] = {}
    """Whether each group has queued tasks and leases, and its weight."""
    queues_version: int = 0
    """Grows when the first or last task of a group is queued, or a weight changes."""
    denied: dict[Key, None] = {}
    """Meters of the groups that the last blocked event says a policy denied."""
    siblings: dict[str, dict[str, None]] = {}
    """Request resources by provider/model."""

    def invalidate_meter(self, key: Key) -> None:
        self.meters[key] = None

    def invalidate_resource(self, resource: str) -> None:
        self.resources[resource] = None

    def invalidate_run(self) -> None:
        """The account of the run as a whole."""
        self.resources[WHOLE] = None

    def invalidate_all(self, meters: Iterable[Key], resources: Iterable[str]) -> None:
        for key in meters:
            self.meters[key] = None
        for resource in resources:
            self.resources[resource] = None
        self.resources[WHOLE] = None
        self.queues_version += 1

    def invalidate_group(self, state: State, index: LiveIndex, key: str) -> None:
        """What the queue of this group, and of those it competes with, waits for."""
        group = state.groups.get(key)
        self.meters[queued_key(key)] = None
        if group is None:
            presence = (False, False, 0.0)
        else:
            presence = (group.queued > 0, group.leased > 0, group.weight)
        before = self.presence.get(key)
        shifted = before != presence
        if shifted:
            self.presence[key] = presence
            if before is None or (before[0], before[2]) != (presence[0], presence[2]):
                self.queues_version += 1
        for resource in index.needs.get(key, {}):
            free = state.limits.get(resource, 0) - state.leased.get(resource, 0)
            level = min(free, index.most.get(resource, 1))
            if shifted or self.levels.get(resource) != level:
                self.levels[resource] = level
                self.queues[resource] = None

    def invalidate_ceiling(self, state: State, resource: str) -> None:
        """The request resource and those it shares its static cap with."""
        siblings = self.siblings.setdefault(state.ceilings[resource].provider_model, {})
        siblings[resource] = None
        for sibling in siblings:
            self.resources[sibling] = None
            self.meters["waiting", sibling] = None

    def invalidate_cooldown(self, index: LiveIndex, resource: str) -> None:
        """A cooldown began, moved or ended: all that waits for this request resource."""
        self.resources[resource] = None
        self.meters["waiting", resource] = None
        self.meters["assumed", resource] = None
        for group in index.queued_for.get(resource, ()):
            self.meters[queued_key(group)] = None

    def invalidate_leak(self, resources: Iterable[str]) -> None:
        """A lease of these resources is now known to be leaked, or was released after all."""
        for resource in resources:
            self.queues[resource] = None
            self.resources[resource] = None
            self.meters["waiting", resource] = None
        self.resources[WHOLE] = None

    def invalidate_denied(self) -> None:
        """An admission: what the policy denied may be let in now."""
        self.meters.update(self.denied)

    def set_denied(self, groups: Iterable[str]) -> None:
        """A blocked event: the policy denies these groups, and no others."""
        self.meters.update(self.denied)
        self.denied = {queued_key(group): None for group in groups}
        self.meters.update(self.denied)

    def invalidate_pending(self, index: LiveIndex, pending: Iterable[Key]) -> None:
        """A lease came, or nothing waits any more: heads that were seen to be eligible."""
        for key in pending:
            kind, subject = key
            self.meters[key] = None
            self.resources[subject if kind == "waiting" else WHOLE] = None
            if kind == "queued":
                self.resources[index.request_of.get(subject, "")] = None

    @property
    def any(self) -> bool:
        """Something has to be recomputed."""
        return bool(self.meters or self.queues or self.resources)

    def drain_meters(self) -> tuple[dict[Key, None], dict[str, None]]:
        """Dirty meters, and scheduler resources whose queues are; both are empty afterwards."""
        meters, queues = self.meters, self.queues
        self.meters, self.queues = {}, {}
        return meters, queues

    def drain_resources(self) -> dict[str, None]:
        """Dirty request resources; none is afterwards."""
        resources, self.resources = self.resources, {}
        return resources
