"""`open_source`: what kind of thing did the user name?"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.events import UserError
from engine.events.run_folder import JOURNAL, RECORDING, RUN_JSON, RunFolder, read_record
from engine.events.run_index import KnownRun, list_runs, register
from engine.events.safe_files import UnsafeFile, open_regular
from replay.runs.artifact import Artifact, begins_artifact, read_artifact, recording_of
from replay.runs.parquet_export import STREAM_FILE, open_stream
from replay.sources.base import SourceError
from replay.sources.compressed import compression_of
from replay.sources.dialects import producer_of
from replay.sources.feed import Feed, open_journal, open_lines
from replay.sources.file_source import COMPRESSED_SUFFIXES, FOREIGN_NAME, SILENCE_SECONDS
from replay.sources.line_reader import LineReader, is_written
from replay.sources.sanitize import clean_text

_DEPTH = 4
_FOLDERS = 2_000
_LINES = 20
_SHORTEST_ID = 4
LATEST = "latest"
"""Names the newest run."""
_HEAD_BYTES = 64
_FOREIGN_NAMES = (FOREIGN_NAME, *(FOREIGN_NAME + suffix for suffix in COMPRESSED_SUFFIXES))
_NAMED = 3
"""So many of several runs are named; the newest, as their names begin with the time."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PARQUET = b"PAR1"
_MAGIC = (
    (b"\xff\xfe", "text in UTF-16, save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16, save it as UTF-8"),
    (b"\x1f\x8b", "a gzip file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "an image"),
)


@dataclass(frozen=True)
class Opened:
    """Either events to be read (`feed`) or a finished recording in DuckDB (`recording`)."""

    feed: Feed | None
    recording: Path | None
    title: str
    path: Path | None = None
    """The run's folder or the one file that was found; None where it is not there yet."""


def open_source(target: str | Path, *, growing: bool | None = None) -> Opened:
    """Open a run folder, a recording, JSON Lines, a whole Parquet export, a Data Designer dataset
    folder, a benchmark artifact (`#2` after its name for its third iteration), or a run id.

    `growing`: whether lines may still be added to JSON Lines (a file or a folder of a dataset that
    is not there yet is then waited for); None finds out. Raises `SourceError`.
    """
    path = Path(target)
    artifact, mark, number = str(target).rpartition("#")
    if _ADDRESS.match(str(target)):
        raise SourceError(
            f"{_shown(target)} is an address, and headgate reads files: name a run folder, "
            "a run id, a .duckdb or a .jsonl on this machine."
        )
    try:
        if mark and number.isdecimal() and not path.exists() and Path(artifact).is_file():
            return _open_artifact(Path(artifact), int(number))
        if path.is_dir():
            return _open_folder(path, growing)
        if path.exists():
            return _open_file(path, growing)
    except UnsafeFile as error:
        name = _shown(error.filename or path)
        raise SourceError(f"{name} is not opened: {error.strerror}.", exit_code=4) from error
    except PermissionError as error:
        raise SourceError(f"No permission to read {_shown(error.filename or path)}.") from error
    except OSError as error:
        raise SourceError(f"{_shown(path)} can't be read: {error.strerror}.") from error
    if growing and path.name.endswith(".jsonl"):
        return Opened(open_lines(path, True), None, path.name)
    if growing and len(path.parts) > 1 and path.suffix not in (".duckdb", *COMPRESSED_SUFFIXES):
        return _await_dataset(path)
    return _open_run_id(str(target))


def _open_folder(path: Path, growing: bool | None) -> Opened:
    folder = RunFolder(path)
    if folder.has(RUN_JSON) or folder.has(JOURNAL):
        return open_run(folder)
    if folder.has(RECORDING):
        folder.check()
        return _open_file(folder.recording, growing)
    runs = sorted((run.name for run in _runs_in(path)), reverse=True)
    if runs:
        names = ", ".join(_shown(path / name) for name in runs[:_NAMED])
        more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
        raise SourceError(f"{_shown(path)} is a folder of runs; name one of them: {names}{more}.")
    if (path / STREAM_FILE).is_file():
        return _open_file(path / STREAM_FILE, growing)
    files = sorted(_foreign_files(path)) or sorted(_artifacts(path))
    if len(files) == 1:
        return _open_file(files[0], growing)
    if files:
        names = ", ".join(_shown(file.relative_to(path)) for file in files[:3])
        more = ", …" if len(files) > 3 else ""
        raise SourceError(
            f"{_shown(path)} holds {len(files)} recordings; name one of them: {names}{more}."
        )
    if growing:
        return _await_dataset(path)
    what = "is an empty folder" if not any(path.iterdir()) else "holds no recording"
    raise SourceError(
        f"{_shown(path)} {what}: neither a run of headgate nor a {FOREIGN_NAME} of Data Designer."
    )


def _await_dataset(path: Path) -> Opened:
    """The events of the first dataset that comes to be in or below a folder."""

    def search() -> Path | None:
        return min(
            (file for file in _foreign_files(path) if file.name == FOREIGN_NAME), default=None
        )

    feed = open_lines(path / FOREIGN_NAME, True, search=search)
    return Opened(feed, None, path.resolve().name)


def open_run(folder: RunFolder) -> Opened:
    """The run in this folder, wherever that was moved. Raises `SourceError`, and `OSError` where a
    part of it is no file, or can't be read."""
    folder.check()
    record = read_record(folder)
    if record is not None:
        register(folder, record)
    title = record.name if record is not None else folder.path.resolve().name
    if _is_imported(folder) and not (folder.producer == "dead" and folder.segment_numbers()):
        return Opened(None, folder.recording, title, folder.path)
    if folder.producer_lives or folder.recorder_lives:
        return Opened(open_journal(folder), None, title, folder.path)
    if not folder.segment_numbers():
        if folder.has(RECORDING):
            return Opened(None, folder.recording, title, folder.path)
        raise SourceError(
            f"{_shown(folder.path)} is the folder of a run that left neither a journal nor a "
            "recording."
        )
    from replay.runs.recorder import finish_import

    try:
        finish_import(folder)
    except (SourceError, UserError, OSError):
        # It can't be written there: the journal tells the same.
        return Opened(open_journal(folder), None, title, folder.path)
    if _is_imported(folder):
        return Opened(None, folder.recording, title, folder.path)
    return Opened(open_journal(folder), None, title, folder.path)


def _is_imported(folder: RunFolder) -> bool:
    """Does the recording have everything?"""
    record = read_record(folder)
    done = record is not None and record.is_imported
    return done and folder.has(RECORDING)


def _open_file(path: Path, growing: bool | None) -> Opened:
    title = path.name
    if not path.is_file():
        raise SourceError(f"{_shown(path)} is neither a file nor a folder.")
    if path.is_symlink():
        path = path.resolve()  # the user named it; what lies in a run folder was checked before
    head = _head_of(path)
    if head[8:12] == b"DUCK":
        folder = RunFolder(path.parent)
        if path.name == RECORDING and folder.has(RUN_JSON):
            return open_run(folder)
        return Opened(None, path, title, path)
    if begins_artifact(head):
        return _open_artifact(path, 0)
    if head.startswith(_PARQUET):
        return Opened(open_stream(path), None, path.resolve().parent.name, path)
    if path.suffix == ".duckdb":
        raise SourceError(f"{_shown(path)} is not a recording: it is {_looks_like(head)}.")
    if growing is not False:
        status = path.stat()
        if compression_of(head) is not None:  # mostly made as a whole
            growing = is_written(status)
        elif growing is None:
            growing = time.time() - status.st_mtime < SILENCE_SECONDS or is_written(status)
    if not (growing and not head.strip()):
        _check_lines(path, head)
    if path.name.startswith(FOREIGN_NAME):
        title = path.resolve().parent.name
    return Opened(open_lines(path, growing), None, title, path)


def named_artifact(target: str) -> tuple[Path, Artifact] | None:
    """The artifact that `target` names by its file, or by a folder that holds no other; None where
    it names something else. Raises `SourceError`."""
    path = Path(target)
    try:
        if path.is_dir() and not RunFolder(path).has(RUN_JSON):
            artifacts = sorted(_artifacts(path))
            path = artifacts[0] if len(artifacts) == 1 else path
        if not path.is_file():
            return None
        if not begins_artifact(_head_of(path.resolve())):
            return None
    except OSError as error:
        raise SourceError(f"{_shown(path)} can't be read: {error.strerror}.") from error
    return path, read_artifact(path)


def _open_artifact(path: Path, iteration: int) -> Opened:
    """The recording of one iteration of a benchmark, its bytes checked."""
    artifact = read_artifact(path)
    recording = recording_of(path, artifact, iteration)
    title = clean_text(f"{artifact.scenario_id} {artifact.variant}")
    return Opened(None, recording, title, recording)


def _check_lines(path: Path, head: bytes) -> None:
    """Raises `SourceError` unless one of the first lines is one of a recording."""
    reader = LineReader(path, growing=False, on_restart=lambda why: None)
    try:
        lines = reader.read(_LINES)
    finally:
        reader.close()
    if any(producer_of(line) is not None for _, line in lines):
        return
    if reader.problems and not lines:
        problem = reader.problems[0].problem
        raise SourceError(f"{_shown(path)} can't be read: {problem}.", exit_code=4)
    packed = compression_of(head) is not None
    looks = _looks_like(lines[0][1] if lines else b"") if packed else _looks_like(head)
    raise SourceError(f"{_shown(path)} is not a recording: it is {looks}.")


def _open_run_id(target: str) -> Opened:
    runs = runs_named(target)
    if len(runs) > 1:
        ids = ", ".join(_shown(run.run_id) for run in runs[:_NAMED])
        more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
        raise SourceError(
            f"{len(runs)} runs are called {_shown(target)}; give more of the id: {ids}{more}."
        )
    if not runs:
        raise SourceError(
            f"There is no file, folder or run {_shown(target)}; headgate runs lists the runs."
        )
    run = runs[0]
    if run.where != "here":
        problem = "is not there now" if run.where == "away" else "has a run.json that can't be read"
        raise SourceError(
            f"The folder of {_shown(run.run_id)} {problem}: {_shown(run.path)}. Name the folder to "
            "which it was moved, and it is found again."
        )
    return _open_folder(run.path, None)


def runs_named(target: str) -> list[KnownRun]:
    """Those of the index that `target` names, newest first.

    By the first of these that any run has: `latest`, the id, the name, the begin of the id, its end
    (the last two from four characters on).
    """
    runs = list_runs()
    if target == LATEST:
        return [run for run in runs if run.where == "here"][:1]
    short = len(target) < _SHORTEST_ID
    for matches in (
        [run for run in runs if run.run_id == target],
        [run for run in runs if run.name == target],
        [run for run in runs if run.run_id.startswith(target) and not short],
        [run for run in runs if run.run_id.endswith(target) and not short],
    ):
        if matches:
            return matches
    return []


def _runs_in(path: Path) -> Iterator[Path]:
    """The run folders in a folder."""
    for below in itertools.islice(path.iterdir(), _FOLDERS):
        folder = RunFolder(below)
        if folder.has(RUN_JSON) or folder.has(JOURNAL):
            yield below


def _foreign_files(root: Path) -> Iterator[Path]:
    """The event files of Data Designer in and below a folder, a few levels deep."""
    for folder, folders, files in itertools.islice(os.walk(root), _FOLDERS):
        here = Path(folder)
        if len(here.relative_to(root).parts) >= _DEPTH:
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in _FOREIGN_NAMES if name in files]
        if names:
            yield here / names[0]


def _artifacts(folder: Path) -> Iterator[Path]:
    for path in itertools.islice(folder.glob("*.json"), _FOLDERS):
        with suppress(UnsafeFile):
            if begins_artifact(_head_of(path)):
                yield path


def _head_of(path: Path) -> bytes:
    """The first bytes of a file. Raises `OSError`."""
    with open(open_regular(path), "rb") as file:
        return file.read(_HEAD_BYTES)


def _looks_like(head: bytes) -> str:
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if not head.strip():
        return "an empty file"
    if b"\0" in head:
        return "a binary file"
    if head.lstrip()[:1] in (b"{", b"["):
        return "JSON without events of headgate or Data Designer"
    return "a text file"


def _shown(name: object) -> str:
    return clean_text(str(name))
