"""Takes back blame: seconds that were counted under other verdicts before it was known that the
producer's event loop had not run.

Until the next heartbeat of the loop, what was counted is provisional. The ledgers log each change
of a count or a blame meanwhile, so that for any interval since then it can be said which seconds
were counted where: the log is undone from now backwards, and each stretch between two changes
falls to the counts and blames of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from replay.diagnosis.cell_ledger import Cell, CellLedger
from replay.diagnosis.slot_ledger import CapacityLedger
from replay.diagnosis.wakeups import pending_among
from replay.state.bins import bin_end
from replay.state.rows import BlameRow

BlameKey = tuple[Literal["cell", "run"], str, int | None, str, str]
"""Scope, column, row group, resource and verdict of a row of blame."""
Interval = tuple[float, float]


class HeldBins(msgspec.Struct):
    """Rows of a closed bin, or of several that are alike, which may yet be taken back."""

    bin: int
    bins: int
    rows: list[BlameRow]
    pending: list[str] = []
    """Which verdicts of the rows are pending."""

    def __post_init__(self) -> None:
        self.pending = pending_among(self.rows)

    def rename(self, old: str, new: str, about: str) -> None:
        """What is under `old`, about one resource or ("") any, is under `new`."""
        if old in self.pending:
            self.rows = renamed(self.rows, old, new, about)
            self.pending = pending_among(self.rows)


def cell_seconds(ledger: CellLedger, interval: Interval) -> dict[BlameKey, float]:
    """Seconds that were counted for cells within the interval, since which all is logged."""
    begin, end = interval
    blame = {number: meter.blame for number, meter in ledger.meters.items()}
    counts: dict[int, dict[Cell, int]] = {}
    for tally in ledger.tallies.values():
        on_meter = counts.setdefault(tally.meter, {})
        for cell, count in tally.counts.items():
            on_meter[cell] = on_meter.get(cell, 0) + count.number
    until: dict[tuple[int, Cell], float] = {}
    seconds: dict[BlameKey, float] = {}

    def account(meter: int, cell: Cell, since: float) -> None:
        """The stretch from `since` to where this count was accounted for last."""
        last = until.get((meter, cell), end)
        until[meter, cell] = min(last, since)
        elapsed = last - max(since, begin)
        number = counts[meter].get(cell, 0)
        if elapsed > 0.0 and number:
            verdict, about = blame[meter]
            key: BlameKey = ("cell", cell[0], cell[1], about, verdict)
            seconds[key] = seconds.get(key, 0.0) + number * elapsed

    for change in reversed(ledger.log):
        if change.at <= begin:
            break
        at, meter = min(change.at, end), change.meter
        on_meter = counts.setdefault(meter, {})
        if change.cell is not None:
            if at < end:
                account(meter, change.cell, at)
            on_meter[change.cell] = on_meter.get(change.cell, 0) - change.by
        elif at < end:
            for cell in list(on_meter):
                account(meter, cell, at)
        # Of a meter that is gone, nothing but the log tells the blame.
        blame[meter] = change.blame
    for meter, on_meter in counts.items():
        for cell in on_meter:
            account(meter, cell, begin)
    return seconds


def slot_seconds(ledger: CapacityLedger, interval: Interval) -> dict[BlameKey, float]:
    """The same of the slots of request resources."""
    begin, end = interval
    parts = {resource: account.parts for resource, account in ledger.accounts.items()}
    until = dict.fromkeys(parts, end)
    seconds: dict[BlameKey, float] = {}

    def account(resource: str, since: float) -> None:
        elapsed = until.get(resource, end) - max(since, begin)
        until[resource] = min(until.get(resource, end), since)
        if elapsed > 0.0:
            for verdict, slots in parts.get(resource, {}).items():
                key: BlameKey = ("run", "", None, resource, verdict)
                seconds[key] = seconds.get(key, 0.0) + slots * elapsed

    for at, resource, before in reversed(ledger.log):
        if at <= begin:
            break
        if at < end:
            account(resource, at)
        parts[resource] = before
    for resource in parts:
        account(resource, begin)
    return seconds


def take_back_open(
    cells: CellLedger, capacity: CapacityLedger, interval: Interval, verdict: str, now: float
) -> None:
    """Move what the open bin has of the interval, which lies in it, to `verdict`."""
    cells.run_to(now)
    capacity.run_to(now)
    taken = cell_seconds(cells, interval)
    slots = slot_seconds(capacity, interval)
    cells.take_back(
        {
            ((verdict_then, about), (column, row_group)): amount
            for (_, column, row_group, about, verdict_then), amount in taken.items()
        },
        verdict,
    )
    capacity.take_back({(key[3], key[4]): amount for key, amount in slots.items()}, verdict)


def take_back(
    rows: Iterable[BlameRow], taken: dict[BlameKey, float], verdict: str
) -> list[BlameRow]:
    """Rows of one bin with the seconds `taken` moved to `verdict`, as far as they have them."""
    seconds: dict[BlameKey, float] = {}
    number, bins = 0, 1
    for row in rows:
        number, bins = row.bin, row.bins
        key: BlameKey = (row.scope, row.column, row.row_group, row.resource, row.verdict)
        seconds[key] = seconds.get(key, 0.0) + row.per_bin
    for key, amount in taken.items():
        moved = min(amount, seconds.get(key, 0.0))
        if moved > 0.0:
            seconds[key] -= moved
            to = moved_key(key, verdict)
            seconds[to] = seconds.get(to, 0.0) + moved
    return [
        BlameRow(number, key[0], key[1], key[2], key[3], key[4], amount, bins)
        for key, amount in seconds.items()
        if amount > 1e-12
    ]


def renamed(rows: Iterable[BlameRow], old: str, new: str, about: str) -> list[BlameRow]:
    """Rows of one bin in which `old`, about one resource or ("") any, is called `new`."""
    kept: dict[BlameKey, BlameRow] = {}
    for row in rows:
        changed = row.verdict == old and about in ("", row.resource)
        verdict = new if changed else row.verdict
        key: BlameKey = (row.scope, row.column, row.row_group, row.resource, verdict)
        known = kept.get(key)
        per_bin = row.per_bin if known is None else row.per_bin + known.per_bin
        kept[key] = msgspec.structs.replace(row, verdict=verdict, per_bin=per_bin)
    return list(kept.values())


def moved_key(key: BlameKey, verdict: str) -> BlameKey:
    """Where seconds of `key` belong while the loop did not run."""
    scope, column, row_group, resource, _ = key
    return (scope, column, row_group, resource if scope == "run" else "", verdict)


def adjusted(
    held: Sequence[HeldBins],
    seconds_within: Callable[[Interval], dict[BlameKey, float]],
    intervals: Sequence[tuple[Interval, str]],
    start: float,
) -> list[HeldBins]:
    """The held bins as they are once the intervals (disjoint, in order) are taken back.

    `seconds_within` tells what was counted in an interval, `start` is when the run started: bins
    are counted from there.
    """
    if not intervals:
        return list(held)
    result: list[HeldBins] = []
    for entry in held:
        for part in _split(entry, intervals, start):
            rows = part.rows
            begin, end = start + part.bin, bin_end(start, part.bin + part.bins - 1)
            for (first, last), verdict in intervals:
                low, high = max(first, begin), min(last, end)
                if low >= high:
                    continue
                if low <= begin and high >= end:
                    taken: dict[BlameKey, float] = {
                        (row.scope, row.column, row.row_group, row.resource, row.verdict): math.inf
                        for row in rows
                    }
                else:
                    taken = seconds_within((low, high))
                rows = take_back(rows, taken, verdict)
            result.append(HeldBins(part.bin, part.bins, rows))
    return result


def _split(
    entry: HeldBins, intervals: Sequence[tuple[Interval, str]], start: float
) -> Iterator[HeldBins]:
    """Parts of the entry that lie wholly inside or outside each interval, or are one bin long."""
    first, after = entry.bin, entry.bin + entry.bins
    cuts = {first, after}
    for interval, _ in intervals:
        for time in interval:
            number = math.floor(time - start)
            cuts.update(cut for cut in (number, number + 1) if first < cut < after)
    ordered = sorted(cuts)
    for low, high in pairwise(ordered):
        if low == first and high == after:
            yield entry
        else:
            rows = [msgspec.structs.replace(r, bin=low, bins=high - low) for r in entry.rows]
            yield HeldBins(low, high - low, rows)
