"""A journal in Data Designer's words: as it comes for a console, by time for a recorder."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.events import Event, JournalEnd, JournalHeader, RunInfo, encode_lines
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
from replay.projections.fold import Fold
from replay.sources.feed import Feed, open_journal
from tests.fixtures.data_designer_format import lines as simulated

HEADER = JournalHeader(RunInfo("r1", "desk", producer="data_designer"), 1, 1, "data_designer")
LATE_SECONDS = 3.0
LATE_KINDS = ("request_wait_started", "request_lease_acquired")
"""Told by whoever admits the attempt, and only when the wait of that one is over as well."""


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


def out_of_order(kind: str) -> list[dict[str, Any]]:
    """A run's lines, of which one about an attempt in mid-run is told long after its time."""
    lines = sorted(simulated(storm=True), key=lambda line: float(line["captured_at_monotonic"]))
    begun = [place for place, line in enumerate(lines) if line["event_kind"] == kind]
    late = lines.pop(begun[len(begun) // 2])
    reported_at = float(late["captured_at_monotonic"]) + LATE_SECONDS
    place = next(
        place
        for place, line in enumerate(lines)
        if float(line["captured_at_monotonic"]) > reported_at
    )
    return [*lines[:place], late, *lines[place:]]


def read_along(folder: RunFolder, kind: str, patient: bool) -> tuple[Feed, list[Event]]:
    """Everything, read bit by bit while it is written, and when the producer has ended."""
    clock = Clock()
    feed = open_journal(folder, patient=patient, clock=clock)
    events: list[Event] = []
    lines = out_of_order(kind)
    with ProcessLock(folder.lock):
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


@pytest.mark.parametrize("kind", LATE_KINDS)
def test_for_a_recorder_each_event_stands_where_its_time_belongs(
    folder: RunFolder, kind: str
) -> None:
    feed, events = read_along(folder, kind, patient=True)
    times = [event.captured_at_monotonic for event in events]
    assert times == sorted(times)
    assert feed.late_events == 0


@pytest.mark.parametrize("kind", LATE_KINDS)
def test_for_a_console_what_is_told_late_begins_nothing_anew(folder: RunFolder, kind: str) -> None:
    feed, events = read_along(folder, kind, patient=False)
    late = [
        event
        for before, event in pairwise(events)
        if event.captured_at_monotonic < before.captured_at_monotonic
    ]
    assert [event.event_kind for event in late] == [kind]
    assert late[0].diagnostics["late"] is True
    assert feed.late_events == 1
    assert feed.run is not None
    fold = Fold(feed.run)
    fold.apply(events, 1)
    state = fold.state
    assert not state.attempts
    assert {ceiling.in_flight + ceiling.waiters for ceiling in state.ceilings.values()} == {0}
    assert not state.malformed
    assert state.orphans == 0


@pytest.mark.parametrize("patient", [True, False])
def test_waiting_calls_are_counted_while_they_wait(folder: RunFolder, patient: bool) -> None:
    feed, events = read_along(folder, "request_wait_started", patient)
    assert feed.run is not None
    fold = Fold(feed.run)
    reported = 0
    for ordinal, event in enumerate(events, 1):
        fold.apply([event], ordinal)
        if event.event_kind != "scheduler_health_snapshot":
            continue
        for resource, pressure in event.diagnostics["request_pressure"].items():
            reported += pressure["waiters"]
            assert fold.state.ceilings[resource].waiters == pressure["waiters"]
    assert reported > 0


def test_a_journal_says_whose_words_it_is_in(folder: RunFolder) -> None:
    append(folder, json.dumps(simulated(storm=True)[0]).encode() + b"\n")
    assert len(open_journal(folder).poll().events) == 1


def test_a_poll_brings_what_is_there_however_long_it_must_be_held(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.sources.journal_source.LINES_PER_RELEASE", 20)
    lines = simulated(storm=True)
    append(folder, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    with ProcessLock(folder.lock):
        feed = open_journal(folder)
        assert feed.poll().events
        feed.close()
    feed = open_journal(folder)
    assert len(feed.poll(10**6).events) == len(lines)
    feed.close()


@pytest.mark.parametrize("at", ["9e9", "1"])
@pytest.mark.parametrize("lines_per_poll", [1, 3, 1_000])
def test_a_first_line_of_another_time_does_not_cost_the_others(
    tmp_path: Path, at: str, lines_per_poll: int
) -> None:
    lines = [json.dumps(line).encode() + b"\n" for line in simulated(storm=False)]
    start = float(json.loads(lines[0])["captured_at_monotonic"]) + 1e8
    moved = [
        {**line, "captured_at_monotonic": line["captured_at_monotonic"] + 1e8}
        for line in map(json.loads, lines)
    ]
    odd = json.dumps({**moved[0], "captured_at_monotonic": "~"}).replace('"~"', at)
    folder = RunFolder.create(tmp_path / "run")
    run = RunInfo("r1", "desk", producer="data_designer", monotonic_start=start)
    append(folder, encode_lines([JournalHeader(run, 1, 1, "data_designer")]))
    events, broken = [], []
    written = [odd, *map(json.dumps, moved)]
    with ProcessLock(folder.lock):
        feed = open_journal(folder)
        for begin in range(0, len(written), lines_per_poll):
            some = written[begin : begin + lines_per_poll]
            append(folder, "".join(line + "\n" for line in some).encode())
            batch = feed.poll()
            events += batch.events
            broken += batch.broken
    batch = feed.poll(10**6)
    feed.close()
    broken += batch.broken
    assert len(events) + len(batch.events) == len(moved)
    assert len(broken) == 1
    assert "more than a year away" in broken[0].problem
