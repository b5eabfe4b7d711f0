"""`headgate exec` around scripts that use a package of Data Designer's shape."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.events.run_folder import RunFolder, RunRecord, read_record
from replay.recording.reader import open_recording
from tests.e2e.program import headgate
from tests.fixtures.data_designer_format import lines
from tests.fixtures.data_designer_stand_in import write_stand_in

EVENTS = lines(storm=True)
CREATE = "from data_designer.interface import DataDesigner\nDataDesigner().create()\n"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the stand-in, in which a script finds it."""
    write_stand_in(tmp_path, EVENTS)
    return tmp_path


def run_script(desk: Path, script: str, *options: str, **env: str) -> Any:
    (desk / "script.py").write_text(script)
    return headgate("exec", *options, "--", sys.executable, "script.py", cwd=desk, env=env)


def records(desk: Path) -> list[RunRecord]:
    done = headgate("runs", "--json", cwd=desk)
    folders = [RunFolder(Path(row["folder"])) for row in json.loads(done.stdout)]
    found = [read_record(folder) for folder in folders]
    assert None not in found
    return sorted((one for one in found if one is not None), key=lambda one: one.wall_start or 0)


def kinds(folder: Path) -> list[tuple[str, int]]:
    """Kind and sequence of each event of a recording, sorted."""
    reader = open_recording(RunFolder(folder).recording)
    try:
        events = reader.events(1, 1_000_000)
    finally:
        reader.close()
    return sorted((event.event_kind, event.sequence) for _, event in events)


def test_a_run_is_recorded_whole(desk: Path) -> None:
    done = run_script(desk, CREATE, "--out", "here")
    assert done.returncode == 0, done.stderr
    record = read_record(RunFolder(desk / "here"))
    assert record is not None
    assert (record.state, record.outcome, record.rows_done) == ("complete", "success", 12)
    assert (record.name, record.producer, record.records) == ("script", "data_designer", 12)
    assert kinds(desk / "here") == sorted((one["event_kind"], one["sequence"]) for one in EVENTS)
    assert f"headgate watch {record.run_id}" in done.stderr
    assert done.stdout == ""


def test_each_run_of_a_script_has_a_folder_of_its_own(desk: Path) -> None:
    script = CREATE + 'DataDesigner().preview(run_id="run-2")\n'
    done = run_script(desk, script, "--out", "here")
    assert done.returncode == 0, done.stderr
    found = records(desk)
    assert [one.name for one in found] == ["script", "script preview"]
    assert kinds(desk / "here") == kinds(desk / "here-2")
    assert all(f"headgate watch {one.run_id}" in done.stderr for one in found)
