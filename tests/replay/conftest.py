"""Streams of a run for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from engine.events import Event, JournalEnd, JournalHeader, JournalLine, RunInfo, encode_lines
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
from replay.projections.fold import Fold, FoldOutput
from replay.recording.reader import RecordingReader
from tests.replay.producer import leave_lock
from tests.replay.random_engine import Play, RandomEngine
from tests.replay.recording.processes import Processes

WriteJournal = Callable[..., RunFolder]
Derived = Callable[[RunInfo, Sequence[Event]], FoldOutput]
Kept = Callable[[RecordingReader], FoldOutput]


@pytest.fixture(scope="session")
def play() -> Play:
    """`play(seed, row_groups=2, steps=None) -> (run, events)`."""

    def play(
        seed: int, row_groups: int = 2, steps: int | None = None
    ) -> tuple[RunInfo, list[Event]]:
        engine = RandomEngine(seed, row_groups)
        return engine.run, engine.play(steps)

    return play


@pytest.fixture
def write_journal(tmp_path: Path) -> WriteJournal:
    """`write_journal(run, events, segments=1, ended=True) -> RunFolder`, its producer gone."""

    def write(
        run: RunInfo, events: list[Event], segments: int = 1, ended: bool = True
    ) -> RunFolder:
        folder = RunFolder.create(tmp_path / "run")
        write_record(folder, RunRecord(run.run_id, run.name, "running", wall_start=run.wall_start))
        size = len(events) // segments + 1
        for number in range(1, segments + 1):
            first = (number - 1) * size
            lines: list[JournalLine] = [JournalHeader(run, number, first + 1)]
            lines += events[first : first + size]
            if ended and number == segments:
                lines.append(JournalEnd("success", events[-1].captured_at_monotonic, 0, 0))
            folder.segment(number).write_bytes(encode_lines(lines))
        leave_lock(folder)
        return folder

    return write


@pytest.fixture
def processes() -> Iterator[Processes]:
    result = Processes()
    yield result
    for process in result.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def derived() -> Derived:
    """What one fold over all events derives, in one go."""

    def fold_all(run: RunInfo, events: Sequence[Event]) -> FoldOutput:
        fold = Fold(run)
        fold.apply(events, 1)
        parts = [fold.drain(), fold.finish("success", False)]
        return in_order(
            FoldOutput(
                [row for part in parts for row in part.leases],
                [row for part in parts for row in part.attempts],
                [row for part in parts for row in part.rollup],
                [row for part in parts for row in part.blame],
                [row for part in parts for row in part.verdicts],
            )
        )

    return fold_all


@pytest.fixture
def kept() -> Kept:
    """All that a recording holds beside its events."""

    def read(reader: RecordingReader) -> FoldOutput:
        everything = 1_000_000
        leases, attempts = reader.bars(float("-inf"), float("inf"), everything)
        blame = reader.blame(-everything, everything, "cell")
        blame += reader.blame(-everything, everything, "run")
        rollup = reader.rollup(-everything, everything)
        return in_order(FoldOutput(leases, attempts, rollup, blame, reader.verdicts()))

    return read


def in_order(output: FoldOutput) -> FoldOutput:
    """Rows sorted by their text, so that the order they were written in does not matter."""
    return FoldOutput(
        *(sorted(getattr(output, name), key=repr) for name in FoldOutput.__struct_fields__)
    )
