"""`CellLedger`: every live cell's time, each instant under exactly one verdict.

Cells are counted in *tallies*, by what they do or wait for. A tally runs on a *meter*, which has
one blame at a time and a clock for each blame that it had in this bin. A count is settled against
the clocks only when it changes, so neither time nor a change of blame costs more for more cells.
Queues that wait for the same share a meter, so it costs no more for more of them either.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from replay.diagnosis.verdicts import UNKNOWN, Blame
from replay.state.rows import BlameRow

Cell = tuple[str, int | None]
"""Column and row group."""
Key = tuple[str, str]
"""What a cell is doing (`queued`, `waiting`, `provider`, ...) and about which group or resource."""


@lru_cache(maxsize=4096)
def cell_of(column: str, row_group: int | None) -> Cell:
    """The same tuple for all tasks of a column in a row group, which saves memory."""
    return (column, row_group)


@lru_cache(maxsize=4096)
def queued_key(group: str) -> Key:
    """The meter of the group's queue."""
    return ("queued", group)


class Count(msgspec.Struct):
    """Number of cells of one column and row group, and up to when their time is booked."""

    number: int
    settled: dict[Blame, float]
    """The meter's clocks when this count last changed."""
    noted_at: int = -1
    """What `Meter.clocks_begun` was when this count was last noted as changed."""


class Tally(msgspec.Struct):
    """Cells that do or wait for the same thing, counted by column and row group."""

    meter: int
    counts: dict[Cell, Count] = {}
    total: int = 0
    """Of all counts."""


class Meter(msgspec.Struct):
    """A clock in seconds of run time for each blame that its tallies were under in this bin."""

    blame: Blame
    since: float
    keys: dict[Key, None]
    """Of the tallies that run on it; never empty."""
    clocks: dict[Blame, float] = {}
    clocks_begun: int = 0
    changed: list[tuple[Key, Cell]] = []
    """Counts that have changed in this bin, each once after a clock began, in order."""
    first_change: dict[Blame, int] = {}
    """Length of `changed` when each clock began: counts that changed before do not know it."""

    def run_to(self, now: float, blame: Blame | None = None) -> None:
        """Let the clock of `blame`, by default the meter's own, run up to `now`."""
        if now > self.since:
            blame = blame or self.blame
            if blame in self.clocks:
                self.clocks[blame] += now - self.since
            else:
                self.clocks[blame] = now - self.since
                self.first_change[blame] = len(self.changed)
                self.clocks_begun += 1
            self.since = now

    def note(self, key: Key, cell: Cell, count: Count) -> None:
        """The count has changed, and knows the clocks as they are now."""
        count.settled = dict(self.clocks)
        if count.noted_at != self.clocks_begun:
            count.noted_at = self.clocks_begun
            self.changed.append((key, cell))

    def clear(self) -> None:
        """A bin begins: all clocks stand at zero, and no count knows any."""
        self.clocks, self.changed, self.first_change = {}, [], {}
        self.clocks_begun += 1

    def rename(self, old: Blame, new: Blame) -> list[tuple[Key, Cell]]:
        """Give the time on the clock of `old` to that of `new`.

        Returns:
            The counts that may know the clock of `old`.
        """
        if self.blame == old:
            self.blame = new
        if old not in self.clocks:
            return []
        first = self.first_change.pop(old)
        self.first_change[new] = min(first, self.first_change.get(new, first))
        _move(self.clocks, old, new)
        return self.changed[first:]


class CellChange(msgspec.Struct, frozen=True, gc=False):
    """A change of a count by `by`, or of a meter's blame (`cell` is None)."""

    at: float
    meter: int
    cell: Cell | None
    by: int
    blame: Blame
    """The meter's until then."""


class CellLedger(msgspec.Struct):
    """Cell-seconds by blame, column and row group, summed up bin by bin."""

    tallies: dict[Key, Tally] = {}
    meters: dict[int, Meter] = {}
    """By number, which is never given again."""
    last_meter: int = 0
    seconds: dict[Blame, dict[Cell, float]] = {}
    """Of the open bin."""
    log: list[CellChange] = []
    """Changes since the event loop was last known to have run."""
    renamed_to: dict[Blame, int] = {}
    """Length of the log when a blame was last renamed: entries before it do not contain it."""

    def add(self, cell: Cell, key: Key, by: int, now: float) -> bool:
        """Change a count by `by`. True if its tally is new and needs its blame."""
        tally = self.tallies.get(key)
        new = tally is None
        if tally is None:
            tally = self.tallies[key] = Tally(self._new_meter(key, (UNKNOWN, ""), now))
        meter = self.meters[tally.meter]
        meter.run_to(now)
        tally.total += by
        self.log.append(CellChange(now, tally.meter, cell, by, meter.blame))
        count = tally.counts.get(cell)
        if count is None:
            count = tally.counts[cell] = Count(0, {})
        else:
            self._settle(meter, cell, count)
        count.number += by
        meter.note(key, cell, count)
        if count.number == 0:
            del tally.counts[cell]
            if not tally.counts:
                del self.tallies[key]
                self._leave(tally.meter, key)
                new = False
        return new

    def blame(self, number: int, blame: Blame, now: float) -> bool:
        """From `now` on the cells on this meter are under `blame`. True if that is a change."""
        meter = self.meters[number]
        if meter.blame == blame:
            return False
        meter.run_to(now)
        self.log.append(CellChange(now, number, None, 0, meter.blame))
        meter.blame = blame
        return True

    def share(self, key: Key, number: int, now: float) -> None:
        """From `now` on this tally runs on another meter."""
        tally = self.tallies[key]
        before, after = self.meters[tally.meter], self.meters[number]
        before.run_to(now)
        after.run_to(now)
        for cell, count in tally.counts.items():
            self._settle(before, cell, count)
            self.log.append(CellChange(now, tally.meter, cell, -count.number, before.blame))
            self.log.append(CellChange(now, number, cell, count.number, after.blame))
            count.noted_at = -1
            after.note(key, cell, count)
        self._leave(tally.meter, key)
        after.keys[key] = None
        tally.meter = number

    def part(self, key: Key, now: float) -> int:
        """From `now` on this tally has a new meter of its own, with the blame it has now.

        Returns:
            The meter's number.
        """
        number = self._new_meter(key, self.meters[self.tallies[key].meter].blame, now)
        self.share(key, number, now)
        return number

    def _new_meter(self, key: Key, blame: Blame, now: float) -> int:
        self.last_meter += 1
        self.meters[self.last_meter] = Meter(blame, now, {key: None})
        return self.last_meter

    def _leave(self, number: int, key: Key) -> None:
        keys = self.meters[number].keys
        del keys[key]
        if not keys:
            del self.meters[number]

    def forget_log(self) -> None:
        """The event loop is known to have run until now."""
        self.log = []
        self.renamed_to = {}

    def total(self, key: Key) -> int:
        """Cells in this tally."""
        tally = self.tallies.get(key)
        return 0 if tally is None else tally.total

    def blame_of(self, key: Key) -> Blame | None:
        """Blame of the cells in this tally; None if there are none."""
        tally = self.tallies.get(key)
        return None if tally is None else self.meters[tally.meter].blame

    def columns_of(self, key: Key) -> list[str]:
        """Columns of the cells in this tally."""
        tally = self.tallies.get(key)
        return [] if tally is None else sorted({column for column, _ in tally.counts})

    def cover(self, now: float, verdict: str) -> None:
        """All the time between the last settled instant and `now` goes to `verdict`."""
        for meter in self.meters.values():
            meter.run_to(now, (verdict, ""))

    def rename(self, old: Blame, new: Blame, now: float) -> None:
        """What was under `old` in this bin, and is now, was and is under `new`."""
        for meter in self.meters.values():
            if meter.blame == old or old in meter.clocks:
                meter.run_to(now)
                for key, cell in meter.rename(old, new):
                    tally = self.tallies.get(key)
                    count = None if tally is None else tally.counts.get(cell)
                    if count is not None and old in count.settled:
                        _move(count.settled, old, new)
        log = self.log
        for position in range(self.renamed_to.get(old, 0), len(log)):
            if log[position].blame == old:
                log[position] = msgspec.structs.replace(log[position], blame=new)
        self.renamed_to[old] = len(log)
        self.renamed_to.pop(new, None)
        for cell, seconds in self.seconds.pop(old, {}).items():
            self._count_seconds(new, cell, seconds)

    def take_back(self, taken: dict[tuple[Blame, Cell], float], verdict: str) -> None:
        """Move seconds of the open bin, as far as there are any, to `verdict`."""
        for key, tally in self.tallies.items():
            meter = self.meters[tally.meter]
            for cell, count in tally.counts.items():
                self._settle(meter, cell, count)
                meter.note(key, cell, count)
        for (blame, cell), amount in taken.items():
            seconds = self.seconds.get(blame, {})
            moved = min(amount, seconds.get(cell, 0.0))
            if moved > 0.0:
                seconds[cell] -= moved
                self._count_seconds((verdict, ""), cell, moved)

    def run_to(self, now: float) -> None:
        """Let all clocks run up to `now`."""
        for meter in self.meters.values():
            meter.run_to(now)

    def leap(self, now: float) -> None:
        """Go on at `now`; the time until then is nobody's."""
        for meter in self.meters.values():
            meter.since = now

    def close_bin(self, bin_number: int, now: float) -> list[BlameRow]:
        """The rows of the bin that ends at `now`, in cell-seconds."""
        self.run_to(now)
        for tally in self.tallies.values():
            meter = self.meters[tally.meter]
            for cell, count in tally.counts.items():
                self._settle(meter, cell, count)
                count.settled = {}
        for meter in self.meters.values():
            meter.clear()
        rows = [
            BlameRow(bin_number, "cell", column, row_group, resource, verdict, seconds)
            for (verdict, resource), cells in self.seconds.items()
            for (column, row_group), seconds in cells.items()
            if seconds > 0.0
        ]
        self.seconds = {}
        return rows

    def _settle(self, meter: Meter, cell: Cell, count: Count) -> None:
        for blame, clock in meter.clocks.items():
            elapsed = clock - count.settled.get(blame, 0.0)
            if elapsed > 0.0:
                self._count_seconds(blame, cell, count.number * elapsed)

    def _count_seconds(self, blame: Blame, cell: Cell, seconds: float) -> None:
        cells = self.seconds.get(blame)
        if cells is None:
            cells = self.seconds[blame] = {}
        cells[cell] = cells.get(cell, 0.0) + seconds


def _move(clocks: dict[Blame, float], old: Blame, new: Blame) -> None:
    clocks[new] = clocks.get(new, 0.0) + clocks.pop(old)
