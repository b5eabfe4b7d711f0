"""The trace keeps to the trace-event format, and says what the recording says."""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from replay.export.trace import FIRST_COLUMN, RUN, write_trace
from replay.recording.query import RecordingQuery

Events = list[dict[str, Any]]


@pytest.fixture
def trace(query: RecordingQuery) -> dict[str, Any]:
    file = io.BytesIO()
    write_trace(query, file)
    loaded: dict[str, Any] = json.loads(file.getvalue())
    return loaded


def rows(query: RecordingQuery, sql: str) -> list[Any]:
    return list(query.run(sql)[1])


def slices(trace: dict[str, Any], category: str) -> Events:
    return [event for event in trace["traceEvents"] if event.get("cat") == category]


def test_every_event_is_one_of_the_format(trace: dict[str, Any]) -> None:
    assert {event["ph"] for event in trace["traceEvents"]} == set("XMCi")
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str)
        assert event["name"]
        for number in ("pid", "tid"):
            assert isinstance(event[number], int)
        assert isinstance(event["ts"], (int, float))
        assert isinstance(event.get("args", {}), dict)
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert event["ts"] >= 0
        elif event["ph"] == "i":
            assert event["s"] in "gpt"
        elif event["ph"] == "C":
            assert event["args"]
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
        else:
            assert event["name"] in (
                "process_name",
                "process_sort_index",
                "thread_name",
                "thread_sort_index",
            )


def test_slices_of_a_thread_nest(trace: dict[str, Any]) -> None:
    threads: dict[tuple[int, int], Events] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append(event)
    deepest = 0
    for thread in threads.values():
        thread.sort(key=lambda event: (event["ts"], -event["dur"]))
        open_ends: list[float] = []
        for event in thread:
            while open_ends and open_ends[-1] <= event["ts"] + 1e-3:
                open_ends.pop()
            end = event["ts"] + event["dur"]
            assert not open_ends or end <= open_ends[-1] + 1e-3
            open_ends.append(end)
            deepest = max(deepest, len(open_ends))
    assert deepest == 3


def test_every_lease_and_attempt_is_there_once(
    trace: dict[str, Any], query: RecordingQuery
) -> None:
    leases = Counter(event["args"]["lease"] for event in slices(trace, "task lease"))
    assert leases == Counter(row[0] for row in rows(query, "SELECT lease_id FROM leases"))
    attempts = Counter(event["args"]["attempt"] for event in slices(trace, "request attempt"))
    assert attempts == Counter(row[0] for row in rows(query, "SELECT attempt_id FROM requests"))
    by_lease = {event["args"]["lease"]: event for event in slices(trace, "task lease")}
    for lease_id, start, held in rows(query, "SELECT lease_id, acquired_at, held FROM leases"):
        event = by_lease[lease_id]
        assert event["ts"] == pytest.approx(start * 1e6, abs=0.01)
        if held is None:
            assert event["args"]["end"] == "not known"
        else:
            assert event["dur"] == pytest.approx(held * 1e6, abs=0.01)


def test_threads_and_processes_have_names(trace: dict[str, Any], query: RecordingQuery) -> None:
    named = {
        event["args"]["name"]: event["pid"]
        for event in trace["traceEvents"]
        if event["name"] == "process_name"
    }
    columns = {f"column {row[0]}" for row in rows(query, "SELECT DISTINCT task_column FROM leases")}
    assert columns <= named.keys()
    used = {(event["pid"], event["tid"]) for event in trace["traceEvents"] if event["ph"] == "X"}
    lanes = {
        (event["pid"], event["tid"])
        for event in trace["traceEvents"]
        if event["name"] == "thread_name"
    }
    assert used == lanes
    assert any(process >= FIRST_COLUMN for process, _ in used)


def test_counters_are_the_series_and_fall_back_to_zero(
    trace: dict[str, Any], query: RecordingQuery
) -> None:
    shown: dict[str, list[Any]] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "C":
            assert event["pid"] == RUN
            shown[event["name"]].append(event)
    for (resource,) in rows(query, "SELECT DISTINCT resource FROM ceilings WHERE ceiling > 0"):
        actual = shown[f"ceiling {resource}"]
        limits = rows(
            query,
            "SELECT ceiling FROM ceilings WHERE ceiling IS NOT NULL "
            f"AND resource = '{resource}' ORDER BY t",
        )
        assert [item["args"]["limit"] for item in actual if item["args"]["limit"]] == [
            row[0] for row in limits
        ]
    queues = [name for name in shown if name.startswith("queue depth ")]
    assert queues
    for name in queues:
        times = [event["ts"] for event in shown[name]]
        assert times == sorted(times)


def test_each_429_is_an_instant(trace: dict[str, Any], query: RecordingQuery) -> None:
    instants = slices(trace, "request_rate_limited")
    (counted,) = rows(query, "SELECT count(*) FROM events WHERE kind = 'request_rate_limited'")
    assert len(instants) == counted[0]
