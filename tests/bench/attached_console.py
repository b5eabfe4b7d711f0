"""What a console costs beside the recorder of a live run, and how far behind the run it is.

A producer writes a journal at a steady rate, a recorder imports it, and a session in a process of
its own makes four frames a second of what the Overview shows. Exit code 1 where the console takes
more than a quarter of the recorder's processor time, more memory than it may, or falls behind.

`--stopped` stops the console for so many seconds and continues it: how long until it is up to date?
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import msgspec

from engine.workflow.demo import demo_workflow
from replay.playback.frame import Want
from replay.playback.session import Session
from replay.recording.live_link import RecordingLink
from tests.bench.recording_scale import Repeated
from tests.engine_run import run_engine
from tests.replay.producer import Producer

MOST_OF_RECORDER = 0.25
MEMORY_MB = 250
BEHIND_SECONDS = 1.0
PIECES_A_SECOND = 50
FRAMES_A_SECOND = 4
WANT = Want(samples=100, span=60.0, standing=True, queue=True, blame=True)
RUN_WITHOUT_END = 1 << 60


def watch(folder: str) -> int:
    """The console's side: prints how far it is behind the run, at which time."""
    session = Session.open(folder)
    while Path(folder, "journal").exists():
        due = time.monotonic() + 1 / FRAMES_A_SECOND
        session.refresh(0.1)
        while session.behind and time.monotonic() < due:
            session.refresh(0.025)
        frame = session.frame(WANT)
        late = time.time() - (frame.run.wall_start or 0.0) - frame.t1 + frame.run.monotonic_start
        print(f"{time.monotonic():.2f} {late:.2f}", flush=True)
        time.sleep(max(0.0, due - time.monotonic()))
    return 0


def wait_for_all(producer: Producer) -> float:
    """Until the recorder has all events; returns seconds."""
    began = time.monotonic()
    link = RecordingLink.open(producer.folder)
    assert link is not None
    while (known := link.known()) is None or known.ordinal < producer.written:
        time.sleep(0.1)
    link.close()
    return time.monotonic() - began


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=5_000, help="events a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--stopped", type=float, default=0.0)
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        return watch(options.watch)
    ran = run_engine(demo_workflow(records=300))
    with tempfile.TemporaryDirectory() as home:
        now = time.time()
        run = msgspec.structs.replace(ran.run, wall_start=now, monotonic_start=0.0)
        events = Repeated(ran.run, ran.events, RUN_WITHOUT_END)
        producer = Producer(Path(home), run)
        recorder = subprocess.Popen(
            [sys.executable, "-m", "replay.runs.recorder", str(producer.folder.path)]
        )
        producer.write(events.poll(1).events)
        shown = (Path(home) / "shown").open("w+")
        console = subprocess.Popen(
            [sys.executable, __file__, "--watch", str(producer.folder.path)],
            stdout=shown,
            text=True,
        )
        while not os.fstat(shown.fileno()).st_size:
            time.sleep(0.1)
        base = cpu_seconds(recorder.pid), cpu_seconds(console.pid)
        began = time.time()
        stopped_at = continued_at = 0.0
        pieces = options.seconds * PIECES_A_SECOND
        for piece in range(pieces):
            batch = events.poll(options.rate // PIECES_A_SECOND).events
            at = time.time() - now
            producer.write(
                [msgspec.structs.replace(event, captured_at_monotonic=at) for event in batch]
            )
            if options.stopped and piece == pieces // 3:
                console.send_signal(signal.SIGSTOP)
                stopped_at = time.monotonic()
            stands = stopped_at > continued_at
            if stands and time.monotonic() - stopped_at >= options.stopped:
                console.send_signal(signal.SIGCONT)
                continued_at = time.monotonic()
            time.sleep(max(0.0, began + (piece + 1) / PIECES_A_SECOND - time.time()))
        took, over = time.time() - began, time.monotonic()
        late = wait_for_all(producer)
        spent = cpu_seconds(recorder.pid) - base[0], cpu_seconds(console.pid) - base[1]
        memory = peak_mb(console.pid), peak_mb(recorder.pid)
        producer.end(time.time() - now)
        recorder.wait(120)
        console.wait(30)
        shown.seek(0)
        lines = [[float(word) for word in line.split()] for line in shown]
        shown.close()
    share = spent[1] / spent[0]
    lines = [line for line in lines if line[0] < over]
    behind = max(line[1] for line in lines)
    rate = producer.written / took
    print(f"{producer.written:,} events, {rate:,.0f}/s; the recorder had all {late:.1f} s later")
    print(f"processor time: console {spent[1]:.2f} s, recorder {spent[0]:.2f} s: {share:.0%}")
    print(f"memory: console {memory[0]:.0f} MB, recorder {memory[1]:.0f} MB")
    missed = share > MOST_OF_RECORDER or memory[0] > MEMORY_MB
    if options.stopped:
        ready = next(
            (line[0] for line in lines if line[0] > continued_at and line[1] < BEHIND_SECONDS),
            float("inf"),
        )
        print(f"up to date {ready - continued_at:.2f} s after a stop of {options.stopped:.0f} s")
        missed = missed or ready - continued_at > 1.0
    else:
        print(f"behind the run at worst {behind:.2f} s")
        missed = missed or behind > BEHIND_SECONDS
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
