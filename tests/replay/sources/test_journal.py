from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.events import (
    Event,
    JournalEnd,
    JournalHeader,
    JournalLine,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
    encode_lines,
)
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
from replay.sources.base import SourceError
from replay.sources.feed import Feed, open_journal
from tests.replay.producer import leave_lock

RUN = RunInfo("r1", "demo")
PRODUCER = """
import sys, time
from pathlib import Path
from engine.events import RunInfo, SchedulerEvent
from engine.events.journal import JournalWriter
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
folder = RunFolder.create(Path(sys.argv[1]))
ProcessLock(folder.lock).acquire()
write_record(folder, RunRecord("r1", "demo", "running"))
writer = JournalWriter(folder, RunInfo("r1", "demo"), loop=None, request_keyframe=print)
writer.write_events([SchedulerEvent("selected", 1.0, n) for n in range(1, 4)])
print("written", flush=True)
sys.stdin.read()
"""


def event(number: int) -> Event:
    if number % 3:
        return SchedulerEvent("selected", float(number), number)
    return RequestEvent("request_queue_formed", float(number), number)


def end(sequence: int) -> JournalEnd:
    return JournalEnd("success", 9.0, sequence, 0)


def liveness_of(feed: Feed) -> str:
    return feed.liveness


def append(folder: RunFolder, segment: int, lines: list[JournalLine]) -> None:
    append_bytes(folder, segment, encode_lines(lines))


def append_bytes(folder: RunFolder, segment: int, data: bytes) -> None:
    with folder.segment(segment).open("ab") as file:
        file.write(data)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run")
    write_record(folder, RunRecord("r1", "demo", "running"))
    leave_lock(folder)
    return folder


@pytest.fixture
def alive(folder: RunFolder) -> Iterator[ProcessLock]:
    with ProcessLock(folder.lock) as lock:
        yield lock


def test_a_growing_journal_is_read_as_it_comes(folder: RunFolder, alive: ProcessLock) -> None:
    feed = open_journal(folder)
    batch = feed.poll()
    assert (batch.events, batch.first_ordinal, feed.liveness) == ([], 1, "waiting")
    append(folder, 1, [JournalHeader(RUN, 1, 1), event(1), event(2)])
    batch = feed.poll()
    assert (batch.events, batch.first_ordinal) == ([event(1), event(2)], 1)
    assert (feed.run, feed.liveness) == (RUN, "live")
    batch = feed.poll()
    assert (batch.events, batch.first_ordinal) == ([], 3)
    append(folder, 1, [event(3), end(3)])
    batch = feed.poll()
    assert (batch.events, batch.first_ordinal) == ([event(3)], 3)
    assert (feed.liveness, feed.outcome) == ("ended", "success")
    assert feed.poll().events == []


def test_a_torn_line_waits_for_its_rest(folder: RunFolder, alive: ProcessLock) -> None:
    data = encode_lines([JournalHeader(RUN, 1, 1), event(1), event(2)])
    feed = open_journal(folder)
    seen: list[Event] = []
    for index in range(len(data)):
        append_bytes(folder, 1, data[index : index + 1])
        batch = feed.poll()
        assert batch.broken == []
        seen += batch.events
    assert seen == [event(1), event(2)]


def test_a_torn_line_that_the_writer_takes_back_leaves_no_trace(
    folder: RunFolder, alive: ProcessLock
) -> None:
    append(folder, 1, [JournalHeader(RUN, 1, 1), event(1)])
    size = folder.segment(1).stat().st_size
    append_bytes(folder, 1, encode_lines([event(2)])[:10])
    feed = open_journal(folder)
    assert feed.poll().events == [event(1)]
    os.truncate(folder.segment(1), size)
    append(folder, 1, [event(4)])
    batch = feed.poll()
    assert (batch.events, batch.broken) == ([event(4)], [])


def test_broken_lines_are_told_with_their_number_and_skipped(
    folder: RunFolder, alive: ProcessLock
) -> None:
    append(folder, 1, [JournalHeader(RUN, 1, 1), event(1)])
    append_bytes(folder, 1, b'{"stream":"scheduler"}\n\x00\x00\n')
    append(folder, 1, [event(2)])
    append(folder, 2, [JournalHeader(RUN, 2, 3)])
    append_bytes(folder, 2, b"[]\n")
    append(folder, 2, [event(3)])
    feed = open_journal(folder)
    batch = feed.poll()
    assert batch.events == [event(1), event(2), event(3)]
    assert [line.line_number for line in batch.broken] == [3, 4, 2]
    assert batch.broken[0].problem.startswith("000001.jsonl: not a line of a journal")
    assert batch.broken[1].problem.startswith("000001.jsonl: broken JSON")
    assert batch.broken[2].problem.startswith("000002.jsonl: ")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_resuming_anywhere_brings_the_rest_and_nothing_twice(folder: RunFolder, limit: int) -> None:
    append(folder, 1, [JournalHeader(RUN, 1, 1), *map(event, range(1, 8))])
    append(folder, 2, [JournalHeader(RUN, 2, 8), *map(event, range(8, 11))])
    append(folder, 3, [JournalHeader(RUN, 3, 11), *map(event, range(11, 15)), end(14)])
    seen: list[Event] = []
    position: dict[str, int] = {}
    liveness = ""
    while liveness != "ended":
        feed = open_journal(folder)
        if position:
            feed.resume(position, len(seen) + 1)
            assert feed.run == RUN
        batch = feed.poll(limit)
        assert len(batch.events) <= limit
        assert batch.first_ordinal == len(seen) + 1
        seen += batch.events
        position, liveness = batch.position, feed.liveness
        feed.close()
    assert seen == [event(n) for n in range(1, 15)]


def test_a_line_longer_than_a_block_is_read_whole(folder: RunFolder, alive: ProcessLock) -> None:
    big = SchedulerEvent("scheduler_health_snapshot", 1.0, 1, snapshot={"x": "y" * 3_000_000})
    append(folder, 1, [JournalHeader(RUN, 1, 1), event(1), big, event(2)])
    feed = open_journal(folder)
    seen = []
    while batch := feed.poll().events:
        seen += batch
    assert seen == [event(1), big, event(2)]


def test_a_killed_producer_is_lost_once_all_is_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    feed = open_journal(folder)
    assert feed.poll().events == []
    assert liveness_of(feed) == "waiting"
    producer = subprocess.Popen(
        [sys.executable, "-c", PRODUCER, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert producer.stdin is not None
    assert producer.stdout is not None
    with producer.stdin, producer.stdout:
        assert producer.stdout.readline() == b"written\n"
        assert len(feed.poll(2).events) == 2
        assert liveness_of(feed) == "live"
        producer.send_signal(signal.SIGKILL)
        producer.wait()
    append_bytes(folder, 1, b'{"stream":"sched')
    assert len(feed.poll(1).events) == 1
    batch = feed.poll()
    assert liveness_of(feed) == "lost"
    assert feed.outcome is None
    assert [(line.line_number, line.problem) for line in batch.broken] == [
        (5, "000001.jsonl: the line is cut off")
    ]
    assert feed.poll().broken == []
    assert not feed.completed


def test_an_end_that_found_no_room_is_read_from_the_record(folder: RunFolder) -> None:
    append(folder, 1, [JournalHeader(RUN, 1, 1), event(1)])
    feed = open_journal(folder)
    feed.poll()
    assert liveness_of(feed) == "lost"
    write_record(folder, RunRecord("r1", "demo", "ended", outcome="failed"))
    feed.poll()
    assert (feed.liveness, feed.outcome) == ("ended", "failed")


@pytest.mark.parametrize(("state", "liveness"), [("complete", "ended"), ("lost", "lost")])
def test_a_journal_that_went_into_the_recording_says_so(
    folder: RunFolder, state: str, liveness: str
) -> None:
    append(folder, 1, [JournalHeader(RUN, 1, 1), event(1), event(2)])
    append(folder, 2, [JournalHeader(RUN, 2, 3), event(3), end(3)])
    behind = open_journal(folder)
    assert behind.poll(1).events == [event(1)]
    outcome = "success" if state == "complete" else None
    write_record(folder, RunRecord("r1", "demo", state, outcome=outcome))  # type: ignore[arg-type]
    folder.journal.rename(folder.path / "gone")
    assert behind.poll().events == [event(2)]
    late = open_journal(folder)
    assert late.poll().events == []
    for feed in (behind, late):
        assert feed.completed
        assert (feed.liveness, feed.outcome) == (liveness, outcome)


def test_a_newer_journal_is_refused_in_one_sentence(folder: RunFolder) -> None:
    append(folder, 1, [JournalHeader(RunInfo("r1", "demo", schema_version=99), 1, 1)])
    with pytest.raises(SourceError, match="newer headgate") as caught:
        open_journal(folder).poll()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "header",
    [
        b"{broken",
        b'{"stream":"header","run":{"run_id":"r9","name":"n"},"segment":1,"first_ordinal":1%s}'
        % (b"0" * 30),
        b'{"stream":"header","run":{"run_id":"r9","name":"n","resource_limits":{"submission":1%s}},'
        b'"segment":1,"first_ordinal":1}' % (b"0" * 30),
    ],
)
def test_a_broken_header_leaves_a_readable_run(
    folder: RunFolder, alive: ProcessLock, header: bytes
) -> None:
    append_bytes(folder, 1, header + b"\n")
    append(folder, 1, [event(1)])
    feed = open_journal(folder)
    assert feed.poll().events == [event(1)]
    assert feed.run is not None
    assert (feed.run.run_id, feed.run.name) == ("r1", "demo")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'"diagnostics":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "nested too deeply"),
        (b'"sequence":18446744073709551616', "Expected `int` <= 9007199254740992"),
        (b'"captured_at_monotonic":1e300', "Expected `float` < 10000000000.0"),
        (b'"reason_or_result":"\\u001b[31m","sequence":true', "Expected `int`"),
        (b'"task_id":"\x7f", nonsense', "broken JSON"),
    ],
)
def test_lines_that_no_run_writes_are_told_and_left_out(
    tmp_path: Path, line: bytes, problem: str
) -> None:
    folder = RunFolder.create(tmp_path / "run")
    event = b'{"stream":"scheduler","event_kind":"selected","captured_at_monotonic":1,"sequence":1'
    content = encode_lines([JournalHeader(RunInfo("r", "n"), 1, 1)])
    content += event + b"," + line + b"}\n" + event + b"}\n"
    folder.segment(1).write_bytes(content)
    batch = open_journal(folder).poll()
    assert [event.event_kind for event in batch.events] == ["selected"]
    (broken,) = batch.broken
    assert broken.line_number == 2
    assert problem in broken.problem
    assert broken.problem.isprintable()


def test_no_text_of_a_journal_steers_a_terminal(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    hostile = "\x1b[31m\u202e"
    event = SchedulerEvent(
        "selected", 1.0, 1, task_id=hostile, diagnostics={hostile: [hostile, {"a": hostile}]}
    )
    folder.segment(1).write_bytes(encode_lines([JournalHeader(RunInfo("r", hostile), 1, 1), event]))
    feed = open_journal(folder)
    said = repr(feed.poll().events) + repr(feed.run)
    assert "\ufffd[31m\ufffd" in said
    assert "\\x1b" not in said
    assert "\u202e" not in said


def test_a_line_without_end_takes_no_memory_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.sources.segment_reader.MAX_LINE", 1 << 20)
    folder = RunFolder.create(tmp_path / "run")
    header = encode_lines([JournalHeader(RunInfo("r", "n"), 1, 1)])
    folder.segment(1).write_bytes(header + b"x" * (9 << 20))
    following = encode_lines([JournalHeader(RunInfo("r", "n"), 2, 1), SchedulerEvent("a", 1.0, 1)])
    folder.segment(2).write_bytes(following)
    batch = open_journal(folder).poll()
    assert [event.event_kind for event in batch.events] == ["a"]
    assert [broken_line.problem for broken_line in batch.broken] == [
        "000001.jsonl: the line is cut off"
    ]


@pytest.mark.parametrize(("free", "full"), [(4_096, True), (1 << 30, False)])
def test_a_full_disk_is_told_of_a_lost_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, full: bool
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(1 << 31, (1 << 31) - free, free)
    monkeypatch.setattr("engine.events.run_folder.shutil.disk_usage", lambda _: usage)
    folder = RunFolder.create(tmp_path / "run")
    write_record(folder, RunRecord("r1", "demo", "running"))
    leave_lock(folder)
    append(folder, 1, [JournalHeader(RUN, 1, 1), event(1)])
    feed = open_journal(folder)
    feed.poll()
    feed.poll()
    assert feed.liveness == "lost"
    assert bool(feed.notes) is full
    assert all("is full" in note for note in feed.notes)
    feed.close()
