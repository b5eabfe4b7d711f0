"""Which lane of the timeline a lease lies in: packed greedily, and staying where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from replay.playback.frame import LeaseBar

LaneMode = Literal["column", "packed", "lease"]


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of the timeline."""

    label: str
    """Empty for the further lanes of a column."""
    bars: tuple[LeaseBar, ...]
    """By start; they do not overlap."""


class LaneBook:
    """Remembers each lease's lane from frame to frame, so that nothing jumps as time goes on."""

    def __init__(self) -> None:
        self._lane_of: dict[str, int] = {}
        self._made_for: tuple[LaneMode, float] | None = None
        self._at = 0.0

    def lay_out(
        self,
        bars: Sequence[LeaseBar],
        mode: LaneMode,
        gap: float,
        at: float,
        columns: Sequence[str],
    ) -> list[Lane]:
        """Lanes from top to bottom; two bars of a lane are at least `gap` seconds apart.

        Lanes are forgotten when the mode or the zoom changes, or time goes back.
        """
        if self._made_for != (mode, gap) or at < self._at:
            self._lane_of = {}
        self._made_for, self._at = (mode, gap), at
        ordered = sorted(bars, key=lambda bar: (bar.start, bar.lease_id))
        if mode == "lease":
            return [Lane(bar.task_id, (bar,)) for bar in ordered]
        groups: dict[str, list[LeaseBar]] = {}
        if mode == "column":
            groups = {name: [] for name in columns}
            for bar in ordered:
                groups.setdefault(bar.column, []).append(bar)
        else:
            groups["all columns"] = ordered
        lanes: list[Lane] = []
        kept: dict[str, int] = {}
        for label, members in groups.items():
            for number, held in enumerate(self._pack(members, gap, kept)):
                lanes.append(Lane("" if number else label, tuple(held)))
        self._lane_of = kept
        return lanes

    def _pack(
        self, bars: Sequence[LeaseBar], gap: float, kept: dict[str, int]
    ) -> list[list[LeaseBar]]:
        lanes: list[list[LeaseBar]] = []
        ends: list[float] = []

        def place(bar: LeaseBar, lane: int) -> None:
            while len(lanes) <= lane:
                lanes.append([])
                ends.append(float("-inf"))
            lanes[lane].append(bar)
            ends[lane] = max(ends[lane], float("inf") if bar.end is None else bar.end)
            kept[bar.lease_id] = lane

        new: list[LeaseBar] = []
        for bar in bars:
            lane = self._lane_of.get(bar.lease_id)
            if lane is None or (lane < len(ends) and ends[lane] > bar.start):
                new.append(bar)
            else:
                place(bar, lane)
        for bar in new:
            free = (lane for lane, end in enumerate(ends) if end + gap <= bar.start)
            place(bar, next(free, len(ends)))
        return lanes
