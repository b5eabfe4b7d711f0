"""`RunRows`: rows derived from the events of an open run, whether kept or still growing."""

from __future__ import annotations

from typing import Literal

from replay.diagnosis.verdicts import VerdictRow
from replay.playback.attached import Attached
from replay.projections.fold import Fold
from replay.recording.ingest import Ingest
from replay.recording.reader import RecordingReader
from replay.state.bins import within
from replay.state.rows import BlameRow, RollupRow


class RunRows:
    """Rows of the recording, and of a run that is still being read those that its fold has open."""

    def __init__(self, reader: RecordingReader, ingest: Ingest | Attached | None) -> None:
        self.reader = reader
        self._ingest = ingest
        self._written: list[VerdictRow] = []
        """Verdicts of the recording, of which a run that is being read only gets more."""
        self._verdicts: list[VerdictRow] | None = None
        self._verdicts_of: tuple[int, bool] | None = None
        """Last ordinal read, and whether nothing follows, when the verdicts were collected."""
        self._peaks: dict[str, dict[str, float]] | None = None
        self._standing: tuple[tuple[float, int | None], list[VerdictRow]] | None = None
        """Instant and last ordinal read, and what was found."""

    @property
    def _fold(self) -> Fold | Attached | None:
        ingest = self._ingest
        return None if ingest is None or ingest.finished else ingest.fold

    def blame(self, first: int, last: int, scope: Literal["cell", "run"]) -> list[BlameRow]:
        """Blame of cells, or of the run's capacity, in the bins `first` to `last`."""
        rows = self.reader.blame(first, last, scope)
        if (fold := self._fold) is not None:
            growing = (row for row in fold.open_blame() if row.scope == scope)
            rows += within(growing, first, last)
        return rows

    def series(self, first: int, last: int) -> list[RollupRow]:
        """Series in the bins `first` to `last`."""
        rows = self.reader.rollup(first, last)
        if (fold := self._fold) is not None:
            rows += within(fold.open_series(), first, last)
        return rows

    def peaks(self) -> dict[str, dict[str, float]]:
        """Series -> key -> most at once in the whole run; empty while it is being read."""
        if self._peaks is None and self._fold is None:
            self._peaks = self.reader.peaks()
        return self._peaks or {}

    def verdicts(self) -> list[VerdictRow]:
        """All verdicts by start; the end of an open verdict is the last event read."""
        ingest = self._ingest
        read = None if ingest is None else (ingest.recorded[0], ingest.finished)
        if self._verdicts is None or self._verdicts_of != read:
            self._written += self.reader.verdicts_written(len(self._written))
            self._written.sort(key=lambda row: (row.start, row.end))
            self._verdicts = self._written + self._open_verdicts()
            self._verdicts.sort(key=lambda row: (row.start, row.end))
            self._verdicts_of = read
        return self._verdicts

    def verdicts_at(self, t: float) -> list[VerdictRow]:
        """Verdicts that hold at the instant `t`, by start."""
        moment = (t, None if self._ingest is None else self._ingest.recorded[0])
        if self._standing is None or self._standing[0] != moment:
            rows = self.reader.verdicts(t, t)
            rows += [row for row in self._open_verdicts() if row.start <= t <= row.end]
            self._standing = moment, sorted(rows, key=lambda row: (row.start, row.end))
        return self._standing[1]

    def verdicts_between(self, start: float, end: float) -> list[VerdictRow]:
        """Verdicts of which some part lies in the interval."""
        growing = (row for row in self._open_verdicts() if row.end >= start and row.start <= end)
        return [*self.reader.verdicts(start, end), *growing]

    def _open_verdicts(self) -> list[VerdictRow]:
        return [] if self._fold is None else self._fold.open_verdicts()
