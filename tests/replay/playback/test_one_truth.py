"""The console's frame, `why`, `replay --once` and SQL say the same at every second of a run."""

from __future__ import annotations

import itertools
import lzma
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from console.cli.main import run_cli
from console.cli.presenter import read_all
from console.headless import summary
from replay.diagnosis.report.build import build_report
from replay.diagnosis.report.losses import losses
from replay.diagnosis.report.schema import WhyReport
from replay.diagnosis.verdicts import WORKING
from replay.playback.frame import Frame, Want
from replay.playback.session import Session
from replay.recording.query import RecordingQuery
from replay.runs.materialize import materialize
from tests.effort import effort
from tests.replay.conftest import WriteJournal
from tests.replay.random_engine import Play

CASES = Path(__file__).parents[2] / "truth" / "cases"
NAMES = (
    "storm.own",
    "hang1.native",
    "block.exec",
    "r401.own",
    "slowroot.exec",
    "longblock.own",
    "r429_ra5.own",
    "lowcap.native",
    "spin.exec",
    "unknown.own",
)
SHOWN_SECONDS = 0.05
"""Times are written to 0.1 s, and an instant is reached by the time that is written for it."""


@pytest.fixture(params=NAMES[: effort(2, len(NAMES))])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    lines = tmp_path / f"{request.param}.jsonl"
    lines.write_bytes(lzma.decompress((CASES / f"{request.param}.jsonl.xz").read_bytes()))
    with materialize(lines, lambda sentence: None) as path:
        yield path


@pytest.fixture
def session(recording: Path) -> Iterator[Session]:
    session = Session.open(recording, growing=False)
    read_all(session)
    yield session
    session.close()


def seconds_of(session: Session) -> Iterator[Frame]:
    """A frame at each whole second of the producer's clock, of all the run until then."""
    first = session.frame(Want())
    start = first.run.monotonic_start
    end = first.t1 - start - SHOWN_SECONDS
    for second in range(math.ceil(first.t0 - start) + 1, math.floor(end) + 1):
        session.seek_time(start + second)
        yield session.frame(Want(span=second + 1.0, standing=True, capacity=True))


def test_blame_and_the_first_paragraph(session: Session, recording: Path) -> None:
    with closing(RecordingQuery(recording)) as query:
        seen = 0
        for frame in seconds_of(session):
            report = build_report(session.reader, (frame.t0, frame.at))
            said = {(line.verdict, line.resource): line.fraction for line in report.run_blame}
            shown = {(share.verdict, share.resource): share.fraction for share in frame.blame}
            assert shown == pytest.approx(said)
            until = frame.at - frame.t0
            _, rows = query.run(
                "SELECT verdict, resource, sum(seconds) FROM blame"
                f" WHERE scope = 'run' AND t < {until - 0.5!r} GROUP BY ALL"
            )
            requested = {(row[0], row[1] or None): row[2] for row in rows}
            total = sum(requested.values())
            assert {place: s / total for place, s in requested.items()} == pytest.approx(said)
            assert frame.answer is not None
            assert frame.answer.text == report.answer
            seen += 1
        assert seen > 3


def test_verdicts_of_an_instant(session: Session, recording: Path) -> None:
    with closing(RecordingQuery(recording)) as query:
        for frame in seconds_of(session):
            at = frame.at - frame.t0
            shown = {(row.verdict, row.resource, row.sentence) for row in frame.standing}
            report = build_report(session.reader, (frame.at, frame.at))
            said = {
                (row.verdict, row.resource, row.sentence): (row.start, row.end)
                for row in report.verdicts
            }
            assert shown <= said.keys()
            for other in said.keys() - shown:
                start, end = said[other]
                assert not start + SHOWN_SECONDS < at < end - SHOWN_SECONDS, other
            _, rows = query.run(
                "SELECT verdict, resource, sentence FROM stalls"
                f" WHERE started_at <= {at!r} AND ended_at >= {at!r}"
            )
            assert {tuple(row) for row in rows} == shown


def test_what_limits_the_run_is_its_largest_loss(session: Session) -> None:
    for frame in seconds_of(session):
        if frame.bottleneck is None or frame.bottleneck.verdict == WORKING:
            continue
        largest = losses(frame.blame, ())[0]
        assert frame.bottleneck.verdict == largest.verdict
        assert frame.bottleneck.fraction == pytest.approx(largest.fraction)


def test_one_snapshot_of_an_instant(
    session: Session, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = []
    for frame in seconds_of(session):
        span = max(1.0, frame.at - frame.t0 + 1.0)
        frames.append(session.frame(Want(span=span, standing=True, capacity=True)))
    session.close()
    for whole in frames[:: max(1, len(frames) // 3)]:
        at = repr(whole.at - whole.t0)
        assert run_cli(["replay", str(recording), "--once", "--at", at]) == 0
        printed = capsys.readouterr().out
        assert printed.rstrip("\n") == summary(whole)
        assert whole.answer is not None
        assert whole.answer.text in " ".join(printed.split())


def test_every_instant_of_the_console_is_reached(
    session: Session, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = session.frame(Want(verdicts=100))
    session.close()
    for row in frame.verdicts[-effort(6, 100) :]:
        for instant in (row.start, row.end):
            at = f"{max(0.0, instant - frame.t0):.1f}"
            assert run_cli(["why", str(recording), "--at", at, "--fail-on", row.verdict]) == 1
            capsys.readouterr()


def seconds_of_blame(reports: list[WhyReport]) -> dict[tuple[str, str | None], float]:
    """Of the run's slots, by what they were under."""
    seconds: dict[tuple[str, str | None], float] = {}
    for report in reports:
        for line in report.run_blame:
            place = (line.verdict, line.resource)
            seconds[place] = seconds.get(place, 0.0) + line.fraction * report.run_seconds
    return seconds


def test_parts_of_a_run_add_up_to_it(session: Session) -> None:
    reader = session.reader
    bounds = reader.bounds()
    whole = build_report(reader)
    for parts in (2, 5):
        length = (bounds.t1 - bounds.t0) / parts
        edges = [bounds.t0 + length * number for number in range(parts)] + [bounds.t1]
        reports = [build_report(reader, window) for window in itertools.pairwise(edges)]
        assert math.fsum(part.run_seconds for part in reports) == pytest.approx(whole.run_seconds)
        assert math.fsum(part.cell_seconds for part in reports) == pytest.approx(whole.cell_seconds)
        assert seconds_of_blame(reports) == pytest.approx(seconds_of_blame([whole]), abs=0.01)
        reported = {(line.resource, line.column, line.error): line.times for line in whole.errors}
        sums: dict[tuple[str | None, str | None, str], int] = {}
        for line in (line for part in reports for line in part.errors):
            place = (line.resource, line.column, line.error)
            sums[place] = sums.get(place, 0) + line.times
        assert sums == reported


def test_the_loss_of_a_producer_is_reached_where_it_is_shown(
    play: Play, write_journal: WriteJournal, capsys: pytest.CaptureFixture[str]
) -> None:
    run, events = play(3)
    folder = write_journal(run, events[: len(events) * 2 // 3], ended=False)
    with closing(Session.open(folder.path, growing=False)) as session:
        read_all(session)
        frame = session.frame(Want(verdicts=100))
    (gone,) = [row for row in frame.verdicts if row.verdict == "producer_gone"]
    for instant in (gone.start, gone.end):
        at = f"{instant - frame.t0:.1f}"
        assert run_cli(["why", str(folder.path), "--at", at, "--fail-on", "producer_gone"]) == 1
        assert "producer_gone" in capsys.readouterr().out
