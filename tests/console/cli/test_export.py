"""`headgate export`: where files go, and that nothing is lost to it."""

from __future__ import annotations

import gzip
import json
import os
import pty
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.cli.main import run_cli
from engine.events import (
    JournalEnd,
    JournalHeader,
    JournalLine,
    RequestEvent,
    RequestResource,
    RunInfo,
    SchedulerEvent,
    encode_lines,
)

HOSTILE = 'a|<b>`c`](x) \x1b[31m\u202e&"'
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small run whose every name is hostile; the folder it lies in is the current one."""
    monkeypatch.chdir(tmp_path)
    resource = RequestResource(HOSTILE, HOSTILE, "chat")
    limits = {"static_cap": 4, "effective_max": 4, "limit": 4}
    events: list[JournalLine] = [
        RequestEvent(
            "request_resource_registered",
            100.0,
            1,
            request_resource_key=resource,
            diagnostics=limits,
        ),
        SchedulerEvent("ready_enqueued", 100.1, 1, task_id=HOSTILE, diagnostics={"group": HOSTILE}),
        SchedulerEvent("task_lease_acquired", 100.2, 2, task_id=HOSTILE, task_lease_id="t1"),
        SchedulerEvent("task_lease_released", 103.2, 3, task_id=HOSTILE, task_lease_id="t1"),
    ]
    path = tmp_path / "run.jsonl"
    run = RunInfo("run-1", HOSTILE, monotonic_start=100.0)
    path.write_bytes(
        encode_lines([JournalHeader(run, 1, 1), *events, JournalEnd("success", 103.2, 3, 1)])
    )
    return path


Export = Callable[..., int]


def export(*arguments: str | Path) -> int:
    return run_cli(["export", "run.jsonl", *map(str, arguments)])


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("perfetto", ["run.trace.json"]),
        ("svg", ["run.svg"]),
        ("markdown", ["run.md", "run.ceilings.svg", "run.queue.svg", "run.blame.svg"]),
        ("parquet", ["run-parquet/tasks.parquet", "run-parquet/events.parquet"]),
        ("csv", ["run-csv/stalls.csv", "run-csv/run.csv"]),
    ],
)
def test_files_have_the_name_of_the_run(
    lines: Path, tmp_path: Path, capsys: Captured, kind: str, files: list[str]
) -> None:
    assert export("--format", kind) == 0
    said = capsys.readouterr()
    assert said.out == ""
    for name in files:
        assert (tmp_path / name).stat().st_size > 0
        assert f"Wrote {name} (" in said.err
    assert not list(tmp_path.rglob(".*"))


def test_nothing_is_overwritten_unasked(lines: Path, tmp_path: Path, capsys: Captured) -> None:
    mine = tmp_path / "run.queue.svg"
    mine.write_text("mine")
    assert export("--format", "markdown") == 2
    assert "exists already" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert not (tmp_path / "run.md").exists()
    assert export("--format", "markdown", "--force") == 0
    assert mine.read_text().startswith("<svg")
    before = lines.read_bytes()
    assert export("--format", "jsonl") == 2  # that would be the source itself
    assert lines.read_bytes() == before


def test_force_on_the_source_itself_loses_nothing(lines: Path) -> None:
    assert export("--format", "jsonl", "--force") == 0
    assert len(lines.read_bytes().splitlines()) == 6


def test_stdout_takes_one_file(lines: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert export("--format", "perfetto", "--out", "-") == 0
    assert json.loads(capsysbinary.readouterr().out)["traceEvents"]
    assert export("--format", "csv", "--table", "run", "--out", "-") == 0
    assert capsysbinary.readouterr().out.startswith(b"run_id,name,")
    for several in (["--format", "csv"], ["--format", "markdown"]):
        assert export(*several, "--out", "-") == 2
        said = capsysbinary.readouterr()
        assert said.out == b""
        assert b"--out" in said.err


def test_a_name_that_ends_in_gz_is_compressed(lines: Path, tmp_path: Path) -> None:
    assert export("--format", "jsonl", "--out", "again.jsonl.gz") == 0
    assert gzip.decompress((tmp_path / "again.jsonl.gz").read_bytes()).count(b"\n") == 6
    assert run_cli(["export", "again.jsonl.gz", "--format", "jsonl"]) == 0
    assert (tmp_path / "again.jsonl").read_bytes().count(b"\n") == 6


def test_one_view_is_one_file(lines: Path, tmp_path: Path) -> None:
    assert export("--format", "csv", "--table", "leases", "--out", "leases.csv") == 0
    assert (tmp_path / "leases.csv").read_text().count("\n") == 2
    assert export("--format", "csv", "--table", "nothing") == 2
    assert export("--format", "csv", "--out", "all.csv") == 2
    assert export("--format", "svg", "--table", "leases") == 2


@pytest.mark.parametrize("place", ["no/such/folder/x.svg", "folder"])
def test_a_place_that_can_not_be_written_is_one_sentence(
    lines: Path, tmp_path: Path, capsys: Captured, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    assert export("--format", "svg", "--out", place) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_markdown_report_is_that_of_why_and_more(
    lines: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert run_cli(["why", "run.jsonl", "--markdown"]) == 0
    why = capsys.readouterr().out
    assert export("--format", "markdown") == 0
    report = (tmp_path / "run.md").read_text()
    headings = [line for line in report.splitlines() if line.startswith("#")]
    assert [line for line in why.splitlines() if line.startswith("#")] == headings[:-5]
    assert headings[-5:] == [
        "## Shares over the run",
        "## Ceilings",
        "## Queue",
        "## Columns",
        "## Run",
    ]
    for picture in ("blame", "ceilings", "queue"):
        assert f"(<run.{picture}.svg>)" in report
    assert "| column | tasks | completed |" in report
    assert "| resource | limit at the end |" in report
    assert "| events | 4 |" in report
    assert "what can be changed" in report
    assert "what can be changed" not in why


def test_hostile_names_are_neither_markup_nor_escapes(lines: Path, tmp_path: Path) -> None:
    assert export("--format", "svg") == 0
    assert export("--format", "markdown") == 0
    for picture in tmp_path.glob("*.svg"):
        assert not [item for item in ET.parse(picture).iter() if item.tag.endswith("}b")]
    text = (tmp_path / "run.md").read_text()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\<b\\>\\`c\\`\\]" in text
    assert "<b>" not in text


def test_pictures_name_what_they_show(lines: Path, tmp_path: Path) -> None:
    assert export("--format", "svg", "--out", "all.svg") == 0
    said = [element.text or "" for element in ET.parse(tmp_path / "all.svg").iter()]
    assert any(item.endswith("waiting (dashed), cooldown (shaded)") for item in said)


def test_a_failure_leaves_no_file(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("replay.export.trace._events", full)
    before = sorted(tmp_path.iterdir())
    assert export("--format", "perfetto") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def terminal() -> Iterator[str]:
    """The path of a device that anybody may make."""
    master, opened = pty.openpty()
    yield os.ttyname(opened)
    os.close(master)
    os.close(opened)


@pytest.mark.parametrize("kind", ["device", "fifo", "link to a device", "link", "broken link"])
@pytest.mark.parametrize("form", ["jsonl", "markdown", "csv"])
def test_force_never_replaces_what_is_no_regular_file(
    lines: Path, capsys: pytest.CaptureFixture[str], terminal: str, kind: str, form: str
) -> None:
    place = Path("out.csv" if form == "csv" else "out")
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "link":
        Path("theirs").write_text("theirs")
        place.symlink_to("theirs")
    elif kind == "broken link":
        place.symlink_to("nowhere")
    else:
        device = Path(terminal)
        if kind == "device" and form != "csv":  # whose name says that it is one file
            place = device
        else:
            place.symlink_to(device)
    before = os.lstat(place)
    table = ["--table", "run"] if form == "csv" else []
    assert export("--format", form, "--out", str(place), "--force", *table) == 2
    err = capsys.readouterr().err
    assert "never replaced" in err
    after = os.lstat(place)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert not Path("theirs").exists() or Path("theirs").read_text() == "theirs"
