"""A followed file that is replaced, rewritten or cut: the same lines count once, others count."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.events import JournalHeader, RunInfo, SchedulerEvent, encode_lines
from replay.sources.feed import open_lines
from tests.effort import effort
from tests.fixtures.data_designer_format import content

FOREIGN = content(storm=True, rows=6, buffer_size=3, seed=1, requests=True).splitlines(True)
ANOTHER = content(storm=False, rows=6, buffer_size=3, seed=9, requests=True).splitlines(True)
OWN = encode_lines(
    [
        JournalHeader(RunInfo("r1", "demo"), 1, 1),
        *(SchedulerEvent("selected", 5.0 + n / 100, n + 1) for n in range(400)),
    ]
).splitlines(True)
Identity = tuple[str, float, int]


class Follower:
    """A feed of a growing file, and all that it gave."""

    def __init__(self, path: Path, resume: Follower | None = None) -> None:
        self.now = 0.0
        self.feed = open_lines(path, True, clock=lambda: self.now)
        self.given: list[Identity] = [] if resume is None else resume.given
        if resume is not None:
            self.feed.resume(resume.position, len(resume.given) + 1)
        self.position: dict[str, int] = {}

    def look(self, limit: int = 10_000) -> None:
        """Twice, so that a content that was found anew is read as well."""
        for _ in range(6):
            self.now += 0.3
            batch = self.feed.poll(limit)
            assert not batch.broken, batch.broken
            self.position = batch.position
            self.given += [
                (event.event_kind, event.captured_at_monotonic, event.sequence)
                for event in batch.events
            ]

    def close(self) -> None:
        self.feed.close()


def put(path: Path, data: bytes) -> None:
    """Rename into place, as rsync does."""
    fresh = path.with_name(".fresh")
    fresh.write_bytes(data)
    os.replace(fresh, path)


def rewrite(path: Path, data: bytes) -> None:
    """The same inode: the bytes that change, and the length (`rsync --inplace`)."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def truncate_and_write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


WAYS = [put, rewrite, truncate_and_write]
Write = Callable[[Path, bytes], None]


def read_whole(path: Path, lines: list[bytes]) -> list[Identity]:
    path.write_bytes(b"".join(lines))
    feed = open_lines(path, False)
    result: list[Identity] = []
    while events := feed.poll().events:
        result += [
            (event.event_kind, event.captured_at_monotonic, event.sequence) for event in events
        ]
    feed.close()
    return result


@pytest.mark.parametrize("lines", [FOREIGN, OWN], ids=["foreign", "own"])
@pytest.mark.parametrize("write", WAYS)
@pytest.mark.parametrize("torn", [0, 11])
def test_a_file_that_is_replaced_as_it_grows_counts_once(
    tmp_path: Path, lines: list[bytes], write: Write, torn: int
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"")
    follower = Follower(path)
    for end in range(50, len(lines), 97):
        data = b"".join(lines[:end])
        write(path, data[: len(data) - torn])
        follower.look()
    write(path, b"".join(lines))
    follower.look()
    follower.close()
    assert sorted(follower.given) == sorted(read_whole(tmp_path / "whole.jsonl", lines))
    assert not any("reading goes on" in note for note in follower.feed.notes)


@pytest.mark.parametrize("lines", [FOREIGN, OWN], ids=["foreign", "own"])
def test_a_file_that_shrinks_and_grows_again_counts_once(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(lines[:300]))
    follower = Follower(path)
    follower.look()
    for end in (0, 1, 120, 299, 300, 340, len(lines)):
        path.write_bytes(b"".join(lines[:end]))
        follower.look()
    follower.close()
    assert sorted(follower.given) == sorted(read_whole(tmp_path / "whole.jsonl", lines))


@pytest.mark.parametrize("lines", [FOREIGN, OWN], ids=["foreign", "own"])
@pytest.mark.parametrize("kept", [0, 40])
@pytest.mark.parametrize("write", WAYS)
def test_a_log_that_loses_its_beginning_goes_on(
    tmp_path: Path, lines: list[bytes], write: Write, kept: int
) -> None:
    """As `copytruncate` and rotations that keep the last lines leave it."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(lines[:200]))
    follower = Follower(path)
    follower.look()
    write(path, b"".join(lines[200 - kept : 260]))
    follower.look()
    with path.open("ab") as file:
        file.write(b"".join(lines[260:]))
    follower.look()
    follower.close()
    assert sorted(follower.given) == sorted(read_whole(tmp_path / "whole.jsonl", lines))


@pytest.mark.parametrize("write", WAYS)
def test_another_run_in_its_place_is_told(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(FOREIGN[:200]))
    follower = Follower(path)
    follower.look()
    write(path, b"".join(ANOTHER))
    follower.look()
    follower.close()
    assert len(follower.given) == 200
    assert any("reading goes on" in note for note in follower.feed.notes)
    assert any("Another run has begun" in note for note in follower.feed.notes)


@pytest.mark.parametrize("lines", [FOREIGN, OWN], ids=["foreign", "own"])
@pytest.mark.parametrize("limit", [7, 10_000])
@pytest.mark.parametrize("cut", [1, 130, 300])
def test_who_resumes_on_a_replaced_file_goes_on(
    tmp_path: Path, lines: list[bytes], cut: int, limit: int
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(lines[:cut]))
    first = Follower(path)
    first.look(limit)
    first.close()
    put(path, b"".join(lines))
    second = Follower(path, resume=first)
    for _ in range(60):
        second.look(limit)
    second.close()
    assert sorted(second.given) == sorted(read_whole(tmp_path / "whole.jsonl", lines))
    assert not any("anew" in note for note in second.feed.notes)


def test_who_resumes_on_another_content_reads_all_of_it(tmp_path: Path) -> None:
    """Even where it begins with the same line."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(OWN[:100]))
    first = Follower(path)
    first.look()
    first.close()
    other = [line.replace(b'"selected"', b'"worker_spawned"') for line in OWN]
    path.write_bytes(b"".join([OWN[0], *other[1:]]))
    second = Follower(path, resume=first)
    before = len(first.given)
    second.look()
    second.close()
    assert len(second.given) == before + len(OWN) - 1
    assert "The file is another one than before: it is read anew." in second.feed.notes


@pytest.mark.parametrize("seed", range(effort(12, 200)))
def test_any_sequence_of_rewrites_counts_each_line_once(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    lines = FOREIGN if seed % 2 else OWN
    whole = b"".join(lines)
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"")
    packed = seed % 3 == 0
    follower = Follower(path)
    for _ in range(12):
        end = dice.randrange(len(whole))
        data = whole[:end]
        dice.choice(WAYS)(path, gzip.compress(data, 1) if packed else data)
        for _ in range(dice.randrange(3)):
            follower.look()
    put(path, gzip.compress(whole, 1) if packed else whole)
    follower.look()
    follower.close()
    assert sorted(follower.given) == sorted(read_whole(tmp_path / "whole.jsonl", lines))
