"""`BlameLog`: rows of closed bins, on their way from the ledgers to the recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from replay.diagnosis.wakeups import PENDING, pending, pending_among
from replay.state.bins import BlameStretches
from replay.state.rows import BlameRow


class BlameLog(msgspec.Struct):
    """Joins equal bins to stretches, and keeps back what is still pending."""

    stretches: BlameStretches = msgspec.field(default_factory=BlameStretches)
    held: list[BlameRow] = []
    """Blame of closed bins that is still pending."""
    pending: list[str] = []
    """Which verdicts of the stretches that may go on are pending."""
    rows: list[BlameRow] = []
    """Not yet drained."""

    def add(self, bin_number: int, rows: Sequence[BlameRow], bins: int) -> None:
        """The rows of a bin that has ended, or of so many that are alike."""
        single = rows if bins == 1 else [msgspec.structs.replace(row, bins=1) for row in rows]
        self._release(self.stretches.add(bin_number, single, bins))
        self.pending = pending_among(rows)

    def end_stretches(self) -> None:
        """Nothing more will come: releases the rows of stretches that are open."""
        self.pending = []
        self._release(self.stretches.end())

    def open_rows(self, provisional: Iterable[tuple[int, int, list[BlameRow]]]) -> list[BlameRow]:
        """Stretches that may go on, except pending ones; changes nothing.

        `provisional` are bins that may yet be taken back: the first, how many, and their rows.
        """
        stretches = BlameStretches(dict(self.stretches.open), self.stretches.begun)
        rows: list[BlameRow] = []
        for number, bins, of_bin in provisional:
            single = [msgspec.structs.replace(row, bins=1) for row in of_bin]
            rows += stretches.add(number, single, bins)
        rows += stretches.open.values()
        return [row for row in rows if row.verdict not in PENDING]

    def resolve_pending(self, resource: str, verdict: str) -> None:
        """Blame that was pending for `resource` ("" for the task queue) belongs to `verdict`."""
        old, _ = pending(resource)
        if old in self.pending:
            self.end_stretches()
        held, self.held = self.held, []
        for row in held:
            if row.verdict == old and resource in ("", row.resource):
                self.rows.append(msgspec.structs.replace(row, verdict=verdict))
            else:
                self.held.append(row)

    def drain(self) -> list[BlameRow]:
        """Rows that are final; each is returned once."""
        rows, self.rows = self.rows, []
        return rows

    def _release(self, rows: list[BlameRow]) -> None:
        for row in rows:
            (self.held if row.verdict in PENDING else self.rows).append(row)
