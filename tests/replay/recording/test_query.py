"""SQL on a recording: what the views say, and that nothing else can be reached."""

from __future__ import annotations

import math
import os
import pickle
import re
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from console.cli.sql import describe_views
from engine.events import Event, JournalHeader, RunInfo, SchedulerEvent, encode_lines
from engine.events.run_folder import RunFolder
from replay.recording import query_process
from replay.recording.query import QueryError, QueryProcess, RecordingQuery
from replay.recording.query_protocol import Ask, More, Open, encode_rows, rows_of
from replay.recording.reader import open_recording
from replay.recording.views import (
    ALL_VIEWS,
    RUN,
    VIEWS,
    Column,
    RunColumn,
    View,
    in_order_of_creation,
)
from replay.runs.materialize import materialize
from replay.runs.recorder import finish_import
from replay.sources.base import SourceError
from replay.state.waits import waits
from tests.e2e.program import headgate
from tests.plans import generate
from tests.replay.diagnosis.stream import ALPHA, QUESTION, Stream

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]


@pytest.fixture(params=[True, False], ids=["whole", "lost"])
def recording(request: pytest.FixtureRequest, play: Play, write_journal: WriteJournal) -> Path:
    """A run that ended, or one that broke off in the middle of everything."""
    run, events = play(5, row_groups=4)
    if not request.param:
        events = events[: len(events) * 2 // 3]
    folder = write_journal(run, events, ended=request.param)
    finish_import(folder)
    return folder.recording


@pytest.fixture
def query(recording: Path) -> Iterator[RecordingQuery]:
    query = RecordingQuery(recording)
    yield query
    query.close()


@pytest.fixture(scope="module")
def of_one_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingQuery]:
    path = tmp_path_factory.mktemp("run") / "run.jsonl"
    event = SchedulerEvent("queue_drained", 1.0, 1)
    path.write_bytes(encode_lines([JournalHeader(RunInfo("run-1", "small"), 1, 1), event]))
    with materialize(path, lambda _: None) as recording:
        query = RecordingQuery(recording)
        yield query
        query.close()


def rows(query: RecordingQuery, sql: str) -> list[dict[str, Any]]:
    columns, result = query.run(sql)
    return [dict(zip([column.name for column in columns], row, strict=True)) for row in result]


def close(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return math.isclose(left, right, abs_tol=1e-9)


def test_every_view_has_the_columns_and_types_that_are_declared(query: RecordingQuery) -> None:
    names = [view.name for view in ALL_VIEWS]
    assert {"tasks", "requests", "leases", "ceilings", "stalls", "blame", "run"} <= {*names}
    assert len(names) == len({*names})
    for view in ALL_VIEWS:
        described = rows(query, f'DESCRIBE "{view.name}"')
        real = [(column["column_name"], column["column_type"]) for column in described]
        assert real == [(column.name, column.type) for column in view.columns], view.name


def test_a_column_is_added_by_its_declaration_alone(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the view, in `--views` and in the plan without another line of code."""
    added = Column(
        "doubled", "DOUBLE", "s", "ready_queue_wait twice", "2 * gap(enqueued_at, selected_at)"
    )
    run_added = RunColumn("pairs", "BIGINT", "count", "half", lambda facts: facts.event_count // 2)
    views = tuple(
        view._replace(computed=(*view.computed, added)) if view.name == "leases" else view
        for view in VIEWS
    )
    run = RUN._replace(columns=(*RUN.columns, run_added))
    for module in (
        "replay.recording.query_process",
        "replay.recording.views",
        "tests.plans.generate",
    ):
        monkeypatch.setattr(f"{module}.ALL_VIEWS", (*views, run))
    monkeypatch.setattr(query_process, "VIEWS", views)
    monkeypatch.setattr(query_process, "RUN", run)

    spill = tmp_path / "spill"
    engine = query_process.Engine(Open(os.fsencode(recording), 1 << 28, 1 << 30), str(spill))
    engine.answer(Ask("SELECT sum(doubled), 2 * sum(ready_queue_wait) FROM leases", False))
    [(doubled, expected)] = rows_of(engine.answer(More())[1:])
    assert expected > 0
    assert close(doubled, expected)
    engine.answer(Ask("SELECT pairs, events FROM run", False))
    [(pairs, events)] = rows_of(engine.answer(More())[1:])
    assert pairs == events // 2 > 0

    described = describe_views()
    assert re.search(r"^  doubled +double +s +ready_queue_wait twice$", described, re.MULTILINE)
    assert re.search(r"^  pairs +bigint +count +half$", described, re.MULTILINE)
    plan = generate.sql_views()
    assert "| `doubled` | DOUBLE | s | ready_queue_wait twice |" in plan
    assert "| `pairs` | BIGINT | count | half |" in plan


def test_a_view_is_made_after_those_that_it_reads() -> None:
    def made(*views: View) -> list[str]:
        return [view.name for view in in_order_of_creation(views)]

    base = VIEWS[0]._replace(name="base", reads=())
    above, top = (
        base._replace(name="above", reads=("base",)),
        base._replace(name="top", reads=("above",)),
    )
    assert made(top, base, above) == ["base", "above", "top"]


def test_stalls_say_when_they_free_themselves_in_the_time_of_the_run(
    query: RecordingQuery, recording: Path
) -> None:
    reader = open_recording(recording)
    t0 = reader.bounds().t0
    reported = [
        (row.start - t0, row.context.expected_release, row.context.waiting)
        for row in reader.verdicts()
    ]
    reader.close()
    table = rows(query, "SELECT started_at, expected_release, waiting FROM stalls")
    assert any(release is not None for _, release, _ in reported)
    for row, (start, release, waiting) in zip(table, reported, strict=True):
        assert close(row["started_at"], start)
        assert close(row["expected_release"], None if release is None else release - t0)
        assert row["waiting"] == waiting


def test_leases_say_what_the_one_joined_timeline_says(
    query: RecordingQuery, recording: Path
) -> None:
    reader = open_recording(recording)
    kept, attempts = reader.bars(-math.inf, math.inf, 100_000)
    t0 = reader.bounds().t0
    reader.close()
    actual = {row["lease_id"]: row for row in rows(query, "SELECT * FROM leases")}
    assert actual.keys() == {lease.lease_id for lease in kept}
    checked = 0
    for lease in kept:
        row = actual[lease.lease_id]
        mine = [
            attempt
            for attempt in attempts
            if attempt.execution_id == lease.execution_id and attempt.execution_id is not None
        ]
        assert row["requests"] == len(mine)
        assert close(row["acquired_at"], lease.acquired_at - t0)
        if lease.released_at is None or any(lease.released_at is None for lease in mine):
            assert row["own_time"] is None
            continue
        expected = waits(lease, mine, math.nan)
        for name in ("ready_queue_wait", "task_admission_wait", "ready_to_lease_gap"):
            assert close(row[name], getattr(expected, name)), name
        for name in ("request_wait", "provider_time", "own_time"):
            assert close(row[name], getattr(expected, name)), name
        checked += 1
    assert checked > 5


def test_a_wait_that_was_given_up_counts_as_in_the_joined_timeline(
    write_journal: WriteJournal,
) -> None:
    stream = Stream()
    stream.register(ALPHA, 1)
    work = stream.wait(stream.begin(QUESTION, 0))
    stream.at(5.0).request("request_wait_timeout", ALPHA, work, "queue_timeout")
    work.attempt = ""
    stream.at(6.0).finish(work)
    stream.end()
    folder = write_journal(stream.run, stream.events)
    finish_import(folder)
    with closing(RecordingQuery(folder.recording)) as query:
        [lease] = rows(query, "SELECT request_wait, provider_time, own_time FROM leases")
        [request] = rows(query, "SELECT request_wait FROM requests")
    assert lease == {"request_wait": 5.0, "provider_time": 0.0, "own_time": 1.0}
    assert request["request_wait"] == 5.0


def test_tasks_are_every_cell_that_became_ready_with_the_sum_of_its_leases(
    query: RecordingQuery,
) -> None:
    tasks = {row["task_id"]: row for row in rows(query, "SELECT * FROM tasks")}
    ready = rows(query, "SELECT DISTINCT task_id FROM events WHERE kind = 'dependency_ready'")
    assert tasks.keys() == {row["task_id"] for row in ready}
    leases = rows(query, "SELECT * FROM leases")
    for task_id, task in tasks.items():
        mine = [row for row in leases if row["task_id"] == task_id]
        assert task["leases"] == len(mine)
        if not mine:
            assert task["result"] == "never leased"
            assert task["held"] is None
        elif any(row["released_at"] is None for row in mine):
            assert (task["result"], task["released_at"]) == ("open", None)
        else:
            assert task["result"] == max(mine, key=lambda row: row["acquired_ordinal"])["result"]
            assert close(task["held"], sum(row["held"] for row in mine))


def test_requests_name_their_task(query: RecordingQuery) -> None:
    lost = rows(
        query,
        "SELECT attempt_id FROM requests r WHERE NOT EXISTS (FROM leases l WHERE"
        " l.execution_id = r.execution_id AND l.task_id = r.task_id)",
    )
    assert lost == []
    assert rows(query, "SELECT count(*) AS n FROM requests")[0]["n"] > 5


def test_ceilings_and_blame_are_the_roll_up_by_second(query: RecordingQuery) -> None:
    completed = rows(query, "SELECT sum(completed)::BIGINT AS n FROM ceilings")[0]["n"]
    counted = rows(
        query,
        "SELECT count(*) AS n FROM events WHERE kind = 'model_request_completed'"
        " AND reason = 'success'",
    )
    assert completed == counted[0]["n"]
    assert rows(query, "SELECT * FROM ceilings WHERE ceiling NOT BETWEEN 1 AND effective_max") == []
    assert {row["scope"] for row in rows(query, "SELECT DISTINCT scope FROM blame")} == {
        "cell",
        "run",
    }


def test_run_is_one_row(query: RecordingQuery, recording: Path) -> None:
    reader = open_recording(recording)
    bounds, status = reader.bounds(), reader.status()
    reader.close()
    (run,) = rows(query, "SELECT * FROM run")
    assert (run["run_id"], run["name"], run["events"]) == ("run-1", "test", bounds.last_ordinal)
    assert (run["outcome"], run["lost"]) == (status.outcome, status.lost)
    assert close(run["seconds"], bounds.t1 - bounds.t0)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_text('http://127.0.0.1:9/x')",
        "COPY events TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "ATTACH '{folder}/out.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA enable_profiling",
        "CREATE TABLE mine AS SELECT 1",
        "DELETE FROM recording.events",
        "DROP VIEW tasks",
        "CHECKPOINT",
        "SELECT getenv('HOME')",
        "SELECT * FROM a_python_name",
        "SELECT 1; SELECT 2",
        "SELECT nothing FROM tasks",
        "SELEC",
        "",
    ],
)
def test_what_is_no_reading_of_the_recording_is_refused_in_one_sentence(
    of_one_run: RecordingQuery, tmp_path: Path, sql: str
) -> None:
    query = of_one_run
    a_python_name = [1]
    secret = tmp_path / "secret.csv"
    secret.write_text("do,not,read\n")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(QueryError) as caught:
        list(query.run(sql.format(file=secret, folder=tmp_path))[1])
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith((".", ")"))
    assert caught.value.exit_code == 2
    assert sorted(os.listdir(tmp_path)) == before
    assert a_python_name


def test_who_misses_a_view_is_told_which_there_are(of_one_run: RecordingQuery) -> None:
    with pytest.raises(QueryError) as caught:
        of_one_run.run("SELECT * FROM verdicts")
    names = "tasks, requests, spending, leases, ceilings, stalls, blame, series, events, run"
    assert str(caught.value) == f"There is no view verdicts. There are: {names}."


@pytest.mark.parametrize("sql", ["FROM stalls", "DESCRIBE tasks", "EXPLAIN SELECT 1", "VALUES (1)"])
def test_every_way_to_read_is_taken(of_one_run: RecordingQuery, sql: str) -> None:
    columns, _ = of_one_run.run(sql)
    assert columns


def test_columns_of_one_name_are_told_apart(of_one_run: RecordingQuery) -> None:
    columns, result = of_one_run.run("SELECT 1 AS a, 2 AS a, 3 AS a_2")
    assert [column.name for column in columns] == ["a", "a_2", "a_2_2"]
    assert list(result) == [(1, 2, 3)]


@pytest.mark.parametrize("name", ["it's one.duckdb", "[x]*.duckdb", "sqlite:x.duckdb"])
@pytest.mark.parametrize("logged", [True, False], ids=["logged", "whole"])
def test_a_recording_may_have_any_name_and_a_log(
    play: Play,
    write_journal: WriteJournal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    logged: bool,
) -> None:
    folder = write_journal(*play(5))
    finish_import(folder)
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / name
    with duckdb.connect(str(folder.recording)) as connection:
        connection.execute("SET checkpoint_threshold = '1GB'")
        connection.execute("UPDATE meta SET value = 'logged' WHERE key = 'versions'")
        if not logged:
            connection.execute("CHECKPOINT")
        shutil.copy(folder.recording, path)
        if logged:
            shutil.copy(f"{folder.recording}.wal", f"{path}.wal")
    monkeypatch.chdir(path.parent)
    for place in (path, Path(name)):
        query = RecordingQuery(place)
        table = rows(query, "SELECT value FROM recording.meta WHERE key = 'versions'")
        query.close()
        assert table == [{"value": "logged"}]


def test_a_name_that_duckdb_can_not_open_is_told(recording: Path) -> None:
    path = recording.with_name("what?.duckdb")
    shutil.copy(recording, path)
    for open_it in (open_recording, RecordingQuery):
        with pytest.raises(SourceError, match="rename it"):
            open_it(path)


def test_rows_in_great_number_and_of_great_size_come_through(of_one_run: RecordingQuery) -> None:
    _, result = of_one_run.run("SELECT range, repeat('x', 100000) FROM range(3000)")
    assert sum(number == nth and len(text) == 100_000 for nth, (number, text) in enumerate(result))
    _, result = of_one_run.run("SELECT 2::HUGEINT ** 3, 9::DECIMAL(9, 2), uuid(), 'a'::BLOB, now()")
    with pytest.raises(QueryError, match="cast them to TIMESTAMP"):
        list(result)


def test_the_rows_of_a_query_end_with_the_next_one(of_one_run: RecordingQuery) -> None:
    _, first = of_one_run.run("SELECT range FROM range(5000)")
    assert next(first) == (0,)
    _, second = of_one_run.run("SELECT 7")
    assert list(second) == [(7,)]
    assert len(list(first)) < 1_000


def test_an_interrupt_is_told_whatever_the_query_does(recording: Path) -> None:
    query = RecordingQuery(recording)
    _, result = query.run("SELECT range FROM range(1000000000)")
    next(result)
    query.interrupt()
    with pytest.raises(QueryError, match="interrupted"):
        list(result)
    query.close()


def test_a_process_that_died_is_told(recording: Path) -> None:
    with QueryProcess() as process:
        query = RecordingQuery(recording, process)
        os.kill(process.pid, signal.SIGSEGV)
        with pytest.raises(SourceError, match="signal 11") as caught:
            list(query.run("SELECT 1")[1])
        assert caught.value.exit_code == 4


def test_only_values_are_taken_from_the_other_process() -> None:
    assert rows_of(encode_rows([(1, Decimal(2), uuid.UUID(int=3), b"x")])[1:])[0][1] == 2
    with pytest.raises(pickle.UnpicklingError, match="no value of a query"):
        rows_of(pickle.dumps([os.system]))


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        RecordingQuery(tmp_path / "none.duckdb")


def test_every_view_tells_its_time_in_utc_and_of_the_reader(
    query: RecordingQuery,
) -> None:
    (run,) = rows(query, "SELECT * FROM run")
    began = datetime.fromtimestamp(run["wall_start"], UTC).replace(tzinfo=None)
    assert run["utc_time"] == began
    assert run["local_time"] == datetime.fromtimestamp(run["wall_start"])
    (last,) = rows(query, "SELECT t, utc_time, utc(t) AS same FROM events ORDER BY t DESC LIMIT 1")
    assert last["utc_time"] == last["same"]
    assert abs(last["utc_time"] - began - timedelta(seconds=last["t"])) < timedelta(milliseconds=1)
    for view in VIEWS:
        wrong = rows(
            query,
            f"SELECT * FROM {view.name} WHERE utc_time IS DISTINCT FROM utc({view.time_column})"
            f" OR local_time IS DISTINCT FROM local({view.time_column})",
        )
        assert wrong == []


def test_local_time_minds_the_summer(tmp_path: Path) -> None:
    """In a process of its own: the time zone is that of the process."""
    summer = 1_711_846_800.0  # clocks in Berlin go from 02:00 to 03:00
    events = [SchedulerEvent("queue_drained", at, n + 1) for n, at in enumerate((0.0, 3_600.0))]
    header = JournalHeader(RunInfo("run-1", "small", wall_start=summer - 1_800.0), 1, 1)
    (tmp_path / "run.jsonl").write_bytes(encode_lines([header, *events]))
    query = "SELECT utc_time, local_time FROM events"
    zone = {"TZ": "Europe/Berlin"}
    done = headgate("sql", "run.jsonl", "--csv", query, cwd=tmp_path, env=zone)
    assert done.stdout.splitlines()[1:] == [
        "2024-03-31T00:30:00,2024-03-31T01:30:00",
        "2024-03-31T01:30:00,2024-03-31T03:30:00",
    ]


def test_a_run_without_wall_time_has_no_timestamps(of_one_run: RecordingQuery) -> None:
    (event,) = rows(of_one_run, "SELECT t, utc_time, local_time, utc(t) AS utc FROM events")
    assert list(event.values()) == [0.0, None, None, None]
