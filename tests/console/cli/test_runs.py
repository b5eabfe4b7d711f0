"""`headgate runs`: one line a run, whatever its record says, and nothing forgotten unasked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from console.cli.main import run_cli
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, read_record, write_record
from engine.events.run_index import register
from engine.events.run_record import RunRecord

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def make(path: Path, record: RunRecord) -> RunFolder:
    folder = RunFolder.create(path)
    write_record(folder, record)
    register(folder, record)
    return folder


def listed(capsys: Capture) -> list[dict[str, Any]]:
    assert run_cli(["runs", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def lines(capsys: Capture) -> list[str]:
    assert run_cli(["runs"]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_run_that_does_not_say_when_it_began_began_at_no_time(
    tmp_path: Path, capsys: Capture
) -> None:
    make(tmp_path / "run", RunRecord("r1", "demo", "complete", outcome="success"))
    assert listed(capsys)[0]["started"] is None
    (line,) = lines(capsys)
    assert line.startswith("-  ")
    assert "UTC" not in line


def test_a_name_is_one_line_in_one_column(tmp_path: Path, capsys: Capture) -> None:
    names = ["plain", "two\nlines\r\n", "日本語の実行", "\x1b[31mred", "long" * 30, "e\u0301" * 5]
    for number, name in enumerate(names):
        make(tmp_path / f"run-{number}", RunRecord(f"r{number}", name, "complete", wall_start=9.0))
    shown = lines(capsys)
    assert len(shown) == len(names)
    assert all(line.isprintable() for line in shown)
    places = {cell_len(line[: line.index(str(tmp_path))]) for line in shown if "long" not in line}
    assert len(places) == 1
    assert max(map(cell_len, shown)) < 120 + len(str(tmp_path))


def test_a_run_that_failed_says_why_in_a_few_words(tmp_path: Path, capsys: Capture) -> None:
    for name, outcome, message in (
        ("a", "stopped", "alpha/m refuses: the key in KEY is not valid. 20 rows are written."),
        ("b", "failed", "x" * 300),
        ("c", "success", "not a reason"),
        ("d", "cancelled", "Stopped by the user."),
    ):
        made = RunRecord(name, name, "complete", outcome=outcome, message=message)
        make(tmp_path / name, made)
    assert {row["id"]: row["reason"] is None for row in listed(capsys)} == {
        "a": False,
        "b": False,
        "c": True,
        "d": True,
    }
    shown = {line.split(str(tmp_path))[1][1:2]: line for line in lines(capsys)}
    assert shown["a"].endswith("  (alpha/m refuses: the key in KEY is not valid)")
    assert shown["b"].endswith("xx…)")
    assert len(shown["b"].split("(")[1]) == 101
    assert "(" not in shown["c"] + shown["d"]


def test_what_cannot_be_told_of_a_run_is_unknown(tmp_path: Path, capsys: Capture) -> None:
    folder = make(tmp_path / "run", RunRecord("r1", "demo", "running"))
    assert listed(capsys)[0]["state"] == "unknown"
    with ProcessLock(folder.lock):
        assert listed(capsys)[0]["state"] == "running"
        copy = Path(shutil.copytree(folder.path, tmp_path / "copy"))
    assert listed(capsys)[0]["state"] == "lost"
    shutil.rmtree(folder.path)
    record = read_record(RunFolder(copy))
    assert record is not None
    register(RunFolder(copy), record)
    assert [(row["state"], row["folder"]) for row in listed(capsys)] == [("unknown", str(copy))]


@pytest.mark.parametrize("content", ["[" * 5_000, "{", '{"run_id":1}', "null"])
def test_a_record_that_cannot_be_read_hides_no_run(
    tmp_path: Path, capsys: Capture, content: str
) -> None:
    make(tmp_path / "run", RunRecord("r1", "demo", "complete"))
    make(tmp_path / "bad", RunRecord("r2", "demo", "complete")).run_json.write_text(content)
    assert {row["id"]: row["state"] for row in listed(capsys)} == {
        "r1": "complete",
        "r2": "unreadable",
    }
    assert len(lines(capsys)) == 2


def test_a_run_is_forgotten_when_that_is_asked_for(tmp_path: Path, capsys: Capture) -> None:
    for name in ("first-1", "second-2", "third-3", "third-4"):
        make(tmp_path / name, RunRecord(name, "demo", "complete"))
    (tmp_path / "second-2").rename(tmp_path / "moved")
    states = {row["id"]: row["state"] for row in listed(capsys)}
    assert states == {
        "first-1": "complete",
        "second-2": "away",
        "third-3": "complete",
        "third-4": "complete",
    }
    assert any("away" in line and "second-2" in line for line in lines(capsys))
    for refused in ("nothing", "third"):
        assert run_cli(["runs", "--forget", "first-1", "--forget", refused]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(listed(capsys)) == 4
    assert run_cli(["runs", "--forget", "first", "--forget", str(tmp_path / "third-3")]) == 0
    assert "its folder is left" in capsys.readouterr().out
    assert {row["id"] for row in listed(capsys)} == {"second-2", "third-4"}
    assert run_cli(["runs", "--forget-missing"]) == 0
    assert "second-2" in capsys.readouterr().out
    assert {row["id"] for row in listed(capsys)} == {"third-4"}
    assert run_cli(["runs", "--forget-missing"]) == 0
    assert "nothing was forgotten" in capsys.readouterr().err
    assert all((tmp_path / name / "run.json").exists() for name in ("first-1", "third-3", "moved"))


def test_a_run_that_is_away_is_named_as_such(tmp_path: Path, capsys: Capture) -> None:
    make(tmp_path / "run", RunRecord("r1-12345", "demo", "complete"))
    (tmp_path / "run").rename(tmp_path / "moved")
    assert run_cli(["why", "r1-12345"]) == 2
    err = capsys.readouterr().err
    assert "is not there now" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("command", "private"), [("runs", True), ("export", False)])
def test_what_a_reading_command_makes_on_its_way_is_for_its_owner_alone(
    tmp_path: Path, command: str, private: bool
) -> None:
    """DuckDB makes its temporary files by the umask; files of an export are the user's to share."""
    script = (
        "import os, sys\n"
        "from console.cli.main import main\n"
        "os.umask(0o022)\n"
        "try: main()\n"
        "except SystemExit: print(oct(os.umask(0)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command, "--help"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == ("0o77" if private else "0o22")


def test_a_filter_chooses_runs_and_its_mistake_has_a_caret(tmp_path: Path, capsys: Capture) -> None:
    make(tmp_path / "a", RunRecord("a", "demo", "complete", outcome="success", rows_dropped=3))
    make(tmp_path / "b", RunRecord("b", "demo", "complete", outcome="success"))
    assert run_cli(["runs", "--json", "--where", "demo dropped>0"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == ["a"]
    assert run_cli(["runs", "--where", "demo colour:red"]) == 2
    text, caret, complaint = capsys.readouterr().err.splitlines()
    assert text == "demo colour:red"
    assert caret.startswith("     ^ runs have no colour; they have name")
    assert complaint.startswith("headgate: --where: runs have no colour")


def test_stop_says_where_there_is_nothing_to_stop(tmp_path: Path, capsys: Capture) -> None:
    make(tmp_path / "a", RunRecord("20260101T000000Z-demo-aaaa", "demo", "complete"))
    make(tmp_path / "b", RunRecord("20260101T000000Z-demo-bbbb", "demo", "complete"))
    for name, sentence in (
        ("latest", "no run goes on"),
        ("absent", "there is no run absent"),
        ("demo", "2 runs are called demo; give more of the id: 20260101T000000Z-demo-"),
        ("bbbb", "demo does not run: there is nothing to stop"),
        (str(tmp_path / "a"), "demo does not run: there is nothing to stop"),
    ):
        assert run_cli(["stop", name]) == 2
        assert sentence in capsys.readouterr().err


def test_watch_without_a_live_run_says_so(capsys: Capture) -> None:
    assert run_cli(["watch"]) == 2
    assert "no run goes on" in capsys.readouterr().err


def test_without_a_command_and_a_terminal_the_help_is_shown(capsys: Capture) -> None:
    assert run_cli([]) == 2
    assert "Commands" in capsys.readouterr().err
