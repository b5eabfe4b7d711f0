"""Writes a run folder's journal piece by piece, as an engine does that lives."""

from __future__ import annotations

from pathlib import Path

from engine.events import Event, JournalEnd, JournalHeader, JournalLine, RunInfo, encode_lines
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord


def leave_lock(folder: RunFolder) -> None:
    """As a producer leaves it that has lived and is gone: what proves its death."""
    with ProcessLock(folder.lock):
        pass


class Producer:
    """Writes a run folder's journal the way an engine does, holding its lock."""

    def __init__(self, path: Path, run: RunInfo) -> None:
        self.run = run
        self.folder = RunFolder.create(path / "run")
        self.lock = ProcessLock(self.folder.lock)
        self.lock.acquire()
        self.written = 0
        self.segment = 0
        self.record = RunRecord(run.run_id, run.name, "running", wall_start=run.wall_start)
        write_record(self.folder, self.record)

    def begin_segment(self) -> None:
        self.segment += 1
        self.append([JournalHeader(self.run, self.segment, self.written + 1)])

    def write(self, events: list[Event]) -> None:
        if self.segment == 0:
            self.begin_segment()
        self.append(list(events))
        self.written += len(events)

    def append(self, lines: list[JournalLine]) -> None:
        with self.folder.segment(self.segment).open("ab") as file:
            file.write(encode_lines(lines))

    def end(self, at: float) -> None:
        self.append([JournalEnd("success", at, 0, 0)])
        write_record(self.folder, RunRecord(self.run.run_id, self.run.name, "ended"))
        self.lock.release()
