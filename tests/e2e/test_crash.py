"""kill -9 of each process in mid-run: what is kept, what is said, and that nothing doubles."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from engine.events import JournalHeader, decode_line
from tests.e2e.ended_run import ENGINE, RECORDER, processes_of, wait_for
from tests.e2e.program import HEADGATE, environment, headgate
from tests.e2e.terminal import Terminal


def journal_events(folder: Path) -> list[Any]:
    events = []
    for segment in sorted((folder / "journal").glob("*.jsonl")):
        for line in segment.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                decoded = decode_line(line)
                if not isinstance(decoded, JournalHeader):
                    events.append(decoded)
    return events


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A demo in mid-run, headless; whatever is left of it is stopped afterwards."""
    out = tmp_path / "out"
    command = subprocess.Popen(
        [HEADGATE, "demo", "--headless", "--records", "200", "--out", str(out)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: (out / "journal").exists() and len(journal_events(out)) > 400, "events")
        yield out, command
    finally:
        for module in (ENGINE, RECORDER):
            for pid in processes_of(out, module):
                os.kill(pid, signal.SIGKILL)
        command.kill()
        command.wait()


def kill(folder: Path, module: str) -> None:
    [pid] = processes_of(folder, module)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes_of(folder, module), f"{module} gone")


def ordinals(recording: Path) -> tuple[int, int, int, int]:
    with duckdb.connect(str(recording), read_only=True) as connection:
        result = connection.execute(
            "select min(ordinal), max(ordinal), count(*), count(distinct ordinal) from events"
        ).fetchone()
    assert result is not None
    return result


def test_engine_killed(running: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    out, command = running
    with Terminal([HEADGATE, "watch", out], cwd=tmp_path, env=environment(tmp_path)) as terminal:
        terminal.wait_for("LIVE")
        written = len(journal_events(out))
        kill(out, ENGINE)
        terminal.wait_for("LOST", "The producer is gone")
        terminal.send("q")
        assert terminal.wait_exit() == 0
    assert command.wait(timeout=60) == 3
    assert json.loads((out / "run.json").read_text())["state"] == "lost"
    assert not (out / "journal").exists()
    low, high, count, distinct = ordinals(out / "recording.duckdb")
    assert low == 1
    assert high == count == distinct >= written > 400
    with duckdb.connect(str(out / "recording.duckdb"), read_only=True) as connection:
        for stream in ("scheduler", "request"):
            row = connection.execute(
                "select max(seq) = count(*) filter (where seq > 0) from events"
                f" where stream = '{stream}'"
            ).fetchone()
            assert row == (True,)
        open_leases = connection.execute(
            "select count(*) from leases where released_at is null"
        ).fetchone()
    assert open_leases is not None
    assert open_leases[0] > 0
    shown = headgate("replay", out, "--once", cwd=tmp_path)
    assert "unknown" in shown.stdout
    assert "running" not in shown.stdout.lower()


def test_recorder_killed(running: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    out, command = running
    wait_for(lambda: (out / "recording.duckdb").exists(), "a first commit")
    command.kill()  # it would finish the import itself
    kill(out, RECORDER)
    for pid in processes_of(out, ENGINE):
        os.kill(pid, signal.SIGTERM)  # the rest would only take time
    wait_for(lambda: not processes_of(out, ENGINE), "the end", 90)
    assert (out / "journal").exists()
    written = [e for e in journal_events(out) if hasattr(e, "event_kind")]
    shown = headgate("replay", out, "--once", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert not (out / "journal").exists()
    assert json.loads((out / "run.json").read_text())["state"] == "complete"
    assert ordinals(out / "recording.duckdb") == (1, len(written), len(written), len(written))
    again = headgate("replay", out, "--once", cwd=tmp_path)
    assert again.stdout == shown.stdout
    assert ordinals(out / "recording.duckdb")[2] == len(written)


def test_console_killed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command: list[str | Path] = [HEADGATE, "demo", "--records", "20", "--out", out]
    try:
        with Terminal(command, cwd=tmp_path, env=environment(tmp_path)) as terminal:
            terminal.wait_for("LIVE")
            terminal.process.send_signal(signal.SIGKILL)
            terminal.process.wait()
        assert processes_of(out, ENGINE)
        with Terminal(
            [HEADGATE, "watch", out], cwd=tmp_path, env=environment(tmp_path)
        ) as terminal:
            terminal.wait_for("LIVE")
            terminal.wait_for("ENDED", seconds=90)
            terminal.send("q")
            assert terminal.wait_exit() == 0
        wait_for(lambda: not (out / "journal").exists(), "the recorder's end")
        record = json.loads((out / "run.json").read_text())
        assert (record["state"], record["rows_done"]) == ("complete", 20)
    finally:
        for module in (ENGINE, RECORDER):
            for pid in processes_of(out, module):
                os.kill(pid, signal.SIGKILL)


def test_a_run_folder_renamed_in_mid_run(
    running: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Engine, recorder, command and a console go on in it; a new folder is none of theirs."""
    out, command = running
    with Terminal([HEADGATE, "watch", out], cwd=tmp_path, env=environment(tmp_path)) as terminal:
        terminal.wait_for("LIVE")
        moved = out.rename(tmp_path / "moved")
        out.mkdir()
        written = len(journal_events(moved))
        wait_for(lambda: len(journal_events(moved)) > written, "events in the moved folder")
        shown = headgate("watch", moved, "--once", cwd=tmp_path)
        assert "live" in shown.stdout
        done = headgate("sql", moved, "select verdict from stalls", "--csv", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "producer_gone" not in done.stdout
        listed = json.loads(headgate("runs", "--json", cwd=tmp_path).stdout)
        assert [(run["state"], run["folder"]) for run in listed] == [("running", str(moved))]
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=90) in (130, 143)
        terminal.wait_for("ENDED", seconds=60)
        terminal.send("q")
        assert terminal.wait_exit() == 0
    record = json.loads((moved / "run.json").read_text())
    assert (record["state"], record["outcome"]) == ("complete", "cancelled")
    assert not (moved / "journal").exists()
    low, high, count, distinct = ordinals(moved / "recording.duckdb")
    assert low == 1
    assert high == count == distinct > written
    assert not list(out.iterdir())


def test_a_copy_of_a_live_folder_is_no_lost_run(
    running: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    out, _ = running
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for command in (("watch", copy, "--once"), ("why", copy), ("verify", copy)):
        shown = headgate(*command, cwd=tmp_path)
        assert shown.returncode == 0, shown
        assert "lost" not in shown.stdout.lower()
        assert "producer gone" not in shown.stdout
    done = " ".join(headgate("watch", copy, "--once", cwd=tmp_path).stdout.split())
    assert "this is a copy of a run" in done
    after = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert after == before
    assert json.loads((copy / "run.json").read_text())["state"] == "running"
