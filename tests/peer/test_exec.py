"""`headgate exec` around an unmodified Data Designer script: seen live, explained, and unharmed."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.events.run_folder import RunFolder, read_record
from replay.recording.reader import open_recording
from tests.e2e.program import HEADGATE, headgate
from tests.e2e.terminal import Terminal
from tests.peer.desk import LLM_COLUMNS, PATIENCE, RECORDS, RETRY_AFTER, STORMY, Desk, Row

ALL_ROWS = f"{RECORDS}/{RECORDS} rows"
MODEL = STORMY.rpartition("/")[0]


def executing(desk: Desk, mode: str, *options: str) -> Terminal:
    """`headgate exec` in a terminal of its own; the run's folder is `run`."""
    argv = [str(HEADGATE), "exec", *options, "--out", "run", "--", *desk.command(mode)]
    return Terminal(argv, columns=160, cwd=desk.folder, env=desk.environment)


def announced(terminal: Terminal) -> str:
    """The id of the run that `headgate exec` told on the script's own terminal."""
    terminal.wait_for("headgate watch ", seconds=PATIENCE)
    match = re.search(r"headgate watch (\S+)", terminal.text)
    assert match is not None
    return match[1]


def watching(desk: Desk, run_id: str) -> Terminal:
    return Terminal([HEADGATE, "watch", run_id], cwd=desk.folder, env=desk.environment)


def leave(terminal: Terminal) -> None:
    terminal.send("q")
    assert terminal.wait_exit() == 0


def why(desk: Desk, recording: str) -> dict[str, Any]:
    done = headgate("why", recording, "--json", cwd=desk.folder, env=desk.environment)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_storm_over_create_is_watched_from_another_terminal(
    desks: Callable[..., Desk], rows_without_headgate: list[Row]
) -> None:
    desk = desks(0.2)
    with executing(desk, "create") as script:
        run_id = announced(script)
        with watching(desk, run_id) as console:
            console.wait_for("LIVE", *LLM_COLUMNS, STORMY, seconds=PATIENCE)
            with desk.storm():
                console.wait_for(f"limited by {MODEL}", "cooldown 0.")
            assert script.wait_exit(120) == 0
            console.wait_for("ENDED", ALL_ROWS, "success")
            leave(console)
    assert desk.loaded == rows_without_headgate
    assert_explained(desk, run_id)


def test_a_storm_over_preview_is_watched_in_the_same_terminal(
    desks: Callable[..., Desk], rows_without_headgate: list[Row]
) -> None:
    desk = desks(0.2)
    with executing(desk, "preview", "--live") as console:
        console.wait_for("LIVE", *LLM_COLUMNS, STORMY, seconds=PATIENCE)
        with desk.storm():
            console.wait_for(f"limited by {MODEL}", "cooldown 0.")
        console.wait_for("ENDED", ALL_ROWS, "success", seconds=120)
        console.send("o")
        console.wait_for("Preview complete")
        console.send("q")  # the output
        console.wait_for("Request ceilings")
        console.send("q")
        assert console.wait_exit(60) == 0
    assert desk.loaded == rows_without_headgate
    assert_explained(desk, str(desk.folder / "run"))


def assert_explained(desk: Desk, recording: str) -> None:
    """`why` names the storm's resource and times as the providers recorded them."""
    report = why(desk, recording)
    assert report["run"]["outcome"] == "success"
    [cooldown] = [v for v in report["verdicts"] if v["verdict"] == "request_cooldown"]
    assert cooldown["resource"] == STORMY
    first, last = (desk.refused[n] - report["run"]["began_monotonic"] for n in (0, -1))
    assert cooldown["start"] == pytest.approx(first, abs=0.5)
    assert cooldown["start"] + cooldown["detail"]["limited_seconds"] == pytest.approx(last, abs=0.5)
    assert cooldown["end"] == pytest.approx(last + RETRY_AFTER, abs=0.5)
    assert cooldown["detail"]["rate_limited"] == len(desk.refused)


def test_a_healthy_run_is_watched_and_has_nothing_to_explain(
    desks: Callable[..., Desk], rows_without_headgate: list[Row]
) -> None:
    desk = desks(0.4)
    with executing(desk, "create") as script:
        run_id = announced(script)
        with watching(desk, run_id) as console:
            console.wait_for("LIVE", *LLM_COLUMNS, MODEL, "limit 8/8", seconds=PATIENCE)
            console.wait_for("ENDED", ALL_ROWS, "success", seconds=120)
            assert "rate limited" not in console.text
            leave(console)
        assert script.wait_exit(60) == 0
    assert desk.loaded == rows_without_headgate
    report = why(desk, run_id)
    assert not report["run"]["lost_events"]
    assert not report["run"]["broken_lines"]
    assert not [v for v in report["verdicts"] if v["tier"] in "AB" or "cooldown" in v["verdict"]]


def test_a_killed_script_is_lost_to_its_last_whole_line(desks: Callable[..., Desk]) -> None:
    desk = desks(0.5)
    folder = RunFolder(desk.folder / "run")
    with executing(desk, "create") as script:
        run_id = announced(script)
        with watching(desk, run_id) as console:
            console.wait_for("LIVE", "working", seconds=PATIENCE)
            pid = their_process(desk)
            os.kill(pid, signal.SIGSTOP)
            while (written := whole_events(folder)) != whole_events(folder):
                time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
            console.wait_for("LOST", "The producer is gone: no end was written.")
            leave(console)
        assert script.wait_exit(60) == -signal.SIGKILL
    record = read_record(folder)
    assert record is not None
    assert record.state == "lost"
    reader = open_recording(folder.recording)
    try:
        assert reader.bounds().last_ordinal == written
    finally:
        reader.close()
    assert not folder.journal.exists()


def their_process(desk: Desk) -> int:
    """The id of the process that runs their script."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[:-1] == desk.command("create"):
            return int(entry.name)
    raise AssertionError("their script does not run")


def whole_events(folder: RunFolder) -> int:
    whole = 0
    for segment in folder.journal.glob("*.jsonl"):
        lines = segment.read_bytes().split(b"\n")[:-1]
        whole += sum(not line.startswith(b'{"stream":"header"') for line in lines)
    return whole
