"""`Holders`: which groups hold a resource, and what do those weigh that have nothing queued for it?

Groups that compete for a resource are those with queued demand, which the queue weighs, and those
that only hold leases of it, which nobody can weigh without asking both. The answer is kept, and
brought up to date with the groups that have come into the queue or left it since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.identity import SchedulerResourceKey, TaskGroupKey

if TYPE_CHECKING:
    from engine.scheduling.types import QueueView


class Holders:
    """The holders of one resource, by weight."""

    __slots__ = ("_backlog", "_idle", "_idle_weight", "weights")

    def __init__(self) -> None:
        self.weights: dict[TaskGroupKey, float] = {}
        self._idle: dict[TaskGroupKey, float] = {}
        self._idle_weight = 0.0
        self._backlog = -1

    def add(self, group: TaskGroupKey, weight: float, queued: bool) -> None:
        """The group holds its first units; `queued` tells whether it has queued demand."""
        self.weights[group] = weight
        if not queued:
            self._idle[group] = weight
            self._idle_weight += weight

    def remove(self, group: TaskGroupKey) -> None:
        del self.weights[group]
        weight = self._idle.pop(group, None)
        if weight is not None:
            self._idle_weight = self._idle_weight - weight if self._idle else 0.0

    def idle_weight(self, resource: SchedulerResourceKey, queue_view: QueueView) -> float:
        """Sum of the weights of the holders without queued demand for the resource."""
        backlog = queue_view.backlog_version(resource)
        if backlog == self._backlog:
            return self._idle_weight
        changed = queue_view.backlog_changes(resource, self._backlog)
        self._backlog = backlog
        if changed is None:
            changed, self._idle, self._idle_weight = self.weights, {}, 0.0
        for group in changed:
            self._idle_weight -= self._idle.pop(group, 0.0)
            weight = self.weights.get(group)
            if weight is not None and not queue_view.demand(group, resource):
                self._idle[group] = weight
                self._idle_weight += weight
        if not self._idle:
            self._idle_weight = 0.0
        return self._idle_weight

    def copy(self) -> Holders:
        copied = Holders()
        copied.weights = dict(self.weights)
        return copied
