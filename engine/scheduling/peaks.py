"""`SchedulerPeaks`: the maxima of what the scheduler counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.identity import SchedulerResourceKey, TaskGroupKey


class SchedulerPeaks:
    """The scheduler calls it whenever one of the values may have grown."""

    def __init__(self, resources: Iterable[SchedulerResourceKey]) -> None:
        self.queued: dict[TaskGroupKey, int] = {}
        self.leased = dict.fromkeys(resources, 0)
        self.row_groups_in_flight = 0
        self.target = 0
        """Row groups that may be in flight now."""
        self.highest_target = 0
        self.block_reasons: tuple[str, ...] = ()
        """Why the next row group may not start now."""

    def note_queued(self, group: TaskGroupKey, count: int) -> None:
        if count > self.queued.get(group, 0):
            self.queued[group] = count

    def note_leased(
        self,
        resources: Iterable[SchedulerResourceKey],
        leased: Mapping[SchedulerResourceKey, int],
    ) -> None:
        peaks = self.leased
        for resource in resources:
            if leased[resource] > peaks[resource]:
                peaks[resource] = leased[resource]

    def note_row_groups(self, in_flight: int, target: int, block_reasons: tuple[str, ...]) -> None:
        self.row_groups_in_flight = max(self.row_groups_in_flight, in_flight)
        self.target = target
        self.highest_target = max(self.highest_target, target)
        self.block_reasons = block_reasons
