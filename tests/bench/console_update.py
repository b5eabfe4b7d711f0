"""CPU per update of each screen, drawing and encoding for the terminal included; the same with 500
groups.

Frames that differ in every number and shift all series are shown one after the other at 120×40 on
a terminal that is a string buffer. Exit code 1 where a screen needs more than the budget.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from textual.drivers.headless_driver import HeadlessDriver

from console.app import ConsoleApp
from console.controls import SCREENS as CONTROLS
from console.thin_writer import ThinWriter
from replay.playback.frame import EventRow, Frame, LeaseBar, Segment
from tests.console.driven import STILL

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.console.frames import FRAMES
from tests.console.session_double import RecordingSession

BUDGET_MS = 8.0
UPDATES = 120
UPDATES_A_SECOND = 4
ROUNDS = 3
"""The best one counts: whatever else the machine does can only add."""
SIZE = (120, 40)
TERMINAL = io.BytesIO()
STYLES = ThinWriter()


class BufferDriver(HeadlessDriver):
    """Takes what would go to the terminal."""

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        TERMINAL.write(STYLES.shorten(data).encode())


def _shift(values: tuple[Any, ...], by: int) -> tuple[Any, ...]:
    by %= max(1, len(values))
    return values[by:] + values[:by]


def _later(bar: LeaseBar, by: float) -> LeaseBar:
    segments = tuple(
        Segment(
            segment.kind,
            segment.start + by,
            None if segment.end is None else segment.end + by,
            segment.outcome,
            segment.attempt_id,
            segment.resource,
        )
        for segment in bar.segments
    )
    end = None if bar.end is None else bar.end + by
    return replace(bar, start=bar.start + by, end=end, segments=segments)


def frames(start: Frame) -> Iterator[Frame]:
    """The run a quarter of a second later each time: every series moves, every number changes."""
    for step in range(UPDATES):
        by = step * 0.25
        yield replace(
            start,
            at=start.at + by,
            t1=start.t1 + by,
            ordinal=start.ordinal + step * 40,
            last_ordinal=start.last_ordinal + step * 40,
            rows_per_second=4.0 + step % 9,
            tokens_per_second=1480.0 + step * 7,
            eta_seconds=117.0 - step * 0.25,
            progress=msgspec.structs.replace(
                start.progress, rows_done=start.progress.rows_done + step
            ),
            groups=tuple(
                replace(
                    group,
                    queued=group.queued + step % 7,
                    running=group.running + step % 3,
                    oldest_wait=(group.oldest_wait or 0.0) + by,
                )
                for group in start.groups
            ),
            ceilings=tuple(
                replace(
                    row,
                    limits=_shift(row.limits, step),
                    in_flight=_shift(row.in_flight, step),
                    waiters=_shift(row.waiters, step),
                    cooling=_shift(row.cooling, step),
                    rate_limited=_shift(row.rate_limited, step),
                )
                for row in start.ceilings
            ),
            queue_depth=tuple(_shift(values, step) for values in start.queue_depth),
            blame_series=tuple((name, _shift(values, step)) for name, values in start.blame_series),
            bars=tuple(_later(bar, by * 0.8) for bar in start.bars),
            events=tuple(
                EventRow(row.ordinal + step * 40, row.event)
                for row in _shift(start.events, step * 3)
            ),
        )


async def measure(keys: tuple[str, ...], start: Frame) -> tuple[list[float], float]:
    """Milliseconds of CPU for each update, and bytes written for each."""
    session = RecordingSession(start)
    app = ConsoleApp(session, surroundings=STILL)
    app.driver_class = BufferDriver
    prepared = list(frames(session.shown))
    spent: list[float] = []
    async with app.run_test(headless=False, size=SIZE) as pilot:
        await pilot.pause()
        await app.settle()
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
            await app.settle()
        written = TERMINAL.tell()
        for frame in prepared:
            session.shown, session.changed = frame, True
            before = time.process_time()
            app.request_frame()
            await app.settle()
            await wait_drawn(app)
            spent.append((time.process_time() - before) * 1000)
        written = TERMINAL.tell() - written
    return spent, written / len(spent)


async def wait_drawn(app: ConsoleApp) -> None:
    """Until the screen has nothing left to repaint."""
    drawn = asyncio.Event()
    app.screen.call_after_refresh(drawn.set)
    await drawn.wait()


SCREENS: dict[str, tuple[str, ...]] = {
    **{
        control.brief: (control.keys,)
        for control in CONTROLS
        if control.action.startswith("app.go(")
    },
    "Tasks": ("2", "enter"),
    "Task": ("2", "enter", "enter"),
    "Call": ("2", "enter", "enter", "down", "enter"),
    "Stretch": ("1", "v", "left", "v"),
}


def main() -> int:
    over = False
    print(f"CPU per update at {SIZE[0]}×{SIZE[1]}, {UPDATES} updates, encoded for the terminal")
    storm = FRAMES["storm"]()
    for title, start in (("5 groups", storm), ("500 groups", FRAMES["crowd"]())):
        print(title)
        for name, keys in SCREENS.items():
            rounds = [asyncio.run(measure(keys, start)) for _ in range(ROUNDS)]
            spent, written = min(rounds, key=lambda round: statistics.median(round[0]))
            median, p95 = statistics.median(spent), statistics.quantiles(spent, n=20)[-1]
            over |= median > BUDGET_MS
            print(
                f"  {name:<9} median {median:5.2f} ms   p95 {p95:5.2f} ms   "
                f"{written / 1024:5.1f} KiB written, {written * UPDATES_A_SECOND / 1024:5.1f} KiB/s"
                f"   budget {BUDGET_MS:.0f} ms"
            )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
