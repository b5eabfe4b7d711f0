"""A journal in Data Designer's words: as it comes for a console, by time for a recorder."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.events import Event, JournalEnd, JournalHeader, RunInfo, encode_lines
from engine.events.run_folder import ProducerLock, RunFolder, RunRecord, write_record
from replay.sources.foreign_journal import ForeignJournalFeed, open_journal
from tests.fixtures.data_designer_format import lines as simulated

HEADER = JournalHeader(RunInfo("r1", "desk", producer="data_designer"), 1, 1, "data_designer")
LATE_SECONDS = 3.0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run")
    write_record(folder, RunRecord("r1", "desk", "running", producer="data_designer"))
    append(folder, encode_lines([HEADER]))
    return folder


def append(folder: RunFolder, data: bytes) -> None:
    with folder.segment(1).open("ab") as file:
        file.write(data)


def told_late() -> list[dict[str, Any]]:
    """A run's lines, of which one wait that began in mid-run is told when it is over."""
    lines = sorted(simulated(storm=True), key=lambda line: float(line["captured_at_monotonic"]))
    began = next(
        place
        for place, line in enumerate(lines)
        if line["event_kind"] == "request_wait_started" and place > len(lines) // 3
    )
    late = lines.pop(began)
    over = float(late["captured_at_monotonic"]) + LATE_SECONDS
    place = next(
        place for place, line in enumerate(lines) if float(line["captured_at_monotonic"]) > over
    )
    return [*lines[:place], late, *lines[place:]]


def read_along(folder: RunFolder, patient: bool) -> tuple[ForeignJournalFeed, list[Event]]:
    """Everything, read bit by bit while it is written, and when the producer has ended."""
    clock = Clock()
    feed = ForeignJournalFeed(folder, patient=patient, clock=clock)
    events: list[Event] = []
    lines = told_late()
    with ProducerLock(folder.lock):
        for start in range(0, len(lines), 50):
            part = lines[start : start + 50]
            append(folder, b"".join(json.dumps(line).encode() + b"\n" for line in part))
            events += feed.poll().events
            clock.now += 1.0
            events += feed.poll().events
        append(folder, encode_lines([JournalEnd("success", 9.0, 0, 0)]))
    while batch := feed.poll().events:
        events += batch
    feed.close()
    assert len(events) == len(lines)
    assert (feed.liveness, feed.outcome) == ("ended", "success")
    return feed, events


def test_for_a_recorder_each_event_stands_where_its_time_belongs(folder: RunFolder) -> None:
    feed, events = read_along(folder, patient=True)
    times = [event.captured_at_monotonic for event in events]
    assert times == sorted(times)
    assert feed.late_events == 0


def test_for_a_console_what_is_told_late_comes_late_and_is_counted(folder: RunFolder) -> None:
    feed, events = read_along(folder, patient=False)
    late = [
        event
        for before, event in pairwise(events)
        if event.captured_at_monotonic < before.captured_at_monotonic
    ]
    assert [event.event_kind for event in late] == ["request_wait_started"]
    assert feed.late_events == 1


def test_a_journal_says_whose_words_it_is_in(folder: RunFolder) -> None:
    assert isinstance(open_journal(folder), ForeignJournalFeed)
