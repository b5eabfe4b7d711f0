"""Rates and ETA through a hang, a storm and what follows: they never outlive the work.

The run is walked through in steps of half a second. What is true of each instant is known from
when its cells were done, by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from console.cli.presenter import read_all
from console.headless import status_line
from console.paint import StyledLine
from console.playback_mode import PlaybackView
from console.theme import Appearance
from console.widgets.header import Header
from engine.events import JournalEnd, JournalHeader, encode_lines
from replay.playback.frame import Frame, Want
from replay.playback.session import Session
from tests.replay.diagnosis.stream import BETA, VERDICT, Stream

QUIET_SECONDS = 5.0
RECORDS = 60


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[tuple[Session, list[float]]]:
    """Two cells a second for 10 s, a call that hangs 12 s, 429s for 8 s, then the rest."""
    stream = Stream((VERDICT,))
    stream.run = msgspec.structs.replace(stream.run, records=RECORDS)
    stream.register(BETA, 1)
    done: list[float] = []
    row = 0

    def cells(until: float, seconds: float = 0.5) -> None:
        nonlocal row
        while stream.now - 100.0 < until - 1e-6 and row < RECORDS:
            work = stream.call(stream.begin(VERDICT, row))
            stream.at(stream.now - 100.0 + seconds)
            stream.complete(work)
            done.append(stream.now - 100.0)
            row += 1

    cells(10.0)
    cells(22.0, seconds=12.0)
    cells(25.0)
    work = stream.begin(VERDICT, row)
    row += 1
    while stream.now - 100.0 < 33.0:
        stream.call(work)
        stream.at(stream.now - 100.0 + 0.1)
        stream.answer(work, "rate_limited", blocked_until=stream.now + 0.9, blocked_seconds=0.9)
        stream.at(stream.now - 100.0 + 0.9)
    stream.call(work)
    stream.at(stream.now - 100.0 + 0.5)
    stream.complete(work)
    done.append(stream.now - 100.0)
    cells(60.0)
    stream.scheduler("scheduler_job_completed", reason="success")
    path = tmp_path / "walk.jsonl"
    end = JournalEnd("success", stream.now, 0, 0)
    path.write_bytes(encode_lines([JournalHeader(stream.run, 1, 1), *stream.events, end]))
    with closing(Session.open(path, growing=False)) as session:
        read_all(session)
        yield session, done


def instants(session: Session) -> Iterator[Frame]:
    """As they were seen while the run went on."""
    length = session.frame(Want()).t1 - 100.0
    for step in range(1, int(2 * length)):
        session.seek_time(100.0 + step / 2 + 0.01)
        yield replace(session.frame(Want()), liveness="live")


def words(frame: Frame) -> str:
    header = Header(Appearance(), "walk")
    view = PlaybackView("LIVE", None, frame.at - frame.t0)
    header.show(frame, view)
    lines: list[StyledLine] = list(header.draw(150, 2))
    return " ".join("".join(text for text, _ in line) for line in lines)


def test_a_standstill_is_told_from_five_seconds_on_and_counts_up(
    walk: tuple[Session, list[float]],
) -> None:
    session, done = walk
    silent = 0
    for frame in instants(session):
        at = frame.at - 100.0
        quiet = at - max((cell for cell in done if cell <= at), default=0.0)
        texts = (words(frame), status_line(frame))
        if quiet < QUIET_SECONDS:
            assert frame.quiet_seconds is None, at
            assert not any("no cell done" in text for text in texts)
            continue
        silent += 1
        assert frame.quiet_seconds == pytest.approx(quiet)
        assert (frame.rows_per_second, frame.tokens_per_second, frame.eta_seconds) == (None,) * 3
        for text in texts:
            assert "no cell done for" in text
            assert "rows/s" not in text
            assert "ETA 0" not in text
            assert " left" not in text
    assert silent == pytest.approx(2 * ((12.0 - QUIET_SECONDS) + (8.5 - QUIET_SECONDS)), abs=2)


def test_the_eta_is_near_the_truth_while_cells_are_done_steadily(
    walk: tuple[Session, list[float]],
) -> None:
    session, done = walk
    reported = 0
    for frame in instants(session):
        at = frame.at - 100.0
        if not (5.0 <= at <= 9.5 or at >= done[-1] - 5.0):
            continue
        if frame.eta_seconds is None:
            continue
        left = (RECORDS - sum(cell <= at for cell in done)) * 0.5
        if at <= 9.5:
            assert frame.eta_seconds == pytest.approx(left, rel=0.25, abs=1.0), at
        else:  # the rate is that of the last while, and some of that was the storm
            assert left - 1.0 <= frame.eta_seconds <= 3 * left + 1.0, at
        reported += 1
    assert reported > 10
