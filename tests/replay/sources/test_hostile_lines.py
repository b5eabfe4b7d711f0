"""Lines of JSON that are broken, gigantic or hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.events import (
    SchedulerEvent,
)
from replay.sources import line_reader
from tests.fixtures.data_designer_format import lines as simulated
from tests.replay.sources.json_lines import (
    Open,
    drain,
    encoded,
)

HOSTILE = [
    b"not json",
    b"[]",
    b"17",
    b'{"event_kind": 7}',
    b'{"event_kind": "selected"}',
    b'{"event_kind": "selected", "captured_at_monotonic": "soon", "sequence": 1}',
    b'{"event_kind": "selected", "captured_at_monotonic": 1e999, "sequence": 1}',
    b'{"event_kind": "selected", "captured_at_monotonic": 1, "sequence": "1"}',
    b'{"event_kind": "selected", "captured_at_monotonic": 1, "sequence": 1, "diagnostics": []}',
    b'{"event_kind": "selected", "captured_at_monotonic": 1e300, "sequence": 1}',
    b'{"event_kind": "selected", "captured_at_monotonic": -1, "sequence": 1}',
    b'{"event_kind": "selected", "captured_at_monotonic": 1, "sequence": %d}' % 10**30,
    b'{"event_kind": "selected", "captured_at_monotonic": 1, "sequence": 1, '
    b'"captured_correlation": {"run_id": "x", "row_group": 99999999999}}',
    b"[" * 100_000,
    b'{"event_kind": ' + b'{"a":' * 50_000,
]


@pytest.mark.parametrize("line", HOSTILE)
def test_broken_line_is_reported_and_skipped(tmp_path: Path, open_feed: Open, line: bytes) -> None:
    source = simulated(storm=False)
    data = encoded(source[:100]) + line + b"\n" + encoded(source[100:])
    (tmp_path / "run.jsonl").write_bytes(data)
    feed = open_feed(tmp_path / "run.jsonl", growing=False)

    events, broken = drain(feed)

    assert len(events) == len(source)
    assert [problem.line_number for problem in broken] == [101]
    assert len(broken[0].problem) < 200
    assert feed.outcome == "success"


WRONG: list[dict[str, Any]] = [
    {"task_group_key": 7, "resource_request": "x"},
    {"task_group_key": {"kind": None, "identity": None}, "resource_request": {"a": "b", "c": None}},
    {"task_group_key": {"identity": [[], {}, 1]}, "resource_request": {"submission": -1}},
    {"reasons": [1], "queued_count": "many"},
    {"reasons": {"no_capacity": "one"}},
    {"request_pressure": 3, "queued_by_group": [], "active_row_groups": {}},
    {"request_pressure": {"resources": {"a": 1}, "provider_models": {"b": []}}},
    {"request_pressure": {"resources": {"a/b": {"blocked": True, "current_limit": []}}}},
    {"row_group": "first", "row_group_size": [], "surviving_rows": "all"},
    {"column_scheduling": [1, {"column": None, "resource_request": 3}], "buffer_size": "x"},
    {"column_scheduling": {"a": 1}, "resource_limits": 4},
    {"provider_model": [], "outcome": 5, "alias": {}, "max_parallel_requests": "x"},
]


@pytest.mark.parametrize("facts", WRONG)
def test_wrong_types_inside_diagnostics_never_stop_the_reading(
    tmp_path: Path, open_feed: Open, facts: dict[str, Any]
) -> None:
    source = simulated(storm=True)
    for event in source:
        event["diagnostics"] = facts
    (tmp_path / "run.jsonl").write_bytes(encoded(source))

    events, broken = drain(open_feed(tmp_path / "run.jsonl", growing=False))

    assert len(events) == len(source)
    assert not broken


def test_gigantic_line_is_skipped_in_bounded_memory(
    tmp_path: Path, open_feed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_reader, "MAX_LINE", 10_000)
    source = simulated(storm=False)
    huge = b'{"event_kind": "' + b"x" * 3_000_000 + b'"}\n'
    short = b'{"event_kind": "' + b"x" * 11_000 + b'"}\n'
    data = encoded(source[:10]) + huge + short + encoded(source[10:])
    (tmp_path / "run.jsonl").write_bytes(data)

    events, broken = drain(open_feed(tmp_path / "run.jsonl", growing=False))

    assert len(events) == len(source)
    assert [problem.line_number for problem in broken] == [11, 12]
    assert all("longer than" in problem.problem for problem in broken)


def test_escape_codes_reach_no_screen(tmp_path: Path, open_feed: Open) -> None:
    source = simulated(storm=False)
    nasty = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\nline"
    for event in source[20:60]:
        event["event_kind"] = nasty
        event["task_id"] = nasty
        event["diagnostics"] = {nasty: [{"deep": nasty}]}
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in source)
    (tmp_path / "run.jsonl").write_text(text, encoding="utf-8")

    events, broken = drain(open_feed(tmp_path / "run.jsonl", growing=False))

    assert len(events) == len(source)
    assert not broken
    shown = "".join(repr(msgspec.to_builtins(event)) for event in events)
    assert "evil line" in shown
    assert not any(bad in shown for bad in ("\\x1b", "\\x9b", "\\u202e", "\\x07", "\\n"))


def test_unknown_kinds_and_fields_are_kept(tmp_path: Path, open_feed: Open) -> None:
    source = simulated(storm=True)
    requests = [event for event in source if "request_attempt_id" in event]
    requests[3] |= {"event_kind": "request_moon_phase", "future": {"x": 1}}
    requests[3]["diagnostics"] = {"phase": "full"}
    tasks = [event for event in source if event["event_kind"] == "selected"]
    tasks[0] |= {"event_kind": "task_moon_phase"}
    tasks[0]["diagnostics"] = {"phase": "new"}
    (tmp_path / "run.jsonl").write_bytes(encoded(source))

    events, _ = drain(open_feed(tmp_path / "run.jsonl", growing=False))

    kinds = {event.event_kind: event for event in events}
    assert not isinstance(kinds["request_moon_phase"], SchedulerEvent)
    assert kinds["request_moon_phase"].diagnostics == {"phase": "full"}
    assert isinstance(kinds["task_moon_phase"], SchedulerEvent)
    assert kinds["task_moon_phase"].diagnostics == {"phase": "new"}
