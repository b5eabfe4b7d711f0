"""Where a journal ends, and how a run goes on behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import UserError
from engine.events import (
    ColumnInfo,
    JournalEnd,
    JournalHeader,
    JournalLine,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
    encode_lines,
)
from engine.events.continuation import LastIds, open_tail, read_continuation, remove_segments
from engine.events.run_folder import RunFolder

RUN = RunInfo("r", "run", monotonic_start=100.0, columns=(ColumnInfo("a", "custom", "cell"),))
END = JournalEnd("cancelled", 103.0, 2, 2)


def scheduler(number: int, at: float, lease: str | None = None) -> SchedulerEvent:
    return SchedulerEvent("queue_drained", at, number, task_execution_id="e4", task_lease_id=lease)


def request(number: int, at: float) -> RequestEvent:
    kind = "request_lease_acquired"
    return RequestEvent(kind, at, number, request_attempt_id="a12", request_lease_id="r9")


def journal(path: Path, *segments: list[JournalLine], torn: bytes = b"") -> RunFolder:
    folder = RunFolder(path)
    folder.create_journal()
    for number, lines in enumerate(segments, 1):
        folder.segment(number).write_bytes(encode_lines(lines))
    with folder.segment(len(segments)).open("ab") as last:
        last.write(torn)
    return folder


def test_the_end_of_a_journal(tmp_path: Path) -> None:
    lines: list[JournalLine] = [
        JournalHeader(RUN, 1, 1),
        scheduler(1, 100.5),
        scheduler(2, 101.2, "t7"),
    ]
    folder = journal(tmp_path, [*lines, request(1, 101.25)], torn=b'{"stream":"sched')
    continuation = read_continuation(folder)
    assert (continuation.segments, continuation.events) == (1, 3)
    assert (continuation.scheduler_sequence, continuation.request_sequence) == (2, 1)
    assert continuation.ids == LastIds(4, 7, 12, 9)
    assert continuation.last_time == 101.25
    assert continuation.run == RUN
    assert 102.0 < continuation.restart_time < 102.01


def test_only_as_many_segments_are_read_as_are_needed(tmp_path: Path) -> None:
    first: list[JournalLine] = [JournalHeader(RUN, 1, 1), request(1, 101.0)]
    second: list[JournalLine] = [
        JournalHeader(RUN, 2, 5_000),
        scheduler(3_000, 102.0, "t8"),
        request(2_001, 102.5),
    ]
    continuation = read_continuation(journal(tmp_path, first, second))
    assert continuation.events == 5_001
    assert (continuation.scheduler_sequence, continuation.request_sequence) == (3_000, 2_001)


def test_a_gap_counts(tmp_path: Path) -> None:
    facts = {"stream": "request", "first_lost": 2, "last_lost": 40, "cause": "disk_full"}
    gap = SchedulerEvent("recording_gap", 101.0, 0, diagnostics=facts)
    header = JournalHeader(RUN, 1, 1)
    lines: list[JournalLine] = [header, request(1, 100.5), scheduler(1, 100.6, "t1"), gap]
    assert read_continuation(journal(tmp_path, lines)).request_sequence == 40


def test_a_run_without_an_event_begins_where_it_began(tmp_path: Path) -> None:
    continuation = read_continuation(journal(tmp_path, [JournalHeader(RUN, 1, 1)]))
    assert (continuation.events, continuation.scheduler_sequence) == (0, 0)
    assert 101.0 < continuation.restart_time < 101.01


@pytest.mark.parametrize("segments", [[], [[scheduler(1, 100.0)]]])
def test_a_journal_that_says_too_little(tmp_path: Path, segments: list[list[JournalLine]]) -> None:
    folder = RunFolder(tmp_path)
    if segments:
        folder = journal(tmp_path, *segments)
    with pytest.raises(UserError):
        read_continuation(folder)


def test_a_journal_of_another_producer(tmp_path: Path) -> None:
    foreign = RunInfo("r", "run", producer="data_designer")
    with pytest.raises(UserError, match="data_designer"):
        read_continuation(journal(tmp_path, [JournalHeader(foreign, 1, 1)]))


def test_the_end_line_and_a_torn_line_are_removed(tmp_path: Path) -> None:
    whole: list[JournalLine] = [JournalHeader(RUN, 1, 1), scheduler(1, 100.5)]
    folder = journal(tmp_path, [*whole, END], torn=b'{"half')
    open_tail(folder, 1)
    assert folder.segment(1).read_bytes() == encode_lines(whole)
    open_tail(folder, 1)
    assert folder.segment(1).read_bytes() == encode_lines(whole)


def test_an_end_before_segments_without_events_is_removed(tmp_path: Path) -> None:
    whole: list[JournalLine] = [JournalHeader(RUN, 1, 1), scheduler(1, 100.5)]
    header: list[JournalLine] = [JournalHeader(RUN, 2, 2)]
    folder = journal(tmp_path, [*whole, END], header)
    open_tail(folder, 2)
    assert folder.segment(1).read_bytes() == encode_lines(whole)
    assert folder.segment(2).read_bytes() == encode_lines(header)


def test_only_segments_without_events_are_removed(tmp_path: Path) -> None:
    folder = journal(
        tmp_path,
        [JournalHeader(RUN, 1, 1), scheduler(1, 100.5)],
        [JournalHeader(RUN, 2, 2), scheduler(2, 101.0)],
        [JournalHeader(RUN, 3, 3)],
    )
    remove_segments(folder, 1)
    assert folder.segment_numbers() == [1, 2]
