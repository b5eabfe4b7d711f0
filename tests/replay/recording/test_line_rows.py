"""Rows made of lines are the rows of their events, payloads included."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.events import HeaderFacts, JournalHeader, RunInfo, SchedulerEvent, encode_lines
from engine.workflow.demo import demo_workflow
from replay.recording.batch import BatchDecoder, BatchEncoder, FoldedBatch
from replay.recording.event_rows import event_row
from replay.recording.line_rows import LineRows
from replay.sources.base import Batch
from replay.sources.feed import open_lines
from tests.effort import effort
from tests.engine_run import run_engine
from tests.replay.random_engine import Play


def as_text(row: Sequence[object]) -> list[object]:
    return [value.decode() if isinstance(value, bytes) else value for value in row]


@pytest.mark.parametrize("seed", ["demo", *range(effort(3, 40))])
def test_the_rows_are_those_of_the_events(play: Play, seed: int | str) -> None:
    if isinstance(seed, str):
        ran = run_engine(demo_workflow(records=20))
        run, events = ran.run, ran.events
    else:
        run, events = play(seed)
    facts = HeaderFacts(run)
    lines = encode_lines([facts.shorten(event) for event in events]).rstrip(b"\n")
    rows = [as_text(row) for row in LineRows(run).of(lines, 5)]
    assert rows == [list(event_row(n, event)) for n, event in enumerate(events, 5)]


def read(path: Path, text: bytes) -> Batch:
    path.write_bytes(text)
    feed = open_lines(path, False)
    batch = feed.poll()
    feed.close()
    return batch


RUN = RunInfo("r", "run")
HEADER = encode_lines([JournalHeader(RUN, 1, 1)])
PLAIN = (
    b'{"stream":"scheduler","event_kind":"selected","captured_at_monotonic":0.5,"sequence":1,'
    b'"request_attempt_id":7,"snapshot":null,"diagnostics":{}}\n'
)


def test_lines_are_handed_on_where_they_stand_as_they_are_written(tmp_path: Path) -> None:
    batch = read(tmp_path / "own.jsonl", HEADER + PLAIN)
    assert batch.lines == [PLAIN.rstrip(b"\n")]
    (row,) = LineRows(RUN).of(batch.lines[0], 1)
    assert row == event_row(1, batch.events[0])


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"", PLAIN),
        (HEADER, PLAIN.replace(b":{}", b": {}")),
        (HEADER, PLAIN.replace(b":{}", b':{"a":"\\u0041"}')),
        (HEADER, PLAIN.replace(b":{}", ':{"a":"é"}'.encode())),
        (HEADER, PLAIN.replace(b":{}", b':{"a":NaN}')),
        (HEADER + encode_lines([JournalHeader(RunInfo("other", "o"), 2, 1)]), PLAIN),
    ],
    ids=["no header", "spaces", "escape", "not ASCII", "mended", "two headers"],
)
def test_no_others_are(tmp_path: Path, head: bytes, line: bytes) -> None:
    batch = read(tmp_path / "own.jsonl", head + line)
    assert len(batch.events) == 1
    assert batch.lines == []


def test_a_decoder_is_told_the_header_once_and_again_when_it_is_another() -> None:
    batch = read_batch(PLAIN)
    encoder, decoder = BatchEncoder(), BatchDecoder()
    first, second = encoder.encode(batch, RUN), encoder.encode(batch, RUN)
    assert len(second) < len(first)
    other = encoder.encode(batch, RunInfo("r", "run", records=1))
    assert len(other) > len(second)
    for data in (first, second, other):
        decoded = decoder.decode(data)
        assert decoded.events == []
        assert decoded.size == 1
        assert decoded.last_ordinal == batch.last_ordinal == 1
        assert json.dumps(as_text(decoded.event_rows[0])) == json.dumps(
            list(event_row(1, batch.events[0]))
        )


def read_batch(line: bytes) -> FoldedBatch:
    event = SchedulerEvent("selected", 0.5, 1)
    return FoldedBatch([event], 1, {}, lines=[line.rstrip(b"\n")])
