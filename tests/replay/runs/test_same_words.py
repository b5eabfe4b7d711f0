"""`why` says the same, to the byte, of a run's journal, its recording and each of its exports."""

from __future__ import annotations

import gzip
import lzma
import shutil
from pathlib import Path

import pytest

from console.cli.main import run_cli
from replay.runs.materialize import materialize
from tests.effort import effort
from tests.fixtures.data_designer_format import generate
from tests.replay.conftest import WriteJournal
from tests.replay.random_engine import Play

CASES = Path(__file__).parents[2] / "truth" / "cases"
RECORDINGS = sorted(CASES.glob("*.xz"))[:: effort(16, 1)]


def said(capsys: pytest.CaptureFixture[str], path: Path) -> list[str]:
    """The report as text and as JSON."""
    reports = []
    for form in ([], ["--json"]):
        assert run_cli(["why", *form, str(path)]) == 0
        reports.append(capsys.readouterr().out)
    return reports


def exported(path: Path, kind: str, target: Path) -> Path:
    assert run_cli(["export", str(path), "--format", kind, "--out", str(target)]) == 0
    return target


def check(path: Path, scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the run is in, its report is the one of `path`."""
    own = said(capsys, path)
    recording = scratch / "kept.duckdb"
    with materialize(path, lambda sentence: None) as made:
        shutil.copyfile(made, recording)
    assert said(capsys, recording) == own
    lines = exported(recording, "jsonl", scratch / "lines.jsonl")
    parquet = exported(recording, "parquet", scratch / "tables")
    packed = scratch / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    capsys.readouterr()
    for form in (lines, packed, parquet, parquet / "stream.parquet"):
        assert said(capsys, form) == own, form.name
    again = exported(parquet, "jsonl", scratch / "again.jsonl")
    capsys.readouterr()
    assert again.read_bytes() == lines.read_bytes()


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name.split(".jsonl")[0])
def test_of_recorded_situations(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "situation.jsonl"
    lines.write_bytes(lzma.decompress(path.read_bytes()))
    check(lines, tmp_path, capsys)


@pytest.mark.parametrize("requests", [True, False][: effort(1, 2)])
def test_of_a_foreign_file(
    requests: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(tmp_path / "storm.jsonl", storm=True, rows=20, requests=requests)
    check(tmp_path / "storm.jsonl", tmp_path, capsys)


def test_of_a_journal(
    play: Play, write_journal: WriteJournal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of its folder is read from the journal each time; the folder itself is imported."""
    run, events = play(11)
    folder = write_journal(run, events, segments=3)
    copy = tmp_path / "copy"
    shutil.copytree(folder.path, copy)
    journal = said(capsys, copy)
    assert not (copy / "recording.duckdb").exists()
    assert said(capsys, folder.path) == journal
    assert (folder.path / "recording.duckdb").is_file()
    parquet = exported(folder.path, "parquet", tmp_path / "tables")
    capsys.readouterr()
    assert said(capsys, parquet) == journal
