"""A session beside a live recorder: it repeats none of the recorder's work, and shows the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.events import Event, RunInfo
from engine.workflow.demo import demo_workflow
from replay.diagnosis.diagnosis import Diagnosis
from replay.playback import attached as attached_module
from replay.playback.attached import Attached
from replay.playback.frame import Frame, Want
from replay.playback.session import Session
from replay.recording import live_link, writer
from replay.recording.live_link import LinkLost, RecordingLink
from replay.recording.writer import RecordingWriter
from replay.runs import recorder as recorder_module
from replay.state.model import State
from replay.state.reducer import reduce
from tests.engine_run import Ran, run_engine
from tests.replay.producer import Producer
from tests.replay.recording.processes import Processes, within

WANT = Want(
    samples=30,
    span=20.0,
    bars=40,
    events=8,
    verdicts=8,
    standing=True,
    queue=True,
    blame=True,
    capacity=True,
)
JUMP_EVENTS = 500


@pytest.fixture(scope="module")
def ran() -> Ran:
    return run_engine(demo_workflow(records=40))


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    for process in started.started:
        process.kill()
        process.communicate()


def end_of(ran: Ran, events: list[Event]) -> float:
    """Unix time at which the last of these happened."""
    assert ran.run.wall_start is not None
    return ran.run.wall_start + events[-1].captured_at_monotonic - ran.run.monotonic_start


def attach(session: Session, until: int) -> Attached:
    """Once the recorder has so many events, and the session too."""

    def reached() -> bool:
        while session.refresh():
            pass
        source = session._ingest
        return isinstance(source, Attached) and source.recorded[0] == until

    assert within(30, reached)
    source = session._ingest
    assert isinstance(source, Attached)
    return source


def alone(session: Session) -> Session:
    """One that reads the journal for itself."""
    session._attach_at = float("inf")
    while session.refresh():
        pass
    return session


def same(frame: Frame, other: Frame) -> None:
    assert replace(frame, lag=0.0) == replace(other, lag=0.0)


def test_it_shows_what_a_session_shows_that_reads_alone(
    tmp_path: Path, ran: Ran, processes: Processes
) -> None:
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events[:300])
    processes.recorder(producer.folder)
    sessions = [Session.open(producer.folder.path, history=history) for history in (True, False)]
    reader = Session.open(producer.folder.path)
    for start in range(300, 2_100, 600):
        now = end_of(ran, ran.events[:start])
        for session in sessions:
            session._wall = lambda now=now: now  # type: ignore[misc]
            attach(session, start)
            same(session.frame(WANT), alone(reader).frame(WANT))
        middle = start * 2 // 3
        for session in (sessions[0], reader):
            session.seek_ordinal(middle)
        same(sessions[0].frame(WANT), reader.frame(WANT))
        for session in (sessions[0], reader):
            session.follow()
        producer.write(ran.events[start : start + 600])
    for session in (*sessions, reader):
        session.close()
    producer.lock.release()


def test_who_is_far_behind_takes_the_state_of_the_recorder_at_once(
    tmp_path: Path, ran: Ran, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached_module, "JUMP_EVENTS", JUMP_EVENTS)
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events[:200])
    processes.recorder(producer.folder)
    session = Session.open(producer.folder.path)
    source = attach(session, 200)
    source._jump_events = JUMP_EVENTS
    behind = ran.events[:3_000]
    session._wall = source._wall = lambda: end_of(ran, behind)
    producer.write(behind[200:])
    reader = alone(Session.open(producer.folder.path))
    link = RecordingLink.open(producer.folder)
    assert link is not None
    assert within(30, lambda: (known := link.known()) is not None and known.ordinal == 3_000)
    link.close()
    reduced: list[int] = []
    monkeypatch.setattr(
        attached_module, "reduce", lambda state, event, ordinal, run: reduced.append(ordinal)
    )
    assert within(5, session.refresh)  # a single step that read any line would be seen
    assert reduced == []
    same(session.frame(WANT), reader.frame(WANT))
    for place in (250, 1_500, 2_999):
        for viewer in (session, reader):
            viewer.seek_ordinal(place)
        assert session.frame(WANT).ordinal == place
        same(session.frame(WANT), reader.frame(WANT))
    session.close()
    reader.close()
    producer.lock.release()


def test_neither_diagnosis_nor_tables_are_made_beside_a_recorder(
    tmp_path: Path, ran: Ran, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events[:200])
    processes.recorder(producer.folder)
    session = Session.open(producer.folder.path, history=False)
    attach(session, 200)

    def refuse(*_: object) -> None:
        raise AssertionError("the recorder does this")

    monkeypatch.setattr(Diagnosis, "after", refuse)
    monkeypatch.setattr(RecordingWriter, "append", refuse)
    producer.write(ran.events[200:2_000])
    attach(session, 2_000)
    frame = session.frame(WANT)
    assert frame.ordinal == 2_000
    assert frame.blame
    session.close()
    producer.lock.release()


def test_before_a_recorder_that_stands_still_the_state_goes_on_and_says_so(
    tmp_path: Path, ran: Ran, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events[:300])
    processes.recorder(producer.folder)
    session = Session.open(producer.folder.path)
    source = attach(session, 300)
    known = source._known
    monkeypatch.setattr(source._link, "known", lambda *_, **__: known)
    producer.write(ran.events[300:1_500])
    source._recorder_lag = 20.0
    while session.refresh():
        pass
    frame = session.frame(WANT)
    assert frame.ordinal == 1_500
    reader = alone(Session.open(producer.folder.path))
    assert frame.progress == reader.frame(WANT).progress
    assert frame.groups == reader.frame(WANT).groups
    assert [note for note in frame.notes if note.startswith("The recorder is ")]
    session.seek_ordinal(1_400)
    assert session.frame(WANT).ordinal == 300, "as far as there are events to show"
    session.follow()
    monkeypatch.undo()
    attach(session, 1_500)
    same(session.frame(WANT), reader.frame(WANT))
    session.close()
    reader.close()
    producer.lock.release()


def test_a_checkpoint_of_the_recorder_costs_no_frame(
    tmp_path: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1)
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events[:300])
    ended = threading.Event()
    recorder = threading.Thread(
        target=recorder_module._record, args=(producer.folder, ended.is_set)
    )
    recorder.start()
    session, reader = Session.open(producer.folder.path), Session.open(producer.folder.path)
    for start in range(300, 1_500, 300):
        attach(session, start)
        reads = session.reader.events(1, 2)
        assert len(reads) == 2
        producer.write(ran.events[start : start + 300])
        link = RecordingLink.open(producer.folder)
        assert link is not None
        assert within(30, lambda link=link, until=start + 300: at(link) == until)  # type: ignore[misc]
        link.close()
        session.frame(WANT)
    attach(session, 1_500)
    same(session.frame(WANT), alone(reader).frame(WANT))
    session.close()
    reader.close()
    ended.set()
    recorder.join(30)
    producer.lock.release()


def at(link: RecordingLink) -> int:
    known = link.known()
    return 0 if known is None else known.ordinal


def test_without_its_recorder_it_reads_alone(
    tmp_path: Path, ran: Ran, processes: Processes
) -> None:
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events[:900])
    recorder = processes.recorder(producer.folder)
    session = Session.open(producer.folder.path)
    attach(session, 900)
    before = session.frame(WANT)
    recorder.kill()
    recorder.wait()
    session._lost_at = None
    with pytest.raises(LinkLost):
        session.reader.bounds()
    assert session.frame(WANT) is not None
    producer.write(ran.events[900:1_200])

    def all_read() -> bool:
        session.refresh()
        return session.frame(WANT).ordinal == 1_200

    assert within(30, all_read)
    reader = alone(Session.open(producer.folder.path))
    same(session.frame(WANT), reader.frame(WANT))
    assert before.ordinal == 900
    session.close()
    reader.close()
    producer.lock.release()


@pytest.mark.parametrize("following", [True, False])
def test_at_the_end_it_goes_on_in_the_recording(
    tmp_path: Path, ran: Ran, processes: Processes, following: bool
) -> None:
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events[:600])
    recorder = processes.recorder(producer.folder)
    session = Session.open(producer.folder.path)
    attach(session, 600)
    if not following:
        session.seek_ordinal(400)
    producer.write(ran.events[600:])
    producer.end(ran.events[-1].captured_at_monotonic)

    def over() -> bool:
        session.refresh()
        session.frame(WANT)
        return session.finished

    assert within(30, over)
    assert recorder.wait(30) == 0
    frame = session.frame(WANT)
    assert frame.recorded
    assert frame.last_ordinal == len(ran.events)
    assert frame.ordinal == (len(ran.events) if following else 400)
    session.close()


def test_beside_a_recorder_that_was_busy_it_goes_on_where_it_was(
    tmp_path: Path, ran: Ran, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_link, "ANSWER_SECONDS", 0.5)
    producer = Producer(tmp_path, ran.run)
    producer.write(ran.events[:300])
    recorder = processes.recorder(producer.folder)
    session = Session.open(producer.folder.path)
    source = attach(session, 300)

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is read again")

    monkeypatch.setattr(Session, "_read_alone", refuse)
    reduced: list[int] = []

    def reduce_seen(state: State, event: Event, ordinal: int, run: RunInfo) -> None:
        reduced.append(ordinal)
        reduce(state, event, ordinal, run)

    monkeypatch.setattr(attached_module, "reduce", reduce_seen)
    recorder.send_signal(signal.SIGSTOP)

    def is_lost() -> bool:
        session.refresh()
        return source._link.lost

    assert within(10, is_lost)
    recorder.send_signal(signal.SIGCONT)
    producer.write(ran.events[300:900])
    assert attach(session, 900) is not source
    assert reduced == [*range(301, 901)]
    reader = alone(Session.open(producer.folder.path))
    same(session.frame(WANT), reader.frame(WANT))
    session.close()
    reader.close()
    producer.lock.release()
