"""Who watched a run and who replays its recording see the same, at every instant both saw."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from engine.events import Event, RunInfo
from engine.workflow.demo import demo_workflow
from replay.diagnosis.report.build import build_report
from replay.playback.capacity import Plan
from replay.playback.frame import Frame, Want
from replay.playback.session import Session
from replay.runs.recorder import finish_import
from replay.state.rows import BlameRow
from tests.engine_run import run_engine
from tests.replay.producer import Producer
from tests.replay.random_engine import Play
from tests.replay.stretches import bin_by_bin

WANTS = (
    Want(samples=12, span=3.0, bars=60, events=5, capacity=True),
    Want(samples=60, span=60.0, bars=200, events=0, capacity=True),
)


def demo_run() -> tuple[RunInfo, list[Event]]:
    """Of the engine itself: 429 storms, cooldowns, falling and rising ceilings."""
    ran = run_engine(demo_workflow(records=40))
    return ran.run, ran.events


def settled(frame: Frame) -> Frame:
    """Without what is about the present of the source, not about the instant that is shown."""
    return replace(
        frame,
        liveness="ended",
        recorded=True,
        following=False,
        t1=0.0,
        last_ordinal=0,
        notes=(),
        lag=0.0,
    )


RETROSPECTIVE = {"lost_wakeup", "queue_order", "request_waiters_ahead"}
"""Verdicts of time that was pending: named when it is proved, for the seconds in which it was."""


def named_later(known: list[BlameRow], recorded: list[BlameRow], until: int) -> bool:
    """Is there blame of the bins before `until` that was not known yet? Only of those verdicts."""
    before = set(map(repr, known))
    later = [row for row in recorded if row.bin < until and repr(row) not in before]
    assert {row.verdict for row in later} <= RETROSPECTIVE
    return bool(later)


def in_one_batch(plan: Plan) -> Plan:
    return {part: values for part, values in plan.items() if part != "observed_maxima"}


def read_all(session: Session) -> None:
    while session.refresh():
        pass


@pytest.mark.parametrize("seed", ["demo", 11, 12])
@pytest.mark.parametrize("ending", ["whole", "lost"])
def test_the_recording_shows_what_was_seen_live(
    tmp_path: Path, play: Play, seed: int | str, ending: str
) -> None:
    run, events = demo_run() if isinstance(seed, str) else play(seed, row_groups=3)
    if ending == "lost":
        events = events[: len(events) * 2 // 3]
    dice = random.Random(str(seed))
    producer = Producer(tmp_path, run)
    live = Session.open(producer.folder.path)
    seen: dict[tuple[int, Want], Frame] = {}
    looked_back: dict[tuple[int, Want], Frame] = {}
    known: dict[int, list[BlameRow]] = {}
    known_then: dict[int, list[BlameRow]] = {}
    written = 0
    while written < len(events):
        if dice.random() < 0.1:
            producer.begin_segment()
        piece = dice.choice((1, 1, 2, 5, 40, len(events) // 20))
        producer.write(events[written : written + piece])
        written = min(len(events), written + piece)
        read_all(live)
        known[written] = bin_by_bin(live.rows.blame(-1, 10**6, "run"))
        for want in WANTS:
            seen[written, want] = live.frame(want)
        if dice.random() < 0.15:
            live.seek_ordinal(dice.randint(1, written))
            frame = live.frame(WANTS[0])
            looked_back[frame.ordinal, WANTS[0]] = frame
            known_then[frame.ordinal] = known[written]
            live.follow()
    if ending == "whole":
        producer.end(events[-1].captured_at_monotonic)
    else:
        producer.lock.release()
    read_all(live)
    states = {n: live.reader.state_at(n) for n, _ in list(seen)[::40]}
    last, why = live.frame(WANTS[1]), build_report(live.reader)
    live.close()
    finish_import(producer.folder)
    recorded = Session.open(producer.folder.recording)
    assert recorded.frame(WANTS[1]) == last
    assert build_report(recorded.reader) == why
    for n, state in states.items():
        assert recorded.reader.state_at(n) == state
    blame = bin_by_bin(recorded.reader.blame(-1, 10**6, "run"))
    compared = 0
    for watched, rows in ((looked_back, known_then), (seen, known)):
        for (ordinal, want), frame in watched.items():
            if ordinal == len(events):
                continue  # the end of a run that is over shows more than its last live instant
            recorded.seek_ordinal(ordinal)
            now = recorded.frame(want)
            pending = named_later(rows[ordinal], blame, int(now.at - run.monotonic_start))
            compared += not pending
            for name in Frame.__slots__:
                if pending and name in ("blame", "bottleneck", "answer"):
                    continue
                left, right = getattr(settled(now), name), getattr(settled(frame), name)
                if name == "capacity":  # only a recording knows the maxima of all its time
                    left, right = in_one_batch(left), in_one_batch(right)
                assert left == right, (ordinal, name)
    assert compared > len(seen) // 4
    recorded.close()
