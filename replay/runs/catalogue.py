"""The list of runs: what each is and how it ended, from `run.json` and the lock alone.

No recording is opened for a line of the list, so that a thousand runs stay cheap; the top cause of
one run is read by `top_cause` when somebody looks at it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from engine.events import UserError
from engine.events.run_folder import (
    BESIDE_DATASET,
    CELLS,
    JOURNAL,
    OUTPUT_LOG,
    RECORDER_LOCK,
    RECORDING,
    RUN_JSON,
    RUN_LOCK,
    RunFolder,
    read_record,
)
from engine.events.run_index import KnownRun, list_runs
from engine.events.run_record import RunRecord, run_state
from replay.diagnosis.report.shares import run_shares
from replay.diagnosis.verdicts import WORKING, phrase
from replay.recording.reader import open_recording
from replay.sources.base import SourceError

EntryState = Literal["live", "ended", "complete", "lost", "unknown", "away", "unreadable"]
"""As `RunState`, with `live` for running; `away`, `unreadable`: as `Whereabouts`."""

DATASET = "dataset"
_OWN = frozenset({RECORDING, f"{RECORDING}.wal", RUN_JSON, RUN_LOCK, RECORDER_LOCK, OUTPUT_LOG})
_LIVE: Final = "live"


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One line of the list."""

    run_id: str
    name: str
    path: Path
    state: EntryState
    outcome: str | None = None
    started: float | None = None
    """Unix seconds."""
    seconds: float | None = None
    """From start to end; of a live run until now."""
    rows_done: int | None = None
    """None while the run lives: its `run.json` is written at its end."""
    rows_dropped: int | None = None
    records: int | None = None
    bytes: int = 0
    """Of the recording and the journal, without the dataset."""
    producer: str = ""
    pointer: Path | None = None
    """Its file in the index; None where it was found in a folder of runs."""

    @property
    def live(self) -> bool:
        return self.state == _LIVE

    def row(self, now: float) -> dict[str, object]:
        """The columns that filters know."""
        return {
            "name": self.name,
            "id": self.run_id,
            "state": self.state,
            "outcome": self.outcome,
            "producer": self.producer,
            "folder": str(self.path),
            "rows_done": self.rows_done,
            "rows_dropped": self.rows_dropped,
            "records": self.records,
            "seconds": self.seconds,
            "bytes": self.bytes,
            "age": None if self.started is None else now - self.started,
        }


def list_entries(within: Path | None = None, now: float | None = None) -> list[RunEntry]:
    """The runs of the index, or those of a folder of runs: live ones first, then the newest.

    Args:
        within: A folder whose subfolders are run folders.
        now: Unix time to measure live runs by.
    """
    now = time.time() if now is None else now
    if within is None:
        entries = [_indexed(run, now) for run in list_runs()]
    else:
        below = (entry_of(path, now) for path in _below(within))
        entries = [entry for entry in below if entry is not None]
    entries.sort(key=lambda entry: (entry.live, entry.started or 0.0), reverse=True)
    return entries


def is_folder_of_runs(path: Path) -> bool:
    """Whether it is no run itself, and a subfolder of it is one."""
    if not path.is_dir():
        return False
    folder = RunFolder(path)
    with closing(folder):
        if any(folder.has(name) for name in (RUN_JSON, JOURNAL, RECORDING)):
            return False
    return next(iter(_below(path)), None) is not None


def entry_of(path: Path, now: float) -> RunEntry | None:
    """The run in this folder; None where its `run.json` can't be read."""
    folder = RunFolder(path)
    with closing(folder):
        record = read_record(folder)
        return None if record is None else _entry(folder, record, now, None)


def top_cause(entry: RunEntry) -> str:
    """The verdict with the largest share of blame apart from work, from the recording as stored.

    Returns:
        Name and share, for example `cooldown after 429s 42 %`; empty where nothing is stored.
    """
    recording = entry.path / RECORDING
    if entry.live or not recording.exists():
        return ""
    try:
        with closing(open_recording(recording)) as reader:
            shares = run_shares(reader.blame(0, 2**31, "run"))
    except (SourceError, OSError):
        return ""
    share = next((share for share in shares if share.verdict != WORKING), None)
    return "" if share is None else f"{phrase(share.verdict)} {share.fraction * 100:.0f} %"


def delete_run(entry: RunEntry) -> None:
    """Remove the files of a run that has ended, its dataset among them, and its place in the index.

    Anything else that lies in its folder stays, and the folder with it.

    Raises:
        UserError: The run may still be written, or a file can't be removed.
    """
    folder = RunFolder(entry.path)
    with closing(folder):
        if folder.producer_lives or folder.recorder_lives:
            raise UserError(f"{entry.name} is still being written: stop it first.")
        if folder.has(RUN_LOCK) and not folder.is_ours:
            raise UserError(f"{entry.name} belongs to another user.")
        record = read_record(folder)
        if record is None or record.run_id != entry.run_id:
            raise UserError(f"{entry.path} no longer holds {entry.name}.")
    try:
        for name in (JOURNAL, CELLS, DATASET):
            if (entry.path / name).is_dir():
                shutil.rmtree(entry.path / name)  # refuses a link
        for name in sorted(_OWN | BESIDE_DATASET):
            (entry.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            entry.path.rmdir()
        if entry.pointer is not None:
            entry.pointer.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename or entry.path}: {error.strerror}.") from error


def _indexed(run: KnownRun, now: float) -> RunEntry:
    if run.record is None:
        state: EntryState = "away" if run.where == "away" else "unreadable"
        return RunEntry(run.run_id, run.name, run.path, state, pointer=run.pointer)
    folder = RunFolder(run.path)
    with closing(folder):
        return _entry(folder, run.record, now, run.pointer)


def _entry(folder: RunFolder, record: RunRecord, now: float, pointer: Path | None) -> RunEntry:
    state = run_state(record.state, folder.producer)
    ended = now if state == "running" else record.wall_end
    seconds = None
    if record.wall_start is not None and ended is not None:
        seconds = max(0.0, ended - record.wall_start - record.paused_seconds)
    running = record.state == "running"
    return RunEntry(
        run_id=record.run_id,
        name=record.name,
        path=folder.path,
        state=_LIVE if state == "running" else state,
        outcome=record.outcome,
        started=record.wall_start,
        seconds=seconds,
        rows_done=None if running else record.rows_done,
        rows_dropped=None if running else record.rows_dropped,
        records=record.records,
        bytes=_size(folder.path),
        producer=record.producer,
        pointer=pointer,
    )


def _size(path: Path) -> int:
    total = 0
    for folder, names in ((path, (RECORDING, f"{RECORDING}.wal")), (path / JOURNAL, None)):
        with suppress(OSError), os.scandir(folder) as files:
            for file in files:
                if (names is None or file.name in names) and file.is_file(follow_symlinks=False):
                    total += file.stat(follow_symlinks=False).st_size
    return total


def _below(path: Path) -> Iterable[Path]:
    with suppress(OSError), os.scandir(path) as folders:
        for below in folders:
            if below.is_dir(follow_symlinks=False) and os.path.lexists(Path(below.path) / RUN_JSON):
                yield Path(below.path)
