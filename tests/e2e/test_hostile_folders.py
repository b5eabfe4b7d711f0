"""Every file of a run folder replaced by what it is not: one sentence, and nothing is followed."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.events import JournalEnd, JournalHeader, encode_lines
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_index import register
from engine.events.run_record import RunRecord
from replay.runs.recorder import finish_import
from tests.e2e.forked import MEMORY_BYTES, Forked
from tests.effort import effort
from tests.replay.producer import leave_lock
from tests.replay.verify.streams import healthy

SECONDS = 60.0
"""For one command on a machine that is busy; a FIFO would hold it for ever."""
PARTS = [
    "run.json",
    "run.lock",
    "recorder.lock",
    "journal",
    "journal/000001.jsonl",
    "recording.duckdb",
    "recording.duckdb.wal",
    "output.log",
    "dataset",
]
KINDS = [
    "link",
    "link to a device",
    "broken link",
    "hard link",
    "fifo",
    "socket",
    "device",
    "folder",
    "file",
    "huge",
    "unreadable",
]
COMMANDS = [
    ("runs",),
    ("why", "RUN"),
    ("watch", "RUN", "--once"),
    ("replay", "RUN", "--headless"),
    ("verify", "RUN"),
    ("sql", "RUN", "SELECT count(*) FROM events"),
    ("export", "RUN", "--format", "jsonl", "--out", "-"),
]
ONE_SENTENCE = (2, 4)
REFUSED = {"link", "link to a device", "broken link", "fifo", "socket", "device"}


class Nursery:
    """Makes run folders that are whole, imported or not, in no time."""

    def __init__(self, place: Path) -> None:
        self._place = place
        run, events = healthy()
        self._run = run
        end = JournalEnd("success", events[-1].captured_at_monotonic, 0, 0)
        self._journal = encode_lines([JournalHeader(run, 1, 1), *events, end])
        self._number = 0
        first = self.make(imported=False)
        finish_import(first)
        self._recording = place / "recording"
        shutil.copyfile(first.recording, self._recording)

    def make(self, imported: bool) -> RunFolder:
        self._number += 1
        folder = RunFolder.create(self._place / f"run-{self._number}")
        state = "complete" if imported else "running"
        record = RunRecord(f"r{self._number}", self._run.name, state, wall_start=9.0)  # type: ignore[arg-type]
        write_record(folder, record)
        register(folder, record)
        leave_lock(folder)
        with folder.importer_lock():
            pass
        os.close(folder.open_log())
        folder.dataset.mkdir()
        if imported:
            folder.journal.rmdir()
            shutil.copyfile(self._recording, folder.recording)
        else:
            folder.segment(1).write_bytes(self._journal)
        return folder


class Outside:
    """Files and folders beside the run, which no command may touch."""

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir()
        (place / "file").write_text("precious\n")
        (place / "folder").mkdir()
        (place / "folder" / "000001.jsonl").write_text("precious\n")
        self.device = place / "device"
        try:
            os.mknod(self.device, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # zeros without end
        except PermissionError:
            self.device = Path("/dev/zero")  # to be read from alone, through a link
        self._before = self._look()

    def _look(self) -> list[tuple[str, int, int, bytes]]:
        result = []
        for path in sorted(self._place.rglob("*")):
            status = path.lstat()
            data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            result.append((str(path), status.st_mode, status.st_mtime_ns, data))
        return result

    def check(self, case: object) -> None:
        assert self._look() == self._before, case

    def replace(self, path: Path, kind: str) -> bool:
        """False where that can't be made here."""
        folder = path.name in ("journal", "dataset")
        if kind == "unreadable":
            if path.exists():
                path.chmod(0)
            return path.exists() and os.geteuid() != 0
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        target = self._place / ("folder" if folder else "file")
        if kind == "link":
            path.symlink_to(target)
        elif kind == "link to a device":
            path.symlink_to(self.device)
        elif kind == "broken link":
            path.symlink_to(self._place / "nowhere")
        elif kind == "hard link":
            os.link(self._place / "file", path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            _bind(path)
        elif kind == "device":
            if not stat.S_ISCHR(self.device.lstat().st_mode) or self.device.parent == Path("/dev"):
                return False
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        elif kind == "folder":
            path.mkdir()
            (path / "inside").write_text("x")
        elif kind == "file":
            path.write_bytes(b"\0\xff{[" * 100)
        else:
            with path.open("wb") as file:
                file.truncate(1 << 36)
        return True


def _bind(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


@pytest.fixture
def forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forked]:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    (tmp_path / "cwd").mkdir()
    sandbox = Forked(tmp_path / "cwd", tmp_path / "home")
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize("imported", [True, False], ids=["imported", "not imported"])
def test_no_file_of_a_run_folder_is_trusted_to_be_one(
    tmp_path: Path, forked: Forked, imported: bool
) -> None:
    outside = Outside(tmp_path / "outside")
    (tmp_path / "runs").mkdir()
    nursery = Nursery(tmp_path / "runs")
    turns = itertools.cycle(COMMANDS)
    pairs = list(itertools.product(PARTS, KINDS))
    for part, kind in effort(pairs[3 * imported :: 7], pairs):
        for command in itertools.islice(turns, effort(1, 2)):
            if kind == "huge" and command[0] == "verify" and part not in ("run.json", "run.lock"):
                continue  # reads a gigabyte of it, as it says
            folder = nursery.make(imported)
            if not outside.replace(folder.path / part, kind):
                continue
            run = folder.path
            folder.close()
            arguments = [run if argument == "RUN" else argument for argument in command]
            outcome = forked.run(*arguments, timeout=SECONDS)
            case = (part, kind, command[0], outcome.code, outcome.err[-400:])
            assert outcome.code in (0, 1, *ONE_SENTENCE), case
            assert "Traceback" not in outcome.err, case
            if outcome.code in ONE_SENTENCE:
                printed = [
                    line for line in outcome.err.splitlines() if line.startswith("headgate:")
                ]
                reported = command[0] == "verify" and "damaged" in outcome.out
                assert len(printed) == 1 or reported, case
            watched = part not in ("dataset",) and (part != "output.log" or kind in REFUSED)
            if watched and kind in REFUSED and command[0] != "runs":
                assert outcome.code == 4, case
            assert outcome.grown_bytes < MEMORY_BYTES, (case, outcome.grown_bytes)
            outside.check(case)
            for path in (run, *run.rglob("*")):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)
            shutil.rmtree(run)
