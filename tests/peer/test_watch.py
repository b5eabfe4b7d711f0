"""`headgate watch` on the file that Data Designer itself writes: before, during and after a run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.program import HEADGATE, headgate
from tests.e2e.terminal import Terminal
from tests.peer.desk import LLM_COLUMNS, PATIENCE, RECORDS, RETRY_AFTER, STORMY, Desk

ALL_ROWS = f"{RECORDS}/{RECORDS} rows"
LACKING = "request stream (attempts, waits, leases)"
MODEL = STORMY.rpartition("/")[0]

pytestmark = pytest.mark.xdist_group("native")


def console(desk: Desk, target: Path) -> Terminal:
    return Terminal([HEADGATE, "watch", target], cwd=desk.folder, env=desk.environment)


def leave(terminal: Terminal) -> None:
    terminal.send("q")
    assert terminal.wait_exit() == 0


def test_watched_from_before_the_file_exists(desks: Callable[..., Desk]) -> None:
    desk = desks(0.2)
    dataset = desk.native_events.parent
    with console(desk, dataset.relative_to(desk.folder)) as before:
        before.wait_for("WAITING", "Waiting for out/dataset/scheduler_events.jsonl")
        with desk.started("create", write_scheduler_events=True) as script:
            before.wait_for("LIVE", *LLM_COLUMNS, LACKING, seconds=PATIENCE)
            with console(desk, desk.native_events) as during:
                during.wait_for("LIVE", MODEL)
                going = headgate("why", dataset, "--json", cwd=desk.folder, env=desk.environment)
                assert not json.loads(going.stdout)["run"]["producer_lost"]
                with desk.storm():
                    for terminal in (before, during):
                        terminal.wait_for(f"limited by {MODEL}", "cooldown 0.")
                assert script.wait(120) == 0
                during.wait_for("ENDED", ALL_ROWS, "success")
                leave(during)
        before.wait_for("ENDED", ALL_ROWS, "success")
        leave(before)
    after = headgate("watch", dataset, "--once", cwd=desk.folder, env=desk.environment)
    assert after.returncode == 0, after.stderr
    assert ALL_ROWS in after.stdout


def test_a_killed_script_is_told(desks: Callable[..., Desk]) -> None:
    desk = desks(0.5)
    with console(desk, desk.out) as terminal:
        with desk.started("create", write_scheduler_events=True) as script:
            terminal.wait_for("LIVE", "working", seconds=PATIENCE)
            os.kill(script.pid, signal.SIGKILL)
            script.wait()
        terminal.wait_for("LOST", "The process that wrote the file is gone.")
        leave(terminal)


def test_why_names_the_storm(stormy: Desk) -> None:
    done = headgate("why", stormy.native_events, "--json", cwd=stormy.folder)
    report = json.loads(done.stdout)
    [cooldown] = [v for v in report["verdicts"] if v["verdict"] == "request_cooldown"]
    assert cooldown["resource"] == STORMY
    first, last = (stormy.refused[n] - report["run"]["began_monotonic"] for n in (0, -1))
    assert cooldown["start"] == pytest.approx(first, abs=0.5)
    assert cooldown["start"] + cooldown["detail"]["limited_seconds"] == pytest.approx(last, abs=0.5)
    assert cooldown["end"] == pytest.approx(last + RETRY_AFTER, abs=0.5)


def test_truncated_and_replaced_under_the_console(stormy: Desk, tmp_path: Path) -> None:
    lines = stormy.native_events.read_bytes().splitlines(keepends=True)
    growing = tmp_path / "scheduler_events.jsonl"
    growing.write_bytes(b"".join(lines[:400]))
    with Terminal([HEADGATE, "watch", growing], cwd=tmp_path, env=stormy.environment) as terminal:
        terminal.wait_for("LIVE")
        growing.write_bytes(b"".join(lines[400:500]))
        terminal.wait_for("The file was truncated")
        whole = tmp_path / "whole"
        whole.write_bytes(b"".join(lines[500:]))
        whole.replace(growing)
        terminal.wait_for("The file was replaced", "ENDED", ALL_ROWS)
        leave(terminal)
