"""Recordings made by somebody else: none of their code runs, and none of their values hangs us."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from engine.events import Event, RunInfo
from engine.events.run_folder import RunFolder
from replay.recording.connections import refuse_code
from replay.recording.ingest import Ingest
from replay.sources.feed import open_journal
from tests.effort import effort
from tests.replay.fuzz.exercise import ask, assert_harmless
from tests.replay.producer import leave_lock
from tests.replay.recording.crafted import (
    Bait,
    Crafted,
    bait_in,
    damaged,
    with_code,
    with_logs,
    with_values,
)

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("why", "{}"),
    ("why", "{}", "--json"),
    ("replay", "{}", "--once"),
    ("replay", "{}", "--headless"),
    ("watch", "{}", "--once"),
    ("verify", "{}"),
    ("compare", "{}", "{}"),
    ("export", "{}", "--format", "jsonl", "--out", "-"),
    ("export", "{}", "--format", "csv", "--table", "tasks", "--out", "-"),
    ("export", "{}", "--format", "perfetto", "--out", "-"),
    ("sql", "{}", "SELECT count(*), max(ordinal) FROM recording.events"),
    ("sql", "{}", "--views"),
)
SECONDS = 20.0
"""Of the processors, for one command on one recording: whatever else the machine does."""


@pytest.fixture(scope="module")
def baited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bait, Callable[[], bool]]]:
    with bait_in(tmp_path_factory.mktemp("baited") / "files") as bait:
        yield bait


def commands(nth: int) -> list[tuple[str, ...]]:
    """All of them, or in a quick test one after the other."""
    return effort([COMMANDS[nth % len(COMMANDS)]], list(COMMANDS))


def ask_of(command: tuple[str, ...], path: Path) -> tuple[int, str, float]:
    began = processor_seconds()
    code, said = ask(*(word.format(path) for word in command))
    return code, said, processor_seconds() - began


def processor_seconds() -> float:
    """Of this process, and of those that it started and that have ended."""
    return sum(os.times()[:4])


def test_code_in_a_recording_is_refused_and_never_runs(
    good: Path, tmp_path: Path, baited: tuple[Bait, Callable[[], bool]]
) -> None:
    bait, taken = baited
    crafted = list(with_code(bait))
    assert len(crafted) >= 60
    for nth, case in enumerate(crafted[:: effort(5, 1)]):
        path = case.make(good, tmp_path / str(nth))
        taken()  # by DuckDB, as it was made
        before = path.read_bytes()
        for command in commands(nth):
            code, said, _ = ask_of(command, path)
            assert not taken(), (case.name, command)
            assert code == 4, (case.name, command, said)
            assert len(said.splitlines()) == 1, (case.name, command, said)
            assert "was not written by headgate alone" in said, (case.name, command)
            assert_harmless(said)
        assert path.read_bytes() == before
        shutil.rmtree(tmp_path / str(nth))


def test_a_folder_is_completed_without_the_code_in_its_recording(
    good: Path,
    tmp_path: Path,
    baited: tuple[Bait, Callable[[], bool]],
    play: Play,
    write_journal: WriteJournal,
) -> None:
    """What its journal says is told, and the recording stays as it is.

    Only where DuckDB can't replay the log is the recording made anew, from the journal alone.
    """
    bait, taken = baited
    crafted = list(with_code(bait))
    run, events = play(3, row_groups=2)
    untouched = write_journal(run, events).path
    for nth, case in enumerate(crafted[:: effort(29, 1)]):
        path = case.make(good, tmp_path / str(nth))
        folder = RunFolder(tmp_path / f"folder-{nth}")
        shutil.copytree(untouched, folder.path)
        leave_lock(folder)
        folder.recording.write_bytes(path.read_bytes())
        log = path.with_name(f"{path.name}.wal")
        if log.exists():
            shutil.copy(log, folder.path / "recording.duckdb.wal")
        taken()
        before = folder.recording.read_bytes()
        for command in (("why", "{}"), ("sql", "{}", "SELECT count(*) FROM events")):
            code, said, _ = ask_of(command, folder.path)
            assert not taken(), (case.name, command)
            assert code in (0, 1), (case.name, said)
        assert str(len(events)) in said
        if folder.journal.is_dir():
            assert folder.recording.read_bytes() == before, case.name
        else:
            assert case.logged
            with duckdb.connect(str(folder.recording), read_only=True) as recording:
                refuse_code(recording, case.name)  # raises where the code is still in it


def test_a_log_of_another_database_is_refused_and_never_runs(
    good: Path, tmp_path: Path, baited: tuple[Bait, Callable[[], bool]]
) -> None:
    bait, taken = baited
    crafted = list(with_logs(bait))
    assert len(crafted) >= 60
    for nth, case in enumerate(crafted[:: effort(19, 1)]):
        made = case.make(good, tmp_path / str(nth))
        path = tmp_path / str(nth) / "run.duckdb"
        shutil.copy(good, path)
        for suffix in effort([".wal"], [".wal", ".wal.checkpoint", ".wal.recovery"]):
            log = path.with_name(f"{path.name}{suffix}")
            shutil.copy(f"{made}.wal", log)
            taken()
            code, said, _ = ask_of(("sql", "{}", "SELECT count(*) FROM events"), path)
            assert not taken(), (case.name, said)
            assert path.read_bytes() == good.read_bytes()
            assert code in ((4,) if suffix == ".wal" else (0, 4)), (case.name, said)
            if code == 4:
                assert len(said.splitlines()) == 1, (case.name, said)
                assert "not written by headgate alone" in said or "is damaged" in said
            log.unlink()
        shutil.rmtree(tmp_path / str(nth))


def test_a_folder_with_a_log_of_another_database_is_completed_from_its_journal(
    good: Path,
    tmp_path: Path,
    baited: tuple[Bait, Callable[[], bool]],
    play: Play,
    write_journal: WriteJournal,
) -> None:
    bait, taken = baited
    run, events = play(3, row_groups=2)
    folder = write_journal(run, events)
    ingest = Ingest(open_journal(folder), folder.recording)
    ingest.step(50)
    ingest.keep_fold()
    ingest.checkpoint()
    ingest.close()
    whole = tmp_path / "whole"
    folder.close()
    folder.path.rename(whole)
    logs = {}
    for nth, case in enumerate(list(with_logs(bait))[:: effort(30, 1)]):
        made = case.make(good, tmp_path / f"made-{nth}")
        logs[case.name] = Path(f"{made}.wal").read_bytes()
    logs |= dict(list(damaged(logs["log: macro count"]).items())[:: effort(3, 1)])
    for name, log in logs.items():
        shutil.copytree(whole, folder.path)
        leave_lock(RunFolder(folder.path))
        (folder.path / "recording.duckdb.wal").write_bytes(log)
        taken()
        for command in (("why", "{}"), ("sql", "{}", "SELECT count(*) FROM events")):
            code, said, _ = ask_of(command, folder.path)
            assert not taken(), (name, command)
            assert code in (0, 1), (name, said)
        assert str(len(events)) in said, (name, said)
        shutil.rmtree(folder.path)


PLACES: dict[str, tuple[str, object]] = {
    "null place": ("position", None),
    "no JSON": ("position", "["),
    "nested place": ("position", "[" * 100_000),
    "list": ("position", "[1]"),
    "unknown place": ("position", '{"a": 1}'),
    "far place": ("position", '{"segment": 99, "offset": 99999999999, "line": 5}'),
    "before the start": ("position", '{"segment": -1, "offset": -1, "line": -1}'),
    "huge ordinal": ("ordinal", 2**52),
    "null ordinal": ("ordinal", None),
    "garbage": ("fold", b"garbage"),
    "nested": ("fold", b"\x91" * 100_000),
    "huge": ("fold", b"\xdd\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", list(PLACES))
def test_an_import_that_goes_on_at_an_impossible_place_is_done_from_the_journal(
    tmp_path: Path, play: Play, write_journal: WriteJournal, name: str
) -> None:
    run, events = play(3, row_groups=2)
    folder = write_journal(run, events)
    ingest = Ingest(open_journal(folder), folder.recording)
    ingest.step(50)
    ingest.keep_fold()
    ingest.close()
    column, value = PLACES[name]
    with duckdb.connect(str(folder.recording)) as connection:
        connection.execute(f"UPDATE resume SET {column} = ?", [value])
    code, said, seconds = ask_of(("sql", "{}", "SELECT count(*) FROM events"), folder.path)
    assert "Traceback" not in said
    assert seconds < SECONDS
    assert code in (0, 4), said
    if code == 0 and name not in ("far place", "before the start"):
        assert str(len(events)) in said


VALUES = [pytest.param(case, id=case.name) for case in list(with_values())[:: effort(5, 1)]]


@pytest.mark.parametrize("case", VALUES)
def test_values_that_no_run_has_are_told_in_a_sentence(
    good: Path, tmp_path: Path, case: Crafted, request: pytest.FixtureRequest
) -> None:
    path = case.make(good, tmp_path)
    nth = [value.id for value in VALUES].index(case.name)
    for command in commands(nth):
        code, said, seconds = ask_of(command, path)
        assert "Traceback" not in said, (command, said)
        assert code in (0, 1, 2, 4), (command, said)
        assert seconds < SECONDS, command
        if code in (2, 4) and command[0] != "verify":
            sentences = [line for line in said.splitlines() if line.startswith("headgate: ")]
            assert len(sentences) == 1, (command, said)
        assert_harmless(said)
