"""A session without history: the newest frame of a live run, and how far behind it is."""

from __future__ import annotations

from pathlib import Path

from engine.workflow.demo import demo_workflow
from replay.playback.frame import Want
from replay.playback.session import Session
from replay.runs.open import open_source
from replay.runs.recorder import finish_import
from tests.engine_run import run_engine
from tests.replay.producer import Producer

WANT = Want()


def test_its_frames_are_those_of_a_session_with_history(tmp_path: Path) -> None:
    ran = run_engine(demo_workflow(records=30))
    producer = Producer(tmp_path, ran.run)
    place = producer.folder.path
    whole, newest = Session.open(place), Session.open(place, history=False)
    step = len(ran.events) // 7
    for start in range(0, len(ran.events), step):
        producer.write(ran.events[start : start + step])
        for session in (whole, newest):
            while session.refresh():
                pass
        frame = newest.frame(WANT)
        assert frame == whole.frame(WANT)
        assert frame.ordinal == min(start + step, len(ran.events))
        kept = newest.reader._rows("SELECT (SELECT count(*) FROM events), count(*) FROM keyframes")
        assert kept == [(0, 0)]
    assert frame.blame
    assert frame.ceilings
    producer.end(ran.events[-1].captured_at_monotonic)
    for session in (whole, newest):
        while session.refresh():
            pass
    assert newest.frame(WANT) == whole.frame(WANT)
    assert newest.frame(WANT).liveness == "ended"
    finish_import(producer.folder)
    for session in (whole, newest):
        session.close()


def test_what_waits_to_be_read_makes_it_late(tmp_path: Path) -> None:
    ran = run_engine(demo_workflow(records=30))
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events)
    assert ran.run.wall_start is not None
    end = ran.run.wall_start + ran.events[-1].captured_at_monotonic - ran.run.monotonic_start
    opened = open_source(producer.folder.path)
    session = Session(opened.feed, None, "run", history=False, wall=lambda: end + 5.0)
    session.refresh(budget_seconds=0.0)
    first = session.frame(WANT)
    read = first.t1 - ran.run.monotonic_start
    assert first.ordinal < len(ran.events)
    assert session.lag_seconds == end + 5.0 - (ran.run.wall_start + read)
    while session.refresh():
        pass
    assert session.lag_seconds == 0.0
    session.close()
    producer.lock.release()
