"""`RunFolder`: the files of a run, its `run.json`, and whether its producer is alive.

journal/NNNNNN.jsonl   segments, written by the producer only
recording.duckdb       written by the recorder only
run.json               written by the producer at start and end, by the recorder after that
run.lock               locked by the producer while it lives
recorder.lock          locked by the one recorder
output.log             output of producer and recorder when they have no terminal
cells/                 cells of unfinished row groups, written by the producer only
dataset/               Parquet, one file per row group, and nothing else
manifest.json          what the dataset is; dropped.parquet and rows.* stand beside it as well

A folder is held open from its first use, so that work goes on in it when it is renamed, and a new
folder under the old name is not mistaken for it.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from engine.errors import UserError
from engine.events import folder_claim
from engine.events.process_lock import Doubt, Presence, ProcessLock, presence
from engine.events.run_record import RunRecord, decode_record
from engine.events.safe_files import (
    check_regular,
    open_folder,
    open_regular,
    read_small,
)

JOURNAL = "journal"
CELLS = "cells"
RECORDING = "recording.duckdb"
RUN_JSON = "run.json"
RUN_LOCK = "run.lock"
RECORDER_LOCK = "recorder.lock"
OUTPUT_LOG = "output.log"
MANIFEST = "manifest.json"
DROPPED = "dropped.parquet"
BESIDE_DATASET = frozenset({MANIFEST, DROPPED, "rows.jsonl", "rows.csv"})
"""What is said of the dataset as a whole. Its folder may be given to a reader of Parquet."""

_FILES = frozenset({RECORDING, RUN_JSON, RUN_LOCK, RECORDER_LOCK, OUTPUT_LOG})
_FOLDER_MODE = 0o700
_KEYFRAME_BYTES = 64 * 1024
_CLAIM_STEP_SECONDS = 0.05
_UNSURE: dict[Doubt, str] = {
    "no_lock": "its run.lock is missing, or can't be asked",
    "unidentified": "its run.lock does not say which process held it",
    "elsewhere": "it was started on another machine; resume it there, or copy the folder here",
}


class RunFolder:
    """The folder of one run, held open from its first use.

    Paths are for people, and for libraries that open files by path. All other access goes through
    the open folder and follows no link.
    """

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
        """Close the folder. It is opened again, by its name, when it is used."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._fd = self._lock_fd = -1

    @property
    def fd(self) -> int:
        """Descriptor of the open folder. Raises `OSError` if there is none."""
        if self._fd < 0:
            self._fd = open_folder(self._named, follow=True)
        return self._fd

    @property
    def path(self) -> Path:
        """Where it is now: the path it was named by, while that is still this folder."""
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
        """Presence of the process that writes the run. `dead` is proved, not only likely."""
        return self._presence()[0]

    @property
    def doubt(self) -> Doubt:
        """Why the presence of its producer is unknown; empty if it is known."""
        return self._presence()[1]

    @property
    def recorder_lives(self) -> bool:
        try:
            return ProcessLock.held(Path(RECORDER_LOCK), dir_fd=self.fd)
        except OSError:
            return False

    @property
    def disk_is_full(self) -> bool:
        """Whether the disk has less room than a keyframe needs."""
        try:
            return shutil.disk_usage(self.fd).free < _KEYFRAME_BYTES
        except OSError:
            return False

    @property
    def is_ours(self) -> bool:
        """Whether this user started the run."""
        try:
            status = check_regular(RUN_LOCK, dir_fd=self.fd)
        except OSError:
            return False
        return status.st_uid == os.geteuid()

    def producer_lock(self) -> ProcessLock:
        """The lock of the producer. Raises `OSError` if there is no such folder."""
        return ProcessLock(self.lock, dir_fd=self.fd)

    def importer_lock(self) -> ProcessLock:
        """The lock of whoever writes the recording. Raises `OSError` if there is no such folder."""
        return ProcessLock(self.recorder_lock, dir_fd=self.fd)

    def has(self, name: str) -> bool:
        """Whether anything has this name in the folder, whatever it is."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def check(self) -> None:
        """Check that the files of the run are regular files; those that are missing are ignored.

        Raises:
            UnsafeFile: A file of the run is a link, a device or the like.
            OSError: The folder can't be read.
        """
        for name in sorted(os.listdir(self.fd)):
            if name in _FILES or name.startswith(f"{RECORDING}."):
                with suppress(FileNotFoundError):  # removed meanwhile, as DuckDB does with its log
                    check_regular(name, dir_fd=self.fd)
        with suppress(FileNotFoundError), self.journal_folder() as journal:
            for name in os.listdir(journal):
                with suppress(FileNotFoundError):
                    check_regular(name, dir_fd=journal)

    @contextmanager
    def journal_folder(self) -> Iterator[int]:
        """Descriptor of the folder of the journal, closed on exit. Raises `OSError`."""
        fd = open_folder(JOURNAL, dir_fd=self.fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def segment(self, number: int) -> Path:
        """Path of segment `number` (1-based) of the journal."""
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
        """Create the folder of the journal if there is none. Raises `OSError`."""
        with suppress(FileExistsError):
            os.mkdir(JOURNAL, _FOLDER_MODE, dir_fd=self.fd)

    def open_log(self) -> int:
        """A descriptor that appends to `output.log`. Raises `OSError`."""
        return open_regular(OUTPUT_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, dir_fd=self.fd)

    def is_at(self, path: Path) -> bool:
        """Whether `path` leads to this folder now."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self.fd))
        except OSError:
            return False

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Create a folder for a run, or claim one that is empty or whose run never began.

        Only its owner may read it, whatever the umask. It stays claimed while it is open, also in
        processes that inherit its descriptor.

        Raises:
            UserError: The folder is in use, is none, or can't be written.
        """
        folder = cls(path)
        try:
            with suppress(FileExistsError):
                path.mkdir(_FOLDER_MODE, parents=True)
                path.chmod(_FOLDER_MODE)
            claimed = folder_claim.claim(folder.fd)
            if claimed is False:
                raise UserError(
                    f"{path} is in use by another run; name a new or empty folder for this one."
                )
            if claimed and folder_claim.never_began(folder.fd):
                folder_claim.clear(folder.fd)
            if folder.has(RUN_JSON):
                raise UserError(
                    f"The folder {path} is not empty: it holds a run. To go on with that, add "
                    f"--resume {path}; for another one name a new or empty folder."
                )
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

    @classmethod
    def reopen(cls, path: Path, claim_seconds: float) -> RunFolder:
        """Claim the folder of a run that was interrupted. It stays claimed as in `create`.

        Args:
            path: The folder.
            claim_seconds: How long to wait for processes of the run that are about to end.

        Raises:
            UserError: It holds no run, or one that goes on, or of which that can't be told.
        """
        folder = cls(path)
        try:
            if read_record(folder) is None:
                raise UserError(f"{path} holds no run that could go on.")
            if folder.producer_lives:
                raise UserError(
                    f"The run in {path} is still going. Watch it with headgate watch {path}, or "
                    f"stop it with headgate stop {path}."
                )
            if folder.producer == "unknown" and folder.doubt != "copy":
                doubt = _UNSURE[folder.doubt]
                raise UserError(f"Whether the run in {path} still goes on can't be told: {doubt}.")
            deadline = time.monotonic() + claim_seconds
            while folder_claim.claim(folder.fd) is False:
                if time.monotonic() > deadline:
                    raise UserError(f"{path} is in use by another process of headgate.")
                time.sleep(_CLAIM_STEP_SECONDS)
        except OSError as error:
            raise UserError(f"The run in {path} can't be opened: {error.strerror}.") from error
        return folder

    def _presence(self) -> tuple[Presence, Doubt]:
        """Test the lock. Its file is kept open, so that the test works after its name is gone."""
        if self._lock_fd < 0:
            try:
                self._lock_fd = open_regular(RUN_LOCK, dir_fd=self.fd)
            except OSError:
                return "unknown", "no_lock"
        return presence(self._lock_fd)


def segment_name(number: int) -> str:
    """File name of the journal's segment with this number."""
    return f"{number:06d}.jsonl"


def read_record(folder: RunFolder) -> RunRecord | None:
    """Read `run.json`; None if there is none or it can't be read."""
    try:
        data = read_small(RUN_JSON, dir_fd=folder.fd)
    except OSError:
        return None
    return decode_record(data)


def write_record(folder: RunFolder, record: RunRecord) -> None:
    """Replace `run.json` atomically: readers see the old or the new one. Raises `OSError`."""
    temporary = f".run.json.{os.getpid()}"
    data = msgspec.json.format(msgspec.json.encode(record)) + b"\n"
    fd = folder.fd
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(open_regular(temporary, flags, dir_fd=fd), "wb", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.run_json))
        os.replace(temporary, RUN_JSON, src_dir_fd=fd, dst_dir_fd=fd)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=fd)
