"""The folder a run owns: names, `run.json`, and the lock that tells whether its producer lives.

Also the index of pointers by which a user's run folders are found again.

journal/NNNNNN.jsonl   segments, written by the producer only
recording.duckdb       written by the recorder only
run.json               producer at start and end, recorder after the lock is free
run.lock               flock held while the producer lives
recorder.lock          flock held by the one recorder
output.log             what producer and recorder print when no terminal is theirs
dataset/               Parquet, one file per row group
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from engine.errors import UserError
from engine.events.types import SCHEMA_VERSION, Seconds

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
    """Names the parts of one run's folder; touches the disk only where a method says so."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def recording(self) -> Path:
        return self.path / "recording.duckdb"

    @property
    def run_json(self) -> Path:
        return self.path / "run.json"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock"

    @property
    def recorder_lock(self) -> Path:
        return self.path / "recorder.lock"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def output_log(self) -> Path:
        return self.path / "output.log"

    @property
    def producer_lives(self) -> bool:
        return ProducerLock.held(self.lock)

    @property
    def disk_is_full(self) -> bool:
        """Has the disk no room for as much as a keyframe?"""
        try:
            return shutil.disk_usage(self.path).free < _KEYFRAME_BYTES
        except OSError:
            return False

    def segment(self, number: int) -> Path:
        """The journal's file `number` (1-based)."""
        return self.journal / f"{number:06d}.jsonl"

    def segment_numbers(self) -> list[int]:
        """Numbers of the segments that exist now, ascending; empty without a journal."""
        try:
            names = os.listdir(self.journal)
        except OSError:
            return []
        stems = (name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Claim a new or empty folder for one run. Raises `UserError` where that can't be."""
        folder = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UserError(
                    f"The folder {path} is not empty; name a new or empty folder for this run."
                )
            folder.journal.mkdir()
        except FileExistsError as error:
            taken = "belongs to another run" if path.is_dir() else "is a file, not a folder"
            raise UserError(f"{path} {taken}; name a new or empty folder for this run.") from error
        except PermissionError as error:
            raise UserError(
                f"No permission to write in {path}; name a folder that you may write to."
            ) from error
        except OSError as error:
            raise UserError(f"The folder {path} can't be made: {error.strerror}.") from error
        return folder


def read_record(folder: RunFolder) -> RunRecord | None:
    """What `run.json` says; None where there is none or it can't be read."""
    try:
        return msgspec.json.decode(folder.run_json.read_bytes(), type=RunRecord)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(folder: RunFolder, record: RunRecord) -> None:
    """Replace `run.json` in one step: readers see the old or the new. Raises `OSError`."""
    fresh = folder.path / f".run.json.{os.getpid()}"
    try:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        os.replace(fresh, folder.run_json)
    finally:
        fresh.unlink(missing_ok=True)


class ProducerLock:
    """An `flock` held as long as a process lives; the system frees it however the process ends.

    `run.lock` tells that the producer lives, `recorder.lock` that a recorder does. The file stays
    when the lock is released. A child made by `fork` without `exec` would share the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises `UserError` if another process holds it or the file system refuses."""
        try:
            taken = self.try_acquire()
        except OSError as error:
            raise UserError(f"The lock {self.path} can't be taken: {error.strerror}.") from error
        if not taken:
            raise UserError(f"{self.path.parent} is in use by another process.")

    def try_acquire(self) -> bool:
        """False if another process holds it. Raises `OSError` where there can be no lock."""
        if self._fd is not None:
            return True
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            taken = _lock_alone(fd)
        except OSError:
            os.close(fd)
            raise
        if not taken:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> ProducerLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @staticmethod
    def held(path: Path) -> bool:
        """Does a process hold the lock? Never keeps another from taking it."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(fd)
        return False


def _lock_alone(fd: int) -> bool:
    """Take the exclusive lock unless a holder has it; `held` looking at the same time is no holder.

    A look lasts microseconds and holds a shared lock, which a second shared lock tells apart.
    """
    for _ in range(10_000):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def installed_versions() -> dict[str, str]:
    """Versions for `RunRecord.versions`, without importing what they name."""
    versions = {"python": platform.python_version()}
    for package in ("headgate", "duckdb"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def register(folder: RunFolder) -> None:
    """Let `list_runs` find the folder. A home that can't be written never stops a run."""
    path = str(folder.path.absolute())
    pointer = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:16]
    try:
        home = index_home()
        home.mkdir(parents=True, exist_ok=True)
        (home / pointer).write_text(path, encoding="utf-8", errors="surrogateescape")
    except OSError:
        return


def list_runs() -> list[tuple[Path, RunRecord | None]]:
    """Registered folders that still stand, newest first; pointers to others are dropped."""
    found: list[tuple[float, Path, RunRecord | None]] = []
    try:
        pointers = [entry for entry in index_home().iterdir() if entry.is_file()]
    except OSError:
        return []
    for pointer in pointers:
        try:
            path = Path(pointer.read_text(encoding="utf-8", errors="surrogateescape"))
            registered = pointer.stat().st_mtime
            if not path.is_dir():
                pointer.unlink()
                continue
        except OSError:
            continue
        record = read_record(RunFolder(path))
        started = registered if record is None else record.wall_start
        found.append((registered if started is None else started, path, record))
    found.sort(key=lambda entry: entry[0], reverse=True)
    return [(path, record) for _, path, record in found]


def index_home() -> Path:
    """One pointer file a run: under `HEADGATE_HOME`, else the user's data folder."""
    home = os.environ.get("HEADGATE_HOME")
    if home:
        return Path(home) / "runs"
    from platformdirs import user_data_path

    return user_data_path("headgate") / "runs"
