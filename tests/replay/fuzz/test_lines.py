"""Lines of any kind, from any reader: no crash, nothing that steers a terminal, all counted."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import JournalHeader, RunInfo, encode_lines
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
from tests.replay.fuzz.exercise import ask_all, look_at
from tests.replay.fuzz.hostile import bounded, foreign_lines, own_lines, streams

OWN, FOREIGN = own_lines(), foreign_lines()


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="headgate-fuzz-") as name:
        yield Path(name)


@pytest.mark.parametrize("lines", [OWN, FOREIGN], ids=["own", "foreign"])
@bounded(10)
@given(data=st.data())
def test_a_file_of_lines(lines: list[bytes], data: st.DataObject) -> None:
    with folder() as place:
        path = place / "scheduler_events.jsonl"
        path.write_bytes(data.draw(streams(lines)))
        look_at(path)
        look_at(path, growing=True)


@bounded(10)
@given(content=streams(OWN), segments=st.integers(1, 3), known=st.booleans())
def test_a_journal(content: bytes, segments: int, known: bool) -> None:
    with folder() as place:
        journal_of(place / "run", content, segments, known)
        look_at(place / "run")


@bounded(10)
@given(content=streams(FOREIGN), segments=st.integers(1, 3), known=st.booleans())
def test_a_journal_in_a_foreign_producer_s_words(
    content: bytes, segments: int, known: bool
) -> None:
    run = RunInfo("run-1", "test", producer="data_designer")
    with folder() as place:
        header = encode_lines([JournalHeader(run, 1, 1, "data_designer")])
        journal_of(place / "run", header + content, segments, known)
        look_at(place / "run")


@bounded(3)
@given(data=st.data(), lines=st.sampled_from([OWN, FOREIGN]), journal=st.booleans())
def test_every_command(data: st.DataObject, lines: list[bytes], journal: bool) -> None:
    with folder() as place:
        content = data.draw(streams(lines))
        path = place / "scheduler_events.jsonl"
        if journal:
            path = journal_of(place / "run", content, 2, True).path
        else:
            path.write_bytes(content)
        ask_all(path)


@bounded(8)
@given(content=streams(OWN), cut=st.integers(0, 4_000), flip=st.integers(0, 2**31))
def test_a_damaged_gzip_file(content: bytes, cut: int, flip: int) -> None:
    with folder() as place:
        path = place / "run.jsonl.gz"
        packed = bytearray(gzip.compress(content, 1))
        if flip % 2:
            packed[flip % len(packed)] ^= 1 << flip % 8
        path.write_bytes(packed[: max(1, len(packed) - cut)])
        look_at(path)


def journal_of(path: Path, content: bytes, segments: int, known: bool) -> RunFolder:
    """A run folder whose producer is gone; its journal cut into segments at whole lines."""
    run = RunFolder.create(path)
    if known:
        write_record(run, RunRecord("run-1", "test", "running", wall_start=1_700_000_000.0))
    lines = content.split(b"\n")
    size = len(lines) // segments + 1
    for number in range(segments):
        part = b"\n".join(lines[number * size : (number + 1) * size])
        run.segment(number + 1).write_bytes(part + (b"\n" if number + 1 < segments else b""))
    return run
