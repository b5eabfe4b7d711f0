"""Finished files of JSON Lines: compressed, torn, resumed, with a header and without."""

from __future__ import annotations

import gzip
from pathlib import Path

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
from replay.sources import foreign_lines
from replay.sources.base import SourceError
from tests.fixtures.data_designer_format import generate
from tests.fixtures.data_designer_format import lines as simulated
from tests.replay.sources.json_lines import (
    Clock,
    Open,
    append,
    drain,
    encoded,
)


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
    monkeypatch.setattr(foreign_lines, "WINDOW", 300)
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
