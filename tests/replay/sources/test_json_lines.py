"""JSON Lines files: finished, growing, compressed, torn, truncated, replaced, hostile."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.events import (
    ColumnInfo,
    Event,
    JournalEnd,
    JournalHeader,
    RunInfo,
    SchedulerEvent,
    encode_lines,
)
from replay.sources import dialects, line_reader
from replay.sources.base import BrokenLine, SourceError
from replay.sources.feed import Feed, open_lines
from replay.sources.file_source import SILENCE_SECONDS
from tests.fixtures.data_designer_format import generate
from tests.fixtures.data_designer_format import lines as simulated


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Open = Callable[..., Feed]


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="open_feed")
def _open_feed(clock: Clock) -> Iterator[Open]:
    feeds = []

    def open_feed(path: Path, growing: bool | None = None) -> Feed:
        feeds.append(open_lines(path, growing, clock=clock))
        return feeds[-1]

    yield open_feed
    for feed in feeds:
        feed.close()


def encoded(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def drain(feed: Feed) -> tuple[list[Event], list[BrokenLine]]:
    events: list[Event] = []
    broken: list[BrokenLine] = []
    while True:
        batch = feed.poll()
        events += batch.events
        broken += batch.broken
        if not batch.events:
            return events, broken


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def identities(events: list[Event]) -> list[tuple[str, float, int]]:
    return [(e.event_kind, e.captured_at_monotonic, e.sequence) for e in events]


# finished files


def test_compressed_and_plain_files_say_the_same(tmp_path: Path, open_feed: Open) -> None:
    generate(tmp_path / "run.jsonl", storm=True)
    generate(tmp_path / "run.jsonl.gz", storm=True)

    plain, _ = drain(open_feed(tmp_path / "run.jsonl", growing=False))
    packed, _ = drain(open_feed(tmp_path / "run.jsonl.gz"))

    assert plain == packed


def test_compressed_file_of_several_members(tmp_path: Path, open_feed: Open) -> None:
    data = encoded(simulated(storm=False))
    half = data.index(b"\n", len(data) // 2) + 1
    path = tmp_path / "run.jsonl.gz"
    path.write_bytes(gzip.compress(data[:half]) + gzip.compress(data[half:]))

    events, broken = drain(open_feed(path))

    assert len(events) == data.count(b"\n")
    assert not broken


def test_compressed_file_that_ends_early_gives_what_it_has(tmp_path: Path, open_feed: Open) -> None:
    data = gzip.compress(encoded(simulated(storm=False)))
    (tmp_path / "run.jsonl.gz").write_bytes(data[: len(data) // 2])
    feed = open_feed(tmp_path / "run.jsonl.gz")

    events, broken = drain(feed)

    assert events
    assert len(broken) == 1
    assert "ends too early" in broken[0].problem
    assert feed.liveness == "lost"


def test_batches_respect_the_limit_and_ordinals_run_on(tmp_path: Path, open_feed: Open) -> None:
    count = generate(tmp_path / "run.jsonl", storm=True)
    feed = open_feed(tmp_path / "run.jsonl", growing=False)
    expected = 1
    while feed.liveness in ("waiting", "live"):
        assert feed.outcome is None
        batch = feed.poll(100)
        assert len(batch.events) <= 100
        assert batch.first_ordinal == expected
        expected += len(batch.events)
    assert expected == count + 1
    assert (feed.liveness, feed.outcome) == ("ended", "success")


def test_large_file_is_ordered_in_a_window(
    tmp_path: Path, open_feed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = generate(tmp_path / "run.jsonl", storm=True)
    monkeypatch.setattr(dialects, "WINDOW", 300)
    feed = open_feed(tmp_path / "run.jsonl", growing=False)
    events: list[Event] = []
    while feed.liveness in ("waiting", "live"):
        events += feed.poll(50).events
    times = [event.captured_at_monotonic for event in events]
    assert len(events) == count
    assert feed.late_events == 0
    assert times == sorted(times)


def test_file_without_an_end_is_lost_and_its_torn_line_reported(
    tmp_path: Path, open_feed: Open
) -> None:
    data = encoded(simulated(storm=False)[:200])
    (tmp_path / "run.jsonl").write_bytes(data[:-40])
    feed = open_feed(tmp_path / "run.jsonl", growing=False)

    events, broken = drain(feed)

    assert len(events) == 199
    assert [problem.line_number for problem in broken] == [200]
    assert (feed.liveness, feed.outcome) == ("lost", None)


def test_what_is_read_of_a_file_in_its_writers_hands_is_not_lost(
    tmp_path: Path, open_feed: Open
) -> None:
    path = tmp_path / "run.jsonl"
    with path.open("wb") as writer:
        writer.write(encoded(simulated(storm=False)[:200]))
        writer.flush()
        feed = open_feed(path, growing=False)
        events, _ = drain(feed)
        assert len(events) == 200
        assert (feed.liveness, feed.outcome) == ("live", None)
    later = open_feed(path, growing=False)
    drain(later)
    assert later.liveness == "lost"


def test_last_line_without_newline_counts_where_it_is_whole(
    tmp_path: Path, open_feed: Open
) -> None:
    (tmp_path / "run.jsonl").write_bytes(encoded(simulated(storm=False)).rstrip(b"\n"))
    feed = open_feed(tmp_path / "run.jsonl", growing=False)
    _, broken = drain(feed)
    assert not broken
    assert feed.outcome == "success"


@pytest.mark.parametrize(
    ("word", "outcome"),
    [("early_shutdown", "failed"), ("error", "failed"), ("cancelled", "cancelled")],
)
def test_outcomes_have_our_words(tmp_path: Path, open_feed: Open, word: str, outcome: str) -> None:
    events = simulated(storm=False)
    events[-1]["reason_or_result"] = word
    (tmp_path / "run.jsonl").write_bytes(encoded(events))
    feed = open_feed(tmp_path / "run.jsonl", growing=False)
    drain(feed)
    assert feed.outcome == outcome


def test_resuming_brings_exactly_the_rest(tmp_path: Path, open_feed: Open) -> None:
    generate(tmp_path / "run.jsonl", storm=True)
    whole, _ = drain(open_feed(tmp_path / "run.jsonl", growing=False))
    first = open_feed(tmp_path / "run.jsonl", growing=False)
    begun = first.poll(333)
    again = open_feed(tmp_path / "run.jsonl", growing=False)
    again.resume(begun.position, 334)
    batch = again.poll(1)
    rest, _ = drain(again)
    assert batch.first_ordinal == 334
    assert begun.events + batch.events + rest == whole


def test_resuming_a_file_read_while_it_grew(tmp_path: Path, clock: Clock, open_feed: Open) -> None:
    source = simulated(storm=True)
    path = tmp_path / "run.jsonl"
    path.write_bytes(encoded(source[:500]) + b"broken\n")
    live = open_feed(path)
    batch = live.poll()
    assert 0 < len(batch.events) < 500
    append(path, encoded(source[500:]))
    again = open_feed(path, growing=False)
    again.resume(batch.position, len(batch.events) + 1)
    rest, broken = drain(again)
    assert not broken
    assert len(batch.events) + len(rest) == len(source)
    both = [msgspec.json.encode(e) for e in (*batch.events, *rest)]
    assert len(set(both)) == len(source)


# growing files


def test_growing_file_is_followed_to_its_end(tmp_path: Path, clock: Clock, open_feed: Open) -> None:
    path = tmp_path / "scheduler_events.jsonl"
    feed = open_feed(path)
    assert feed.poll().events == []
    clock.now += 60
    feed.poll()
    assert [feed.liveness, feed.run] == ["waiting", None]

    source = simulated(storm=True)
    events: list[Event] = []
    for start in range(0, len(source), 25):
        append(path, encoded(source[start : start + 25]))
        events += feed.poll().events
        assert feed.liveness == "live"
        assert feed.outcome is None
        clock.now += 0.1
    assert feed.run is not None
    assert feed.run.name == tmp_path.name
    clock.now += 1
    events += feed.poll().events

    assert len(events) == len(source)
    assert (feed.liveness, feed.outcome) == ("ended", "success")
    assert set(identities(events)) == {
        (e["event_kind"], e["captured_at_monotonic"], e["sequence"]) for e in source
    }


def test_events_wait_for_earlier_ones_half_a_second(
    tmp_path: Path, clock: Clock, open_feed: Open
) -> None:
    source = simulated(storm=False)
    start = next(i for i, e in enumerate(source) if e["event_kind"] == "scheduler_job_started")
    path = tmp_path / "run.jsonl"
    path.write_bytes(encoded(source[: start + 1]))
    feed = open_feed(path)
    drain(feed)
    clock.now += 1
    drain(feed)
    base = source[start]["captured_at_monotonic"]

    def line(kind: str, after: float, sequence: int) -> bytes:
        event = source[start + 1] | {"event_kind": kind, "sequence": sequence}
        return encoded([event | {"captured_at_monotonic": base + after}])

    append(path, line("a", 10.0, 2) + line("b", 9.8, 3))
    assert feed.poll().events == []
    append(path, line("c", 10.4, 4) + line("d", 9.85, 5))
    first = feed.poll().events
    assert [event.event_kind for event in first] == ["b", "d"]
    append(path, line("e", 9.5, 6))
    second = feed.poll().events
    assert [event.event_kind for event in second] == ["e"]
    assert feed.late_events == 1
    clock.now += 0.6
    assert [event.event_kind for event in feed.poll().events] == ["a", "c"]


def test_torn_last_line_is_waited_for(tmp_path: Path, clock: Clock, open_feed: Open) -> None:
    source = simulated(storm=False)
    data = encoded(source)
    cut = len(data) - 700
    path = tmp_path / "run.jsonl"
    path.write_bytes(data[:cut])
    feed = open_feed(path)
    events, broken = drain(feed)
    clock.now += 1
    more, _ = drain(feed)
    assert len(events) + len(more) == len(source) - 1
    append(path, data[cut:])
    drain(feed)
    clock.now += 1
    last, problems = drain(feed)
    assert not broken
    assert not problems
    assert last[-1].event_kind == "scheduler_job_completed"


def test_a_file_that_has_its_end_is_not_waited_for(
    tmp_path: Path, clock: Clock, open_feed: Open
) -> None:
    path = tmp_path / "run.jsonl"
    generate(path, storm=True, requests=False)
    feed = open_feed(path, growing=True)
    events, _ = drain(feed)
    assert events[-1].event_kind == "scheduler_job_completed"
    assert feed.liveness == "ended"


def test_truncated_file_goes_on_from_its_new_content(
    tmp_path: Path, clock: Clock, open_feed: Open
) -> None:
    source = simulated(storm=False)
    path = tmp_path / "run.jsonl"
    path.write_bytes(encoded(source[:400]))
    feed = open_feed(path)
    events, _ = drain(feed)
    path.write_bytes(encoded(source[400:500]))

    later, broken = drain(feed)
    clock.now += 1
    rest, _ = drain(feed)

    assert not broken
    assert feed.notes == ("The file was truncated: reading goes on from its new beginning.",)
    assert identities(events + later + rest) == sorted(
        ((e["event_kind"], e["captured_at_monotonic"], e["sequence"]) for e in source[:500]),
        key=lambda one: one[1],
    )


def test_replaced_file_goes_on_in_the_new_one(
    tmp_path: Path, clock: Clock, open_feed: Open
) -> None:
    source = simulated(storm=False)
    path = tmp_path / "run.jsonl"
    path.write_bytes(encoded(source[:400]))
    feed = open_feed(path)
    events, _ = drain(feed)
    append(path, encoded(source[400:450]))
    (tmp_path / "fresh").write_bytes(encoded(source[450:]))
    os.replace(tmp_path / "fresh", path)

    later, broken = drain(feed)
    clock.now += 1
    rest, _ = drain(feed)

    assert not broken
    assert "The file was replaced: reading goes on in the new one." in feed.notes
    assert len(events + later + rest) == len(source)
    assert feed.outcome == "success"


def test_another_run_in_the_same_file_is_not_mixed_in(
    tmp_path: Path, clock: Clock, open_feed: Open
) -> None:
    source = simulated(storm=False)
    path = tmp_path / "run.jsonl"
    path.write_bytes(encoded(source[:-1]))
    feed = open_feed(path)
    drain(feed)
    append(path, encoded(simulated(storm=True, seed=8)))
    drain(feed)
    clock.now += 1
    drain(feed)
    assert feed.liveness == "lost"
    assert any("Another run has begun" in note for note in feed.notes)

    latest = open_feed(path, growing=False)
    events, _ = drain(latest)
    assert len(events) == len(simulated(storm=True, seed=8))
    assert latest.outcome == "success"
    assert latest.notes == ("The file holds 2 runs: this is the last one.",)


def test_silence_is_noted_and_proves_nothing(tmp_path: Path, clock: Clock, open_feed: Open) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(encoded(simulated(storm=False)[:300]))
    feed = open_feed(path)
    drain(feed)
    clock.now += SILENCE_SECONDS
    drain(feed)
    assert feed.liveness == "live"
    assert feed.notes == ("Nothing was written for 30 s.",)


def test_killed_writer_is_noticed(tmp_path: Path, clock: Clock, open_feed: Open) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(encoded(simulated(storm=False)[:300]))
    program = f"f = open({str(path)!r}, 'a'); print(flush=True); input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        feed = open_feed(path)
        drain(feed)
        clock.now += 3
        drain(feed)
        alive = feed.liveness
        writer.kill()
    clock.now += 3
    drain(feed)
    assert (alive, feed.liveness) == ("live", "lost")
    assert feed.notes == ("The process that wrote the file is gone.",)


# hostile lines

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


# headgate's own lines

RUN = RunInfo("r1", "demo", columns=(ColumnInfo("topic", "sampler", "batch"),), records=3)


def test_own_lines_keep_their_order_and_header(tmp_path: Path, open_feed: Open) -> None:
    # at one instant of virtual time the order of the file is the order of the facts
    events = [SchedulerEvent(kind, 5.0, n + 1) for n, kind in enumerate(("b", "a", "c"))]
    end = JournalEnd("success", 5.0, 3, 0)
    data = encode_lines([JournalHeader(RUN, 1, 1), *events, end])
    (tmp_path / "run.jsonl").write_bytes(data)
    feed = open_feed(tmp_path / "run.jsonl", growing=False)

    read, broken = drain(feed)

    assert read == events
    assert not broken
    assert feed.run == RUN
    assert (feed.liveness, feed.outcome) == ("ended", "success")


def test_own_lines_without_header(tmp_path: Path, open_feed: Open) -> None:
    (tmp_path / "run.jsonl").write_bytes(encode_lines([SchedulerEvent("a", 5.0, 1)]))
    feed = open_feed(tmp_path / "run.jsonl", growing=False)
    drain(feed)
    assert feed.run is not None
    assert (feed.run.producer, feed.run.name) == ("headgate", "run")
    assert feed.run.lacks
    assert feed.liveness == "lost"


def test_newer_schema_is_refused(tmp_path: Path, open_feed: Open) -> None:
    header = JournalHeader(msgspec.structs.replace(RUN, schema_version=99), 1, 1)
    (tmp_path / "run.jsonl").write_bytes(encode_lines([header]))
    with pytest.raises(SourceError, match="newer"):
        open_feed(tmp_path / "run.jsonl", growing=False).poll()
