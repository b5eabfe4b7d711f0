"""What a run has by name, for the command palette: groups, resources and the longest stalls."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from textual.app import SystemCommand

from console.screens.base import Console
from replay.diagnosis.verdicts import clock
from replay.playback.focus import TasksFocus
from replay.playback.frame import Frame

MOST_THINGS = 100
"""Of each kind."""


def things(frame: Frame, console: Console) -> Iterator[SystemCommand]:
    """The palette's commands for them, at most `MOST_THINGS` of each sort."""
    for group in frame.groups[:MOST_THINGS]:
        yield SystemCommand(
            f"Tasks of {group.label}",
            "The tasks of this group, next in order first",
            partial(console.open_page, TasksFocus(group=group.key), group.label),
        )
    for row in frame.ceilings[:MOST_THINGS]:
        resource = row.ceiling.resource
        yield SystemCommand(
            f"Stalls about {resource}",
            "What stood still because of it",
            partial(console.go_filtered, "stalls", f'resource:"{resource}"'),
        )
    stalls = sorted(frame.verdicts, key=lambda stall: stall.start - stall.end)
    for stall in stalls[:MOST_THINGS]:
        yield SystemCommand(
            stall.sentence,
            f"On the timeline, at {clock(stall.start - frame.t0)}",
            partial(console.show_between, stall.start, stall.end),
        )
