"""A run whose loop or process stands says so itself: what, from when to when, and at which line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.program import HEADGATE, environment
from tests.fixtures.data_designer_format import lines
from tests.fixtures.data_designer_stand_in import write_stand_in

FUNCTIONS = """
import asyncio, time

async def sleeps(row):
    await asyncio.sleep(0.2)
    time.sleep(1.5)  # sleeps

async def computes(row):
    await asyncio.sleep(0.2)
    until = time.monotonic() + 1.5
    while time.monotonic() < until: row.get("n")  # computes

async def holds_the_interpreter(row):
    await asyncio.sleep(0.2)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        sum(range(30_000_000))  # holds_the_interpreter

async def waits(row):
    await asyncio.sleep(3.0)
"""
WORKFLOW = """
name: watched
records: 1
columns:
  - {{ name: n, type: sampler, uuid: true }}
  - {{ name: lag, type: custom, function: "functions:{function}", depends_on: [n] }}
"""
SCRIPT = """
import asyncio, time
from data_designer.interface import DataDesigner

async def main():
    DataDesigner().create(every=0.02)  # blocks the loop

asyncio.run(main())
"""
Stall = Mapping[str, Any]


def line_of(code: str, mark: str) -> int:
    return next(n for n, line in enumerate(code.splitlines(), 1) if line.endswith(f"# {mark}"))


def command(folder: Path, function: str) -> list[str]:
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "workflow.yaml").write_text(WORKFLOW.format(function=function))
    return [str(HEADGATE), "run", "workflow.yaml", "--out", "out"]


def start(folder: Path, argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def stalls(folder: Path, *, over: bool = True) -> list[Stall]:
    """Events about the loop in a run's recording, or in its journal while it runs."""
    blocked: list[Stall] = []
    if over:
        query = (
            "SELECT kind, reason, diagnostics FROM events "
            "WHERE kind IN ('loop_blocked', 'process_paused') ORDER BY ordinal"
        )
        done = subprocess.run(
            [HEADGATE, "sql", folder / "out", query, "--json"],
            env=environment(folder),
            capture_output=True,
            check=True,
        )
        for row in json.loads(done.stdout):
            blocked.append({**row, **json.loads(row["diagnostics"])})
    else:
        for segment in (folder / "out" / "journal").glob("*.jsonl"):
            for line in segment.read_bytes().splitlines(keepends=True):
                event = json.loads(line) if line.endswith(b"\n") else {}
                if event.get("event_kind") in ("loop_blocked", "process_paused"):
                    reason = {"kind": event["event_kind"], "reason": event["reason_or_result"]}
                    blocked.append({**reason, **event["diagnostics"]})
    return blocked


def final(folder: Path) -> Stall:
    """The longest stall that is over."""
    ended = [stall for stall in stalls(folder) if not stall.get("ongoing")]
    return max(ended, key=lambda stall: float(stall["to"] - stall["from"]))


@pytest.mark.parametrize(
    ("function", "reasons"),
    [
        ("sleeps", {"waiting"}),
        ("computes", {"computing"}),
        # On a machine without a free core the watchdog may have waited for that instead.
        ("holds_the_interpreter", {"interpreter_lock", "computing"}),
    ],
)
def test_a_column_that_blocks_the_loop_is_named_with_its_line(
    function: str, reasons: set[str], tmp_path: Path
) -> None:
    with start(tmp_path, command(tmp_path, function)) as run:
        assert run.wait(60) == 0
    stall = final(tmp_path)
    assert stall["kind"] == "loop_blocked"
    assert stall["reason"] in reasons
    assert 1.3 < stall["to"] - stall["from"] < 6.0
    place = stall["frames"][0]
    assert (place["module"], place["function"]) == ("functions", function)
    assert (place["file"], place["column"]) == ("functions.py", "lag")
    assert abs(place["line"] - line_of(FUNCTIONS, function)) <= 1


def test_a_blocked_loop_is_told_while_it_is_blocked(tmp_path: Path) -> None:
    with start(tmp_path, command(tmp_path, "sleeps")) as run:
        deadline = time.monotonic() + 60
        while not (reported := stalls(tmp_path, over=False)):
            assert time.monotonic() < deadline
            assert run.poll() is None, "the run ended without a word"
            time.sleep(0.01)
        assert reported[0]["ongoing"]
        assert reported[0]["frames"][0]["column"] == "lag"
        assert run.wait(60) == 0


@pytest.fixture
def neighbour() -> Iterator[int]:
    """Keeps a core busy; its number."""
    core = min(os.sched_getaffinity(0))
    spin = f"import os, time; os.sched_setaffinity(0, [{core}]); t = time.time() + 60\n"
    with subprocess.Popen([sys.executable, "-c", spin + "while time.time() < t: pass"]) as process:
        yield core
        process.kill()


def test_beside_a_busy_neighbour_nothing_is_called_stopped_or_blocked(
    neighbour: int, tmp_path: Path
) -> None:
    pinned = ["taskset", "-c", str(neighbour)]
    with start(tmp_path, [*pinned, *command(tmp_path, "waits")]) as run:
        assert run.wait(120) == 0
    assert {stall["reason"] for stall in stalls(tmp_path)} <= {"starved", "computing", "unclear"}


def engine_of(folder: Path) -> int:
    """The process id of the engine, once its run has begun."""
    record = folder / "out" / "run.json"
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline
        try:
            journal = (folder / "out" / "journal" / "000001.jsonl").read_text()
            if "worker_spawned" in journal:
                pid: int = json.loads(record.read_text())["pid"]
                return pid
        except (OSError, ValueError):
            pass
        time.sleep(0.01)


def test_a_stopped_process_is_told_when_it_goes_on(tmp_path: Path) -> None:
    with start(tmp_path, command(tmp_path, "waits")) as run:
        pid = engine_of(tmp_path)
        time.sleep(0.3)
        since = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        until = time.monotonic()
        os.kill(pid, signal.SIGCONT)
        assert run.wait(60) == 0
    stall = final(tmp_path)
    assert (stall["kind"], stall["reason"]) == ("process_paused", "stopped")
    assert stall["from"] == pytest.approx(since, abs=0.3)
    assert stall["to"] == pytest.approx(until, abs=0.3)


def executing(folder: Path) -> list[str]:
    write_stand_in(folder, lines(storm=False, rows=6))
    (folder / "script.py").write_text(SCRIPT)
    return [str(HEADGATE), "exec", "--out", "out", "--", sys.executable, "script.py"]


def test_the_loop_of_another_program_is_watched_too(tmp_path: Path) -> None:
    with start(tmp_path, executing(tmp_path)) as run:
        assert run.wait(60) == 0
    stall = final(tmp_path)
    assert (stall["kind"], stall["reason"]) == ("loop_blocked", "waiting")
    place = stall["frames"][0]
    assert (place["module"], place["function"]) == ("__main__", "main")
    assert (place["file"], place["line"]) == ("script.py", line_of(SCRIPT, "blocks the loop"))


def test_a_stop_of_another_program_is_told_too(tmp_path: Path) -> None:
    with start(tmp_path, executing(tmp_path)) as run:
        deadline = time.monotonic() + 60
        while not (reported := stalls(tmp_path, over=False)):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.01)
        assert reported[0]["ongoing"]
        pid: int = json.loads((tmp_path / "out" / "run.json").read_text())["pid"]
        since = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(pid, signal.SIGCONT)
        assert run.wait(60) == 0
    (pause,) = [stall for stall in stalls(tmp_path) if stall["kind"] == "process_paused"]
    assert pause["reason"] == "stopped"
    assert pause["from"] == pytest.approx(since, abs=0.4)
    assert pause["to"] - pause["from"] == pytest.approx(1.5, abs=0.4)
