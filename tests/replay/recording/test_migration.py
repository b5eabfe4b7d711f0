"""The first recording that was ever made opens in everything that reads one.

`fixtures/recordings/first.duckdb.xz` is a run of the demo by the first version that had a command
line. It has neither stretches nor keyframe parts, and its verdicts are of the first diagnosis.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import duckdb
import pytest

from console.cli import exit_codes
from console.cli.main import run_cli
from engine.events import SCHEMA_VERSION
from replay.playback.frame import Want
from replay.playback.session import Session
from replay.recording.schema import TABLES
from replay.recording.views import ALL_VIEWS

PACKED = Path(__file__).parents[2] / "fixtures" / "recordings" / "first.duckdb.xz"
EVENTS = 191


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first") / "first.duckdb"
    path.write_bytes(lzma.decompress(PACKED.read_bytes()))
    return path


def output(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run_cli([str(argument) for argument in arguments]) == exit_codes.OK
    return capsys.readouterr().out


def test_it_is_of_the_first_schema(first: Path) -> None:
    with duckdb.connect(str(first), read_only=True) as connection:
        tables = {name for (name,) in connection.execute("SHOW TABLES").fetchall()}
        [version] = connection.execute(
            "SELECT value FROM meta WHERE key = 'schema_version'"
        ).fetchone() or [None]

    assert version == "1"
    assert int(version) <= SCHEMA_VERSION
    assert TABLES.keys() - tables == {
        "keyframe_changes",
        "keyframe_parts",
        "rollup_stretches",
        "blame_stretches",
    }


def test_it_is_replayed_to_every_event_forward_and_back(first: Path) -> None:
    session = Session.open(first, growing=False)
    try:
        ends = session.frame(Want(standing=True, queue=True))
        assert ends.last_ordinal == EVENTS
        assert ends.progress.rows_done == 2
        states = {}
        for ordinal in [*range(1, EVENTS + 1, 10), EVENTS]:
            session.seek_ordinal(ordinal)
            states[ordinal] = session.frame(Want()).groups
        for ordinal in reversed(states):
            session.seek_ordinal(ordinal)
            assert session.frame(Want()).groups == states[ordinal]
    finally:
        session.close()


def test_it_is_explained_as_a_recording_of_today(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads(output(capsys, "why", first, "--json"))
    assert report["answer"]
    assert report["verdicts"]
    assert "Set before the run" in output(capsys, "capacity", first)


@pytest.mark.parametrize("view", ALL_VIEWS, ids=lambda view: view.name)
def test_every_view_answers(view: object, first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = view.name  # type: ignore[attr-defined]
    rows = json.loads(output(capsys, "sql", first, "--json", f"SELECT * FROM {name}"))
    if name in ("events", "tasks", "leases", "requests", "series"):
        assert rows


def test_it_is_verified_compared_and_exported(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "ok" in output(capsys, "verify", first)
    assert "rows" in output(capsys, "compare", first, first)
    lines = tmp_path / "first.jsonl"
    output(capsys, "export", first, "--format", "jsonl", "--out", lines)
    assert json.loads(
        output(capsys, "sql", lines, "--json", "SELECT count(*) AS n FROM events")
    ) == [{"n": EVENTS}]
