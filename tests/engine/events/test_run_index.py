"""The list of a user's runs: nothing is forgotten unasked, and what was moved is found again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.events.run_folder import RunFolder, write_record
from engine.events.run_index import forget, index_home, list_runs, register
from engine.events.run_record import RunRecord


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))


def make(path: Path, run_id: str, wall_start: float | None = 100.0) -> RunFolder:
    folder = RunFolder.create(path)
    record = RunRecord(run_id, "demo", "complete", wall_start=wall_start)
    write_record(folder, record)
    register(folder, record)
    return folder


def listed() -> list[tuple[str, str, Path]]:
    return [(run.run_id, run.where, run.path) for run in list_runs()]


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    assert list_runs() == []
    old = make(tmp_path / "old", "old", 100.0)
    new = make(tmp_path / "new", "new", 101.0)
    register(new, RunRecord("new", "demo", "complete"))
    assert listed() == [("new", "here", new.path), ("old", "here", old.path)]
    assert len(list(index_home().iterdir())) == 2


def test_a_run_whose_folder_is_away_stays_in_the_list_until_it_is_forgotten(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    away = make(disk / "run", "away", 200.0)
    here = make(tmp_path / "here", "here", 100.0)
    disk.rename(tmp_path / "unmounted")
    for _ in range(2):
        assert listed() == [("here", "here", here.path), ("away", "away", disk / "run")]
    assert list_runs()[1].name == "demo"
    (tmp_path / "unmounted").rename(disk)
    assert listed()[0] == ("away", "here", away.path)
    forget(list_runs()[0])
    assert listed() == [("here", "here", here.path)]
    assert away.run_json.exists()


def test_a_moved_run_is_found_again_when_it_is_opened(tmp_path: Path) -> None:
    make(tmp_path / "run", "r1")
    moved = RunFolder((tmp_path / "run").rename(tmp_path / "moved"))
    assert listed() == [("r1", "away", tmp_path / "run")]
    register(moved, RunRecord("r1", "demo", "complete"))
    assert listed() == [("r1", "here", moved.path)]


def test_a_copy_does_not_steal_the_pointer_of_an_original_that_is_there(tmp_path: Path) -> None:
    original = make(tmp_path / "run", "r1")
    copy = RunFolder(Path(shutil.copytree(original.path, tmp_path / "copy")))
    register(copy, RunRecord("r1", "demo", "complete"))
    assert listed() == [("r1", "here", original.path)]
    shutil.rmtree(original.path)
    register(copy, RunRecord("r1", "demo", "complete"))
    assert listed() == [("r1", "here", copy.path)]


def test_an_original_that_was_moved_takes_the_pointer_back_from_its_copy(tmp_path: Path) -> None:
    original = make(tmp_path / "run", "r1")
    with original.producer_lock():
        copy = RunFolder(Path(shutil.copytree(original.path, tmp_path / "copy")))
    moved = RunFolder(original.path.rename(tmp_path / "moved"))
    record = RunRecord("r1", "demo", "running")
    register(copy, record)
    assert listed() == [("r1", "here", copy.path)]
    register(moved, record)
    register(copy, record)
    assert listed() == [("r1", "here", moved.path)]


def test_another_name_of_the_same_folder_does_not_take_the_pointer(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "r1")
    link = tmp_path / "link"
    link.symlink_to(folder.path)
    register(RunFolder(link), RunRecord("r1", "demo", "complete"))
    assert listed() == [("r1", "here", folder.path)]


def test_another_run_in_the_place_of_one_that_was_moved_is_another_run(tmp_path: Path) -> None:
    make(tmp_path / "run", "first")
    (tmp_path / "run").rename(tmp_path / "moved")
    second = make(tmp_path / "run", "second")
    assert listed() == [("second", "here", second.path), ("first", "away", second.path)]


def test_a_record_that_cannot_be_read_is_not_taken_for_absent(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "r1")
    folder.run_json.write_text("{")
    assert listed() == [("r1", "unreadable", folder.path)]


def test_pointers_of_an_older_headgate_are_read_and_replaced_when_the_run_is_opened(
    tmp_path: Path,
) -> None:
    folder = RunFolder.create(tmp_path / "run")
    record = RunRecord("r1", "demo", "complete")
    write_record(folder, record)
    index_home().mkdir(parents=True)
    (index_home() / "0123456789abcdef").write_text(str(folder.path))
    (index_home() / "fedcba9876543210").write_text(str(tmp_path / "gone"))
    before = [("r1", "here", folder.path), ("", "away", tmp_path / "gone")]
    assert listed() == before
    register(folder, record)
    assert listed() == before
    assert len(list(index_home().iterdir())) == 2


@pytest.mark.parametrize("run_id", ["../../up", "", ".", "a/b", "x" * 300, "a\nb", "\ud800", "ü"])
def test_no_run_id_leads_out_of_the_index(tmp_path: Path, run_id: str) -> None:
    folder = RunFolder.create(tmp_path / "run")
    register(folder, RunRecord(run_id, "demo", "complete"))
    assert len(list(index_home().iterdir())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "run"]


def test_a_path_that_is_not_utf8_is_kept(tmp_path: Path) -> None:
    path = tmp_path / b"r\xff".decode(errors="surrogateescape")
    try:
        make(path, "r1")
    except OSError:
        pytest.skip("this file system knows only UTF-8")
    assert listed() == [("r1", "here", path)]


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 5_000, b"\xff", b"1", b'{"path":"x"}'])
def test_what_is_no_pointer_is_passed_over(tmp_path: Path, content: bytes) -> None:
    make(tmp_path / "run", "r1")
    (index_home() / "broken").write_bytes(content)
    assert [run.run_id for run in list_runs()] == ["r1"]


def test_a_home_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "file"))
    register(RunFolder.create(tmp_path / "run"), RunRecord("r1", "demo", "running"))
    assert list_runs() == []
