"""What `headgate exec` puts into the user's process: its imports, its journal, its bookkeeping."""

from __future__ import annotations

import ast
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from headgate_bootstrap import recorder as recorder_module
from headgate_bootstrap.control import Control
from headgate_bootstrap.journal import Line, RunJournal, encode
from headgate_bootstrap.recorder import Preparation, Recorder
from headgate_bootstrap.run import ENDS
from hypothesis import given, settings
from hypothesis import strategies as st

from console.cli.exec.control import BOOTSTRAP, ExecControl
from engine import watch
from engine.events import Event, RunInfo, SchedulerEvent
from engine.events.run_folder import RunFolder, read_record
from engine.events.run_index import list_runs
from replay.sources.feed import open_journal
from replay.state.reducer import begin, reduce
from tests.fixtures.data_designer_format import lines

WATCH = Path(watch.__file__).parent
FILES = [*sorted(BOOTSTRAP.rglob("*.py")), *sorted(WATCH.glob("*.py"))]
"""What runs in the user's interpreter."""
HEADER = {
    "run": {"run_id": "r1", "name": "demo", "producer": "data_designer", "monotonic_start": 1.0},
    "dialect": "data_designer",
}
RECORD = {"run_id": "r1", "name": "demo", "state": "running", "producer": "data_designer"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_standard_library_is_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 10))):
        names = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = path.parent == WATCH and node.level == 1
            assert inside or node.level == 0
            if inside:
                continue
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            assert top == "headgate_bootstrap" or top in sys.stdlib_module_names, name


def test_the_bootstrap_is_where_the_command_looks_for_it() -> None:
    assert {"sitecustomize.py", "recorder.py"} <= {path.name for path in FILES}


def test_an_old_python_can_read_what_it_finds_first() -> None:
    source = (BOOTSTRAP / "sitecustomize.py").read_text()
    tree = ast.parse(source, feature_version=(3, 4))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]


# -- the journal -----------------------------------------------------------------------------------


def journal_at(folder: Path, **options: Any) -> RunJournal:
    return RunJournal(lambda nth: str(folder), dict(HEADER), dict(RECORD), **options)


def line(number: int, *, kept: bool = False, keyframe: bool = False, padding: int = 0) -> Line:
    fields = {
        "stream": "scheduler",
        "event_kind": "scheduler_health_snapshot" if keyframe else "selected",
        "captured_at_monotonic": 1.0 + number / 1000,
        "sequence": number,
        "captured_correlation": {"run_id": "theirs"},
        "diagnostics": {"padding": "x" * padding},
    }
    at = float(number)
    return Line(encode(fields), "scheduler", number, at, kept, keyframe)


def read(folder: Path) -> tuple[list[Event], str | None]:
    """Every event, and how it ended."""
    feed = open_journal(RunFolder(folder))
    events: list[Event] = []
    while taken := feed.poll().events:
        events += taken
    feed.close()
    return events, feed.outcome


def sequences(events: list[Event]) -> list[int]:
    return [event.sequence for event in events if event.event_kind != "recording_gap"]


def lost(events: list[Event]) -> int:
    """How many events the recording says are missing."""
    state = begin(RunInfo("r1", "demo"))
    for ordinal, event in enumerate(events, start=1):
        reduce(state, event, ordinal, RunInfo("r1", "demo"))
    return state.lost_events


def test_a_run_is_there_at_one_instant_and_its_end_frees_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    journal = journal_at(folder.path)
    assert folder.producer_lives
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    record = read_record(folder)
    assert record is not None
    assert record.state == "running"
    journal.append([line(1), line(2)])
    journal.end("failed", "ValueError", 2, 0)
    assert not folder.producer_lives
    record = read_record(folder)
    assert record is not None
    assert (record.state, record.outcome, record.message) == ("ended", "failed", "ValueError")
    events, outcome = read(folder.path)
    assert (sequences(events), outcome) == ([1, 2], "failed")


def test_a_folder_renamed_in_mid_run_takes_the_journal_along(tmp_path: Path) -> None:
    journal = journal_at(tmp_path / "run", segment_bytes=10_000)
    journal.append([line(1)])
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "run").mkdir()
    for number in range(2, 101):
        journal.append([line(number, padding=300)])
    folder = RunFolder(tmp_path / "moved")
    assert folder.producer == "alive"
    journal.end("success", "", 100, 0)
    assert RunFolder(tmp_path / "moved").producer == "dead"
    assert len(folder.segment_numbers()) > 1
    record = read_record(folder)
    assert record is not None
    assert record.state == "ended"
    assert sequences(read(folder.path)[0]) == list(range(1, 101))
    assert not list((tmp_path / "run").iterdir())


def test_a_run_is_for_its_owner_alone_and_a_copy_of_it_proves_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        journal = journal_at(tmp_path / "run")
        journal.append([line(1)])
    finally:
        os.umask(before)
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert RunFolder(tmp_path / "copy").doubt == "copy"
    journal.abandon()
    assert RunFolder(tmp_path / "copy").doubt == "copy"


def test_a_folder_in_use_is_passed_over(tmp_path: Path) -> None:
    names = {1: tmp_path / "run", 2: tmp_path / "run-2", 3: tmp_path / "run-3"}
    names[1].mkdir()
    (names[1] / "thing").touch()
    names[2].write_text("a file")
    names[3].mkdir()
    journal = RunJournal(lambda nth: str(names[nth]), dict(HEADER), dict(RECORD))
    assert journal.path == str(names[3])
    journal.abandon()


def test_segments_are_full_at_most_and_open_with_a_keyframe_where_one_comes(
    tmp_path: Path,
) -> None:
    journal = journal_at(tmp_path / "run", segment_bytes=10_000)
    for number in range(1, 201):
        journal.append([line(number, keyframe=number % 7 == 0, padding=100)])
    journal.end("success", "", 200, 0)
    folder = RunFolder(tmp_path / "run")
    numbers = folder.segment_numbers()
    assert len(numbers) > 4
    ordinal = 1
    for number in numbers:
        data = folder.segment(number).read_bytes()
        assert len(data) <= 10_000
        header, *rest = map(json.loads, data.splitlines())
        assert (header["segment"], header["first_ordinal"]) == (number, ordinal)
        assert number == 1 or rest[0]["event_kind"] == "scheduler_health_snapshot"
        ordinal += len(rest)
    assert sequences(read(folder.path)[0]) == list(range(1, 201))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.just(-1), st.integers(0, 400)), max_size=12),
    st.lists(st.integers(1, 6), min_size=1, max_size=12),
)
def test_a_disk_that_refuses_loses_no_line_unsaid(
    tmp_path_factory: pytest.TempPathFactory, answers: list[int | None], batches: list[int]
) -> None:
    """Per write: all is taken (None), an error (-1), or so many bytes. Then all is taken."""

    def write(fd: int, data: bytes) -> int:
        answer = answers.pop(0) if answers else None
        if answer == -1:
            raise OSError(errno.ENOSPC, "full")
        return os.write(fd, data if answer is None else data[:answer])

    folder = tmp_path_factory.mktemp("disk") / "run"
    journal = journal_at(folder, write=write, segment_bytes=2_000)
    number = 0
    for size in batches:
        journal.append([line(number := number + 1, kept=number % 4 == 0) for _ in range(size)])
        journal.retry_now()
    answers.clear()
    journal.end("success", "", number, 0)
    events, outcome = read(folder)
    kept = [n for n in range(1, number + 1) if n % 4 == 0]
    assert set(kept) <= set(sequences(events))
    assert sequences(events) == sorted(set(sequences(events)))
    assert len(sequences(events)) + journal.shed_events == number
    assert lost(events) == journal.shed_events
    assert outcome == "success"


# -- the bookkeeping -------------------------------------------------------------------------------


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    parent = ExecControl(None, None, "script")
    yield Control(str(parent.path))
    parent.remove()


def event(fields: dict[str, Any], run_id: str | None) -> Any:
    correlation = fields["captured_correlation"]
    if correlation is not None:
        fields = {**fields, "captured_correlation": {**correlation, "run_id": run_id}}
    return SimpleNamespace(**fields)


def is_request(fields: dict[str, Any]) -> bool:
    return "request_attempt_id" in fields


def recorded() -> dict[str, list[Event]]:
    """Events of each run, by its name."""
    result = {}
    for _, _, _, path, _, record in list_runs():
        assert record is not None
        result[record.name] = read(path)[0]
    return result


def all_of(events: list[Event]) -> list[tuple[str, int]]:
    return sorted((event.event_kind, event.sequence) for event in events)


def test_two_runs_at_once_are_told_apart(control: Control) -> None:
    recorder = Recorder(control)
    first, second = Preparation("first"), Preparation("second")
    stream = lines(storm=False, rows=2)
    for fields in stream:
        for preparation in (first, second):
            item = event(fields, preparation.dataset)
            owner = None if is_request(fields) else preparation
            recorder.take(owner, is_request(fields), item)
        recorder.write()
    recorder.close()
    expected = sorted((event["event_kind"], event["sequence"]) for event in stream)
    assert {name: all_of(events) for name, events in recorded().items()} == {
        "first": expected,
        "second": expected,
    }


def test_what_comes_before_a_run_is_of_that_run_alone(control: Control) -> None:
    """A preview checks its models before it has an id, while the run before it has just ended."""
    recorder = Recorder(control)
    stream = lines(storm=False, rows=2)
    kinds = ("request_wait_started", "request_lease_acquired", "request_lease_released")
    checks = [
        {
            **next(event for event in stream if event["event_kind"] == kind),
            "captured_correlation": None,
        }
        for kind in kinds
    ]
    for name in ("first", "second"):
        preparation = Preparation(name)
        for fields in checks:
            recorder.take(None, True, event(fields, None))
        call = next(event for event in stream if event["event_kind"] == "model_request_started")
        recorder.take(preparation, True, event({**call, "captured_correlation": None}, None))
        for fields in stream:
            recorder.take(preparation, is_request(fields), event(fields, name))
        recorder.write()
    recorder.close()
    expected = [(event["event_kind"], event["sequence"]) for event in (*stream, *checks, call)]
    assert {name: all_of(events) for name, events in recorded().items()} == {
        "first": sorted(expected),
        "second": sorted(expected),
    }


def test_a_limit_that_changes_for_all_is_told_to_each_run(control: Control) -> None:
    recorder = Recorder(control)
    stream = lines(storm=False, rows=2)
    change = next(event for event in stream if event["event_kind"] == "request_resource_registered")
    first = Preparation("first")
    for fields in stream[:60]:
        recorder.take(first, is_request(fields), event(fields, "first"))
    recorder.take(None, True, event({**change, "captured_correlation": None}, None))
    recorder.write()
    second = Preparation("second", made_at=change["captured_at_monotonic"] + 1)
    for fields in stream[:60]:
        recorder.take(second, is_request(fields), event(fields, "second"))
    recorder.write()
    recorder.close()
    actual = recorded()
    assert (len(actual["first"]), len(actual["second"])) == (61, 60)


def test_too_many_events_at_once_are_counted_and_ends_are_kept(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_QUEUED", 50)
    recorder = Recorder(control)
    preparation = Preparation("run")
    stream = [line for line in lines(storm=False, rows=3) if not is_request(line)]
    for fields in stream:
        recorder.take(preparation, False, event(fields, "run"))
    recorder.write()
    recorder.close()
    (events,) = recorded().values()
    ends = [event["sequence"] for event in stream if event["event_kind"] in ENDS]
    assert set(ends) <= set(sequences(events))
    assert len(sequences(events)) < len(stream)
    assert len(sequences(events)) + lost(events) == len(stream)


def test_a_writer_that_never_comes_fills_no_memory(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 30)
    recorder = Recorder(control)
    preparation = Preparation("run")
    stream = [line for line in lines(storm=False, rows=3) if not is_request(line)]
    for fields in stream[:60]:
        recorder.take(preparation, False, event(fields, "run"))
    recorder.write()
    for fields in stream[60:90]:
        recorder.take(preparation, False, event(fields, "run"))
    recorder.write()
    recorder.close()
    (events,) = recorded().values()
    assert sequences(events) == [*range(1, 31), *range(61, 91)]
    assert lost(events) == 30


def test_an_event_that_is_no_json_is_counted(control: Control) -> None:
    recorder = Recorder(control)
    preparation = Preparation("run")
    for fields in lines(storm=False, rows=2):
        if not is_request(fields):
            bad = fields["sequence"] == 20
            given = {**fields, "diagnostics": {"x": float("nan")}} if bad else fields
            recorder.take(preparation, False, event(given, "run"))
    recorder.write()
    recorder.close()
    (events,) = recorded().values()
    gaps = [event for event in events if event.event_kind == "recording_gap"]
    assert [(gap.diagnostics["first_lost"], gap.diagnostics["cause"]) for gap in gaps] == [
        (20, "unencodable")
    ]
    assert 20 not in sequences(events)


@pytest.mark.parametrize("thing", [None, object(), SchedulerEvent("x", 1.0, 1)])
def test_no_event_whatever_it_is_reaches_the_run_as_an_error(
    control: Control, thing: object
) -> None:
    recorder = Recorder(control)
    recorder.take(Preparation("run"), False, thing)
    recorder.take(None, True, thing)
    recorder.write()
    recorder.close()
    assert recorded() == {}
