"""What a journal in Data Designer's own words gives, as `headgate exec` has it written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.events import Event, JournalEnd, JournalHeader, RunInfo, SchedulerEvent, encode_lines
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
from replay.sources.base import SourceError
from replay.sources.feed import Feed, open_journal, open_lines
from tests.fixtures.data_designer_format import generate, lines
from tests.replay.producer import leave_lock

STREAM = lines(storm=True, rows=4)
FIRST_TIME = STREAM[0]["captured_at_monotonic"]
RUN = RunInfo(
    "20260101T000000Z-demo-1234",
    "demo",
    "data_designer",
    "0.9.7",
    wall_start=1e9,
    monotonic_start=FIRST_TIME - 1,
)
END = encode_lines([JournalEnd("success", FIRST_TIME + 100, 9, 9)])


def header(segment: int = 1) -> bytes:
    return encode_lines([JournalHeader(RUN, segment, 1, "data_designer")])


def foreign(stream: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in stream)


def append(folder: RunFolder, data: bytes, segment: int = 1) -> None:
    with folder.segment(segment).open("ab") as file:
        file.write(data)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run")
    write_record(folder, RunRecord(RUN.run_id, "demo", "running", producer="data_designer"))
    leave_lock(folder)
    return folder


@pytest.fixture
def alive(folder: RunFolder) -> Iterator[ProcessLock]:
    with ProcessLock(folder.lock) as lock:
        yield lock


def read_all(feed: Feed, limit: int = 10_000) -> list[Event]:
    events: list[Event] = []
    while taken := feed.poll(limit).events:
        events += taken
    feed.close()
    return events


def test_the_events_are_those_of_a_file_with_the_same_lines(
    folder: RunFolder, tmp_path: Path
) -> None:
    append(folder, header() + foreign(STREAM) + END)
    path = tmp_path / "same.jsonl"
    generate(path, storm=True, rows=4)
    feed = open_journal(folder)
    events = read_all(feed)
    assert events == read_all(open_lines(path, growing=False))
    assert (feed.liveness, feed.outcome) == ("ended", "success")


def test_the_run_is_what_header_and_lines_say_together(folder: RunFolder) -> None:
    append(folder, header() + foreign(STREAM) + END)
    feed = open_journal(folder)
    read_all(feed)
    run = feed.run
    assert run is not None
    assert (run.run_id, run.name, run.wall_start) == (RUN.run_id, "demo", 1e9)
    assert (run.producer, run.producer_version) == ("data_designer", "0.9.7")
    assert run.monotonic_start == FIRST_TIME - 1
    assert run.records == 4
    assert run.edges_inferred
    assert run.request_sequence_semantics == "per_producer"
    assert "wall clock" not in run.lacks
    assert "loop heartbeat" in run.lacks


@pytest.mark.parametrize("cut", [1, 50, 120, len(STREAM) - 1])
@pytest.mark.parametrize("limit", [7, 10_000])
def test_who_resumes_misses_nothing_and_repeats_nothing(
    folder: RunFolder, alive: ProcessLock, cut: int, limit: int
) -> None:
    append(folder, header() + foreign(STREAM[:cut]))
    first = open_journal(folder, clock=lambda: 0.0)
    batch = first.poll(limit)
    append(folder, foreign(STREAM[cut:]) + END)
    second = open_journal(folder)
    second.resume(batch.position, batch.first_ordinal + len(batch.events))
    after = second.poll(limit)
    assert after.first_ordinal == batch.first_ordinal + len(batch.events)
    events = [*batch.events, *after.events, *read_all(second, limit)]
    reported = sorted((event["event_kind"], event["sequence"]) for event in STREAM)
    assert sorted((event.event_kind, event.sequence) for event in events) == reported


def test_what_is_new_waits_for_what_may_come_late_but_not_for_ever(
    folder: RunFolder, alive: ProcessLock
) -> None:
    now = 0.0
    append(folder, header() + foreign(STREAM[:300]))
    feed = open_journal(folder, clock=lambda: now)
    at_once = feed.poll().events
    assert feed.liveness == "live"
    assert 0 < len(at_once) < 300
    newest = max(event["captured_at_monotonic"] for event in STREAM[:300])
    assert at_once[-1].captured_at_monotonic <= newest - 0.5
    now = 0.6
    assert len(at_once) + len(read_all(feed)) == 300


def test_a_torn_line_waits_for_its_rest(folder: RunFolder, alive: ProcessLock) -> None:
    data = header() + foreign(STREAM) + END
    append(folder, data[:5000])
    feed = open_journal(folder)
    early = feed.poll()
    assert early.broken == []
    append(folder, data[5000:])
    assert len(early.events) + len(read_all(feed)) == len(STREAM)


def test_segments_are_one_stream(folder: RunFolder) -> None:
    append(folder, header() + foreign(STREAM[:100]))
    append(folder, header(2) + foreign(STREAM[100:]) + END, segment=2)
    assert len(read_all(open_journal(folder))) == len(STREAM)


def test_a_producer_that_is_gone_without_an_end_is_lost(folder: RunFolder) -> None:
    append(folder, header() + foreign(STREAM[:100]) + b'{"event_kind": "sel')
    feed = open_journal(folder)
    batch = feed.poll()
    assert len(batch.events) == 100
    assert [broken_line.problem for broken_line in batch.broken] == [
        "000001.jsonl: the line is cut off"
    ]
    assert (feed.liveness, feed.outcome) == ("lost", None)


def test_the_producers_own_end_is_an_end(folder: RunFolder) -> None:
    append(folder, header() + foreign(STREAM))
    feed = open_journal(folder)
    read_all(feed)
    assert (feed.liveness, feed.outcome) == ("ended", "success")


def test_a_broken_line_is_told_once_and_passed_over(folder: RunFolder) -> None:
    append(folder, header() + foreign(STREAM[:10]) + b"{oops\n" + foreign(STREAM[10:]) + END)
    feed = open_journal(folder)
    batch = feed.poll()
    assert len(batch.events) == len(STREAM)
    assert [
        (broken_line.line_number, broken_line.problem[:12]) for broken_line in batch.broken
    ] == [(12, "000001.jsonl")]
    again = open_journal(folder)
    again.resume(batch.position, len(STREAM) + 1)
    assert again.poll().broken == []


def test_a_newer_schema_is_refused(folder: RunFolder) -> None:
    newer = header().replace(b'"name":"demo"', b'"name":"demo","schema_version":99')
    append(folder, newer)
    with pytest.raises(SourceError, match="newer headgate"):
        open_journal(folder).poll()


def test_the_reader_is_chosen_by_whose_words_they_are(folder: RunFolder, tmp_path: Path) -> None:
    append(folder, foreign(STREAM[:3]))  # as run.json says
    by_header = RunFolder.create(tmp_path / "by header")
    append(by_header, header() + foreign(STREAM[:3]))
    event = SchedulerEvent("selected", FIRST_TIME, 1)
    own = RunFolder.create(tmp_path / "own")
    append(own, encode_lines([event]))
    own_by_header = RunFolder.create(tmp_path / "own by header")
    append(own_by_header, encode_lines([JournalHeader(RUN, 1, 1), event]))
    assert len(read_all(open_journal(folder))) == 3
    assert len(read_all(open_journal(by_header))) == 3
    assert read_all(open_journal(own)) == [event]
    assert read_all(open_journal(own_by_header)) == [event]


def test_the_completed_recording_takes_over(folder: RunFolder) -> None:
    append(folder, header() + foreign(STREAM) + END)
    write_record(folder, RunRecord(RUN.run_id, "demo", "complete", producer="data_designer"))
    os.rename(folder.journal, folder.path / ".gone")
    feed = open_journal(folder)
    feed.poll()
    assert feed.completed
