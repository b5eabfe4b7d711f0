"""JSON Lines that grow while they are read: torn, truncated, replaced, or left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from engine.events import (
    Event,
)
from replay.sources.file_source import SILENCE_SECONDS
from tests.fixtures.data_designer_format import generate
from tests.fixtures.data_designer_format import lines as simulated
from tests.replay.sources.json_lines import (
    Clock,
    Open,
    append,
    drain,
    encoded,
    identities,
)


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
        key=lambda item: item[1],
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
