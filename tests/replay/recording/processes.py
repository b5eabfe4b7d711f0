"""A producer and recorders as processes of their own, for tests that stop or move something."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.events import Event, RunInfo, encode_lines
from engine.events.run_folder import RunFolder

# Writes the events of a file, 2,000 a second; before the last quarter it waits for a line of stdin.
PRODUCER = """
import sys, time
from pathlib import Path
import msgspec
from engine.events import JournalEnd, RunInfo, decode_line
from engine.events.journal import JournalWriter
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, read_record, write_record
from engine.events.run_record import RunRecord
folder, script = RunFolder.create(Path(sys.argv[1])), Path(sys.argv[2])
run = msgspec.json.decode(script.with_suffix(".run").read_bytes(), type=RunInfo)
events = [decode_line(line) for line in script.read_bytes().splitlines()]
lock = ProcessLock(folder.lock)
lock.acquire()
write_record(folder, RunRecord(run.run_id, run.name, "running", wall_start=run.wall_start))
asked = []
writer = JournalWriter(
    folder, run, loop=None, request_keyframe=asked.append, segment_bytes=100_000
)
print("started", flush=True)
for start in range(0, len(events), 20):
    if start == len(events) * 3 // 80 * 20:
        sys.stdin.readline()
    writer.write_events(events[start : start + 20])
    time.sleep(0.01)
writer.close(JournalEnd("success", events[-1].captured_at_monotonic, 0, 0))
record = read_record(folder)
write_record(folder, RunRecord(run.run_id, run.name, "ended", "success", wall_end=5.0))
"""

RECORDER = """
import sys
from replay.runs import recorder
recorder.CHECKPOINT_IDLE_SECONDS = 1e9
sys.exit(recorder.main(sys.argv[1:]))
"""


class Processes:
    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def producer(self, folder: Path, run: RunInfo, events: list[Event]) -> subprocess.Popen[bytes]:
        """Returns once it writes."""
        script = folder.with_suffix(".events")
        script.write_bytes(encode_lines(list(events)))
        script.with_suffix(".run").write_bytes(msgspec.json.encode(run))
        process = self.start("-c", PRODUCER, str(folder), str(script))
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        return process

    def go_on(self, producer: subprocess.Popen[bytes]) -> None:
        assert producer.stdin is not None
        producer.stdin.write(b"\n")
        producer.stdin.flush()

    def recorder(self, folder: RunFolder) -> subprocess.Popen[bytes]:
        """While nothing comes it leaves DuckDB's log as it is, so that a test can wait for one."""
        return self.start("-c", RECORDER, str(folder.path))


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Looks at what another process does, until it is so or the time is up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.01)
    return False


def in_the_log(folder: RunFolder, size: int) -> bool:
    """Has a recorder put more than `size` bytes into DuckDB's write-ahead log?"""
    log = folder.path / "recording.duckdb.wal"
    return log.exists() and log.stat().st_size > size
