"""What Data Designer's events say in headgate's words."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.sources.data_designer.events import EventMapper
from replay.sources.data_designer.run import RowIndex
from replay.sources.data_designer.wire import debt_key, decode, group_label
from replay.sources.feed import Feed, open_lines
from tests.fixtures.data_designer_format import generate, lines
from tests.fixtures.data_designer_work import CAPS, COLUMNS


def load(path: Path) -> tuple[list[Event], RunInfo, Feed]:
    feed = open_lines(path, growing=False)
    events: list[Event] = []
    while feed.liveness in ("waiting", "live"):
        batch = feed.poll()
        assert not batch.broken
        events.extend(batch.events)
    feed.close()
    assert feed.run is not None
    return events, feed.run, feed


@pytest.fixture(scope="module", name="storm")
def _storm(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], RunInfo]:
    path = tmp_path_factory.mktemp("storm") / "storm.jsonl"
    generate(path, storm=True)
    events, run, _ = load(path)
    return events, run


Storm = tuple[list[Event], RunInfo]


def of_kind(events: list[Event], kind: str) -> list[Any]:
    return [event for event in events if event.event_kind == kind]


@pytest.mark.parametrize("storm", [False, True])
def test_every_line_becomes_one_event_in_order_of_time(tmp_path: Path, storm: bool) -> None:
    count = generate(tmp_path / "run.jsonl", storm)

    events, _, feed = load(tmp_path / "run.jsonl")

    assert len(events) == count
    assert Counter(e.event_kind for e in events) == Counter(
        line["event_kind"] for line in lines(storm)
    )
    times = [event.captured_at_monotonic for event in events]
    assert times == sorted(times)
    assert feed.late_events == 0
    assert (feed.liveness, feed.outcome) == ("ended", "success")


def test_scheduler_sequence_stays_gapless(storm: Storm) -> None:
    events, run = storm
    numbers = [event.sequence for event in events if isinstance(event, SchedulerEvent)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert run.scheduler_sequence_semantics == "gapless"
    assert run.request_sequence_semantics == "per_producer"


def test_run_is_told_by_the_start_of_the_job(storm: Storm) -> None:
    events, run = storm
    assert (run.producer, run.records, run.row_groups) == ("data_designer", 12, 3)
    assert run.monotonic_start == events[0].captured_at_monotonic
    assert run.wall_start is None
    assert run.resource_limits["request:alpha/gen-8b"] == CAPS["alpha"]
    columns = {column.name: column for column in run.columns}
    assert list(columns) == list(COLUMNS)
    question = columns["question"]
    assert question.group == "model/alpha/gen-8b/chat/question"
    assert question.task_type == "cell"
    assert question.request_resource == "alpha/gen-8b/chat"
    assert question.resources == {"submission": 1, "llm_wait": 1, "request:alpha/gen-8b": 1}
    assert columns["topic"].task_type == "batch"
    assert columns["topic"].group == "local/default/topic"


def test_a_resumed_run_has_the_rows_that_were_left(tmp_path: Path) -> None:
    """`num_records` is then the target of the dataset: 8 rows of 20 stood there already."""
    stream = lines(storm=False)
    (started,) = [line for line in stream if line["event_kind"] == "scheduler_job_started"]
    started["diagnostics"]["num_records"] = 20
    path = tmp_path / "resumed.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in stream))

    events, run, _ = load(path)

    assert run.records == 12
    (event,) = of_kind(events, "scheduler_job_started")
    assert (event.diagnostics["records"], event.diagnostics["num_records"]) == (12, 20)


def test_more_rows_than_any_run_has_are_not_told(tmp_path: Path) -> None:
    stream = lines(storm=False)
    (started,) = [line for line in stream if line["event_kind"] == "scheduler_job_started"]
    for name in ("num_records", "row_group_total_rows", "row_group_count"):
        started["diagnostics"][name] = 2**53 + 1
    started["diagnostics"]["resource_limits"] = {"submission": 10**40, "llm_wait": 4}
    started["diagnostics"]["column_scheduling"][0]["group_weight"] = 10**400
    path = tmp_path / "huge.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in stream))

    _, run, _ = load(path)

    assert (run.records, run.row_groups, run.resource_limits) == (None, None, {"llm_wait": 4})
    assert run.columns[0].group_weight == 1.0
    assert msgspec.json.decode(msgspec.json.encode(run), type=RunInfo) == run


@pytest.mark.parametrize("storm", [False, True])
def test_edges_are_inferred_from_the_order_of_readiness(tmp_path: Path, storm: bool) -> None:
    generate(tmp_path / "run.jsonl.gz", storm)

    _, run, _ = load(tmp_path / "run.jsonl.gz")

    assert run.edges_inferred
    assert any("inferred" in phrase for phrase in run.lacks)
    edges = {column.name: set(column.depends_on) for column in run.columns}
    assert edges == {name: set(upstream) for name, (_, upstream) in COLUMNS.items()}


def test_every_cell_has_its_row(storm: Storm) -> None:
    events, _ = storm
    for kind in ("dependency_ready", "ready_enqueued"):
        rows = Counter[tuple[str, int]]()
        for event in of_kind(events, kind):
            correlation = event.captured_correlation
            if correlation.task_type == "cell":
                rows[correlation.task_column, event.diagnostics["row"]] += 1
                assert event.diagnostics["row"] // 5 == correlation.row_group
            else:
                assert "row" not in event.diagnostics
        cells = [name for name, (provider, _) in COLUMNS.items() if provider]
        assert set(rows) == {(name, row) for name in cells for row in range(12)}


def test_row_is_absent_where_the_id_can_not_be_inverted(storm: Storm) -> None:
    events, _ = storm
    cell = next(
        event.captured_correlation
        for event in events
        if event.captured_correlation and event.captured_correlation.task_type == "cell"
    )
    index = RowIndex()
    assert index.find(cell, "task-0000000000000000") is None
    index.reset(size=5, stride=5)
    assert index.find(cell, "task-0000000000000000") is None
    index.reset(size=10**12, stride=10**12)
    assert index.find(cell, "task-0000000000000000") is None


def test_attempts_count_up_and_deferred_executions_are_not_completed(storm: Storm) -> None:
    events, _ = storm
    deferred = of_kind(events, "retry_deferred")
    assert deferred
    assert {event.reason_or_result for event in deferred} == {"rate_limited"}
    for event in deferred:
        task = [e for e in events if isinstance(e, SchedulerEvent) and e.task_id == event.task_id]
        attempts = [e.diagnostics["attempt"] for e in task if e.event_kind == "ready_enqueued"]
        assert attempts == list(range(1, len(attempts) + 1))
        assert len(attempts) > event.diagnostics["attempt"]
        ends = [e.reason_or_result for e in task if e.event_kind == "task_completed"]
        assert ends == ["deferred"] * (len(attempts) - 1) + [None]


def test_ready_tasks_carry_group_weight_and_resources(storm: Storm) -> None:
    event = next(
        event
        for event in of_kind(storm[0], "ready_enqueued")
        if event.captured_correlation.task_column == "verdict"
    )
    assert event.diagnostics["group"] == "model/beta/judge-70b/chat/verdict"
    assert event.diagnostics["weight"] == CAPS["beta"]
    assert event.diagnostics["resources"]["request:beta/judge-70b"] == 1
    assert event.diagnostics["request_resource"] == "beta/judge-70b/chat"
    assert "task_group_key" not in event.diagnostics


def test_ordinary_events_carry_no_snapshot(storm: Storm) -> None:
    for event in storm[0]:
        if isinstance(event, SchedulerEvent):
            assert (event.snapshot is not None) == (event.event_kind == "scheduler_health_snapshot")


def test_health_snapshot_is_a_keyframe(storm: Storm) -> None:
    events, _ = storm
    source = [x for x in lines(True) if x["event_kind"] == "scheduler_health_snapshot"]
    assert source
    for event, line in zip(of_kind(events, "scheduler_health_snapshot"), source, strict=True):
        facts, snapshot = line["diagnostics"], event.snapshot
        assert snapshot["queued_total"] == sum(snapshot["queued_by_group"].values())
        assert snapshot["queued_total"] == facts["queued_total"]
        assert all("/" in group and "'" not in group for group in snapshot["queued_by_group"])
        assert snapshot["active_leases"] == facts["in_flight_tasks"]
        assert snapshot["leased"] == facts["leased_resources"]
        assert snapshot["available"] == facts["resources_available"]
        assert len(snapshot["row_groups"].get("in_flight", [])) == facts["active_row_groups"]
        assert snapshot["deferred"] == facts["deferred_tasks"]


def test_pressure_in_health_snapshots_has_our_names(storm: Storm) -> None:
    events, _ = storm
    resource = "beta/judge-70b/chat"
    rows = [
        (event, event.diagnostics["request_pressure"][resource])
        for event in of_kind(events, "scheduler_health_snapshot")
    ]
    assert {"effective_max", "limit", "in_flight", "waiters"} <= set(rows[0][1])
    assert min(row["limit"] for _, row in rows) < CAPS["beta"]
    cooling = [(event, row) for event, row in rows if "blocked_until" in row]
    assert cooling
    assert all(row["blocked_until"] > event.captured_at_monotonic for event, row in cooling)
    assert cooling[0][0].snapshot["aggregates"]["beta/judge-70b"]["static_cap"] == CAPS["beta"]


def test_blocked_event_names_the_short_resource_and_its_holders(storm: Storm) -> None:
    blocked = of_kind(storm[0], "admission_blocked")
    assert blocked
    for event in blocked:
        assert event.reason_or_result == "no_capacity"
        assert event.diagnostics["resources"]
        for shortage in event.diagnostics["resources"].values():
            assert shortage["free"] < shortage["needed"]
            held = sum(holder["leases"] for holder in shortage["holders"])
            assert held == shortage["limit"] - shortage["free"]
            assert all("oldest_age" not in holder for holder in shortage["holders"])


def test_waits_told_late_stand_at_their_own_time(storm: Storm) -> None:
    events, _ = storm
    source = [(x["event_kind"], x["captured_at_monotonic"]) for x in lines(True)]
    assert source != sorted(source, key=lambda item: item[1])
    waits = [
        event.diagnostics["waited_seconds"] for event in of_kind(events, "request_wait_completed")
    ]
    assert max(waits) > 0.5
    reasons = Counter(e.diagnostics["reason"] for e in of_kind(events, "request_wait_started"))
    assert reasons["none"] > 0
    assert reasons["cooldown"] > 0


def test_limit_changes_say_why(storm: Storm) -> None:
    events, _ = storm
    decreased = of_kind(events, "request_limit_decreased")
    assert decreased
    for event in decreased:
        assert event.reason_or_outcome == "rate_limited"
        assert event.diagnostics["current"] < event.diagnostics["previous"]
        assert event.diagnostics["blocked_until"] > event.captured_at_monotonic
    cuts = [event.diagnostics["cut"] for event in of_kind(events, "request_rate_limited")]
    assert sum(cuts) == len(decreased)
    increased = of_kind(events, "request_limit_increased")
    assert {event.reason_or_outcome for event in increased} == {"successes"}


def test_request_events_belong_to_their_task(storm: Storm) -> None:
    events, _ = storm
    columns = {
        event.task_execution_id: event.captured_correlation.task_column
        for event in of_kind(events, "worker_spawned")
    }
    attempts = [e for e in events if isinstance(e, RequestEvent) and e.request_attempt_id]
    assert attempts
    for event in attempts:
        correlation = event.captured_correlation
        assert correlation is not None
        assert columns[correlation.task_execution_id] == correlation.task_column


@pytest.mark.parametrize(
    ("word", "outcome", "error_type"),
    [
        ("success", "success", None),
        ("rate_limit", "rate_limited", "rate_limit"),
        ("timeout", "provider_timeout", "timeout"),
        ("internal_server", "provider_failure", "internal_server"),
        ("a_kind_to_come", "provider_failure", "a_kind_to_come"),
    ],
)
def test_outcomes_of_calls_have_our_words(word: str, outcome: str, error_type: str | None) -> None:
    line = next(
        line for line in lines(storm=True) if line["event_kind"] == "model_request_completed"
    )
    line["diagnostics"]["outcome"] = word
    event = EventMapper(RowIndex()).map(decode(json.dumps(line).encode()))
    assert isinstance(event, RequestEvent)
    assert event.reason_or_outcome == outcome
    assert event.diagnostics.get("error_type") == error_type


@pytest.mark.parametrize("kind", ["ready_enqueued", "request_wait_started"])
def test_lines_that_say_the_same_have_diagnostics_of_their_own(kind: str) -> None:
    line = next(line for line in lines(storm=True) if line["event_kind"] == kind)
    mapper = EventMapper(RowIndex())
    first, late, last = (
        mapper.map(decode(json.dumps(line).encode()), late=late) for late in (False, True, False)
    )
    assert late.diagnostics == {**first.diagnostics, "late": True}
    assert last == first


def test_what_is_wrong_with_diagnostics_is_told_with_its_place() -> None:
    line = lines(storm=True)[0] | {"diagnostics": [1]}
    with pytest.raises(msgspec.ValidationError, match=r"got `array` - at `\$\.diagnostics`"):
        decode(json.dumps(line).encode())


def test_registration_tells_caps_by_alias(storm: Storm) -> None:
    event = of_kind(storm[0], "request_resource_registered")[0]
    assert event.diagnostics["static_cap"] == CAPS["alpha"]
    assert event.diagnostics["raw_caps"] == {"alpha": CAPS["alpha"]}
    assert event.diagnostics["limit"] == CAPS["alpha"]


def test_scheduler_stream_alone_says_what_it_lacks(tmp_path: Path, storm: Storm) -> None:
    generate(tmp_path / "run.jsonl", storm=True, requests=False)
    events, run, _ = load(tmp_path / "run.jsonl")
    assert all(isinstance(event, SchedulerEvent) for event in events)
    phrase = "request stream (attempts, waits, leases)"
    assert phrase in run.lacks
    assert phrase not in storm[1].lacks


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("{'kind': 'local', 'identity': ['local', 'default', 'a']}", "local/default/a"),
        ("TaskGroupKey(kind='local', identity=('local', 'default', 'a'))", "local/default/a"),
        ("TaskGroupKey(kind='local', identity=('local',))", "local"),
        ("""{'kind': 'local', 'identity': ["it's", 'b\\'"c']}""", "it's/b'\"c"),
        (r"{'kind': 'local', 'identity': ['\x41', '\\']}", "A/\\"),
        (r"{'kind': 'local', 'identity': ['\x1b[31m']}", "\ufffd[31m"),
    ],
)
def test_group_keys_written_as_python_are_read(key: str, label: str) -> None:
    assert group_label(key) == label
    assert debt_key(f"[{key}, 'submission']") == (label, "submission")
    assert debt_key(f"({key}, 'submission')") == (label, "submission")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "__import__('os').system('true')",
        "{'kind': 'local', 'identity': [__import__('os')]}",
        "{'kind': 'local', 'identity': ['a']} or exit()",
        "{'kind': 'local', 'identity': []}",
        "{'kind': 'local', 'identity': ['a]}",
        "[" * 3_000,
        "{'kind': '" + "\\" * 3_001 + "', 'identity': ['a']}",
        "'" * 3_999,
    ],
)
def test_what_is_no_group_key_stays_text(key: str) -> None:
    assert group_label(key) == key
    assert debt_key(key) is None
    assert debt_key(f"[{key}, 'submission']") is None
