"""The folder a run owns: its files, `run.json`, and whether its producer lives.

journal/NNNNNN.jsonl   segments, written by the producer only
recording.duckdb       written by the recorder only
run.json               producer at start and end, recorder after the lock is free
run.lock               flock held while the producer lives
recorder.lock          flock held by the one recorder
output.log             what producer and recorder print when no terminal is theirs
dataset/               Parquet, one file per row group

A folder is held open from its first use: whatever it is renamed to, all goes on in it, and a new
folder under the old name is another one.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.errors import UserError
from engine.events.process_lock import Doubt, Presence, ProcessLock, presence
from engine.events.safe_files import (
    check_regular,
    open_folder,
    open_regular,
    read_small,
)
from engine.events.types import SCHEMA_VERSION, Seconds

JOURNAL = "journal"
RECORDING = "recording.duckdb"
RUN_JSON = "run.json"
RUN_LOCK = "run.lock"
RECORDER_LOCK = "recorder.lock"
OUTPUT_LOG = "output.log"

_FILES = frozenset({RECORDING, RUN_JSON, RUN_LOCK, RECORDER_LOCK, OUTPUT_LOG})
_FOLDER_MODE = 0o700
_KEYFRAME_BYTES = 64 * 1024

RunStateName = Literal["running", "ended", "complete", "lost"]
"""`running` and `ended` are said by the producer, `complete` (all imported after a clean end) and
`lost` (all imported, but the producer died without an end) by the recorder."""


class RunRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`run.json`: what a run is and how far it came, to be listed without opening anything."""

    run_id: str
    name: str
    state: RunStateName
    outcome: str | None = None
    """`success`, `failed`, `cancelled`; None while running and after a loss."""
    message: str = ""
    wall_start: Seconds | None = None
    wall_end: Seconds | None = None
    versions: dict[str, str] = {}
    """Versions of `headgate`, `python` and `duckdb` that made the run."""
    producer: str = "headgate"
    records: int | None = None
    rows_done: int = 0
    rows_dropped: int = 0
    schema_version: int = SCHEMA_VERSION
    pid: int | None = None
    """Of the producer, for people; liveness is the lock."""
    capacity_plan: dict[str, Any] = {}
    """What was configured; at the end also what was observed."""


class RunFolder:
    """One run's folder, held open from the first use on. Paths are for people and for programs
    that open by path; everything else goes through the open folder, and follows no link."""

    def __init__(self, path: Path) -> None:
        self._named = path
        self._fd = -1
        self._lock_fd = -1

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # names of modules may be gone when the interpreter ends
            return

    def close(self) -> None:
        """Let go of it; it may be opened again, under its name."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._fd = self._lock_fd = -1

    @property
    def fd(self) -> int:
        """The open folder. Raises `OSError` where there is none."""
        if self._fd < 0:
            self._fd = open_folder(self._named, follow=True)
        return self._fd

    @property
    def path(self) -> Path:
        """Where it is now: as it was named, as long as that is still this folder."""
        if self._fd < 0 or self.is_at(self._named):
            return self._named
        with suppress(OSError):
            moved_to = Path(os.readlink(f"/proc/self/fd/{self._fd}"))
            if self.is_at(moved_to):
                return moved_to
        return self._named

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    @property
    def recording(self) -> Path:
        return self.path / RECORDING

    @property
    def run_json(self) -> Path:
        return self.path / RUN_JSON

    @property
    def lock(self) -> Path:
        return self.path / RUN_LOCK

    @property
    def recorder_lock(self) -> Path:
        return self.path / RECORDER_LOCK

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def output_log(self) -> Path:
        return self.path / OUTPUT_LOG

    @property
    def producer_lives(self) -> bool:
        return self.producer == "alive"

    @property
    def producer(self) -> Presence:
        """Of the process that writes the run; `dead` is proved, and not only likely."""
        return self._presence()[0]

    @property
    def doubt(self) -> Doubt:
        """Why its producer's presence is unknown; empty where it is not."""
        return self._presence()[1]

    @property
    def recorder_lives(self) -> bool:
        try:
            return ProcessLock.held(Path(RECORDER_LOCK), dir_fd=self.fd)
        except OSError:
            return False

    @property
    def disk_is_full(self) -> bool:
        """Has the disk no room for as much as a keyframe?"""
        try:
            return shutil.disk_usage(self.fd).free < _KEYFRAME_BYTES
        except OSError:
            return False

    @property
    def is_ours(self) -> bool:
        """Was the run started by this user?"""
        try:
            status = check_regular(RUN_LOCK, dir_fd=self.fd)
        except OSError:
            return False
        return status.st_uid == os.geteuid()

    def producer_lock(self) -> ProcessLock:
        """Raises `OSError` where there is no such folder."""
        return ProcessLock(self.lock, dir_fd=self.fd)

    def importer_lock(self) -> ProcessLock:
        """Of whoever writes the recording. Raises `OSError` where there is no such folder."""
        return ProcessLock(self.recorder_lock, dir_fd=self.fd)

    def has(self, name: str) -> bool:
        """Does anything stand there under this name, whatever it is?"""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def check(self) -> None:
        """Raises `OSError`, as `UnsafeFile` where a part of the run is a link, a device or the
        like. What is missing is fine."""
        for name in sorted(os.listdir(self.fd)):
            if name in _FILES or name.startswith(f"{RECORDING}."):
                with suppress(FileNotFoundError):  # gone since, as a log of DuckDB's may be
                    check_regular(name, dir_fd=self.fd)
        with suppress(FileNotFoundError), self.journal_folder() as journal:
            for name in os.listdir(journal):
                with suppress(FileNotFoundError):
                    check_regular(name, dir_fd=journal)

    @contextmanager
    def journal_folder(self) -> Iterator[int]:
        """The journal's open folder, for a moment. Raises `OSError`."""
        fd = open_folder(JOURNAL, dir_fd=self.fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def segment(self, number: int) -> Path:
        """The journal's file `number` (1-based)."""
        return self.journal / segment_name(number)

    def segment_numbers(self) -> list[int]:
        """Numbers of the segments that exist now, ascending; empty without a journal."""
        try:
            with self.journal_folder() as journal:
                names = os.listdir(journal)
        except OSError:
            return []
        stems = (name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def has_segment(self, number: int) -> bool:
        try:
            with self.journal_folder() as journal:
                check_regular(segment_name(number), dir_fd=journal)
        except OSError:
            return False
        return True

    def open_segment(self, number: int) -> int:
        """A descriptor to read from. Raises `OSError`."""
        with self.journal_folder() as journal:
            return open_regular(segment_name(number), dir_fd=journal)

    def create_segment(self, number: int) -> int:
        """A descriptor to append to. Raises `OSError` where the segment exists."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        with self.journal_folder() as journal:
            return open_regular(segment_name(number), flags, dir_fd=journal)

    def create_journal(self) -> None:
        """Make the folder of the journal where there is none. Raises `OSError`."""
        with suppress(FileExistsError):
            os.mkdir(JOURNAL, _FOLDER_MODE, dir_fd=self.fd)

    def open_log(self) -> int:
        """A descriptor that appends to `output.log`. Raises `OSError`."""
        return open_regular(OUTPUT_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, dir_fd=self.fd)

    def is_same_as(self, other: RunFolder) -> bool:
        """Are both the same folder, whatever they are called?"""
        try:
            return os.path.samestat(os.fstat(self.fd), os.fstat(other.fd))
        except OSError:
            return False

    def is_at(self, path: Path) -> bool:
        """Is this folder the one under that name now?"""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self.fd))
        except OSError:
            return False

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Claim a new or empty folder for one run. Raises `UserError` where that can't be.

        What is made is for its owner alone, whatever the umask.
        """
        folder = cls(path)
        try:
            with suppress(FileExistsError):
                path.mkdir(_FOLDER_MODE, parents=True)
                path.chmod(_FOLDER_MODE)
            if os.listdir(folder.fd):
                raise UserError(
                    f"The folder {path} is not empty; name a new or empty folder for this run."
                )
            os.mkdir(JOURNAL, _FOLDER_MODE, dir_fd=folder.fd)
        except FileExistsError as error:
            raise UserError(
                f"{path} belongs to another run; name a new or empty folder for this run."
            ) from error
        except PermissionError as error:
            raise UserError(
                f"No permission to write in {path}; name a folder that you may write to."
            ) from error
        except OSError as error:
            if os.path.lexists(path) and not path.is_dir():
                raise UserError(
                    f"{path} is a file, not a folder; name a new or empty folder for this run."
                ) from error
            raise UserError(f"The folder {path} can't be made: {error.strerror}.") from error
        return folder

    def _presence(self) -> tuple[Presence, Doubt]:
        """The lock, once it was seen, is asked even if its name is gone since."""
        if self._lock_fd < 0:
            try:
                self._lock_fd = open_regular(RUN_LOCK, dir_fd=self.fd)
            except OSError:
                return "unknown", "no_lock"
        return presence(self._lock_fd)


def segment_name(number: int) -> str:
    return f"{number:06d}.jsonl"


def read_record(folder: RunFolder) -> RunRecord | None:
    """What `run.json` says; None where there is none or it can't be read.

    A fact of no use is left out, as long as it is known which run this is.
    """
    try:
        data = read_small(RUN_JSON, dir_fd=folder.fd)
    except OSError:
        return None
    try:
        return msgspec.json.decode(data, type=RunRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _usable_part(data)


def _usable_part(data: bytes) -> RunRecord | None:
    try:
        facts = json.loads(data, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    usable: dict[str, Any] = {}
    for field in msgspec.structs.fields(RunRecord):
        if field.encode_name in facts:
            with suppress(msgspec.ValidationError, OverflowError):
                value = msgspec.convert(facts[field.encode_name], field.type)
                usable[field.name] = value
    if not usable.keys() >= {"run_id", "name", "state"}:
        return None
    return RunRecord(**usable)


def write_record(folder: RunFolder, record: RunRecord) -> None:
    """Replace `run.json` in one step: readers see the old or the new. Raises `OSError`."""
    fresh = f".run.json.{os.getpid()}"
    data = msgspec.json.format(msgspec.json.encode(record)) + b"\n"
    fd = folder.fd
    with suppress(FileNotFoundError):
        os.unlink(fresh, dir_fd=fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(open_regular(fresh, flags, dir_fd=fd), "wb", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.run_json))
        os.replace(fresh, RUN_JSON, src_dir_fd=fd, dst_dir_fd=fd)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=fd)


def installed_versions() -> dict[str, str]:
    """Versions for `RunRecord.versions`, without importing what they name."""
    versions = {"python": platform.python_version()}
    for package in ("headgate", "duckdb"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
