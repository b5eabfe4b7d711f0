"""A session beside a live recorder: it repeats none of the recorder's work, and shows the same."""

from __future__ import annotations

import signal
import subprocess
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
from replay.recording.live_link import LinkLost, RecordingLink, StaleRows
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


class Live:
    """A run whose journal grows, its recorder, and the sessions opened on it."""

    def __init__(self, folder: Path, ran: Ran) -> None:
        self.producer = Producer(folder, ran.run)
        self._events = ran.events
        self._processes = Processes()
        self._written = 0
        self._sessions: list[Session] = []

    def write(self, until: int) -> None:
        """Events up to this one are in the journal."""
        self.producer.write(self._events[self._written : until])
        self._written = until

    def record(self) -> subprocess.Popen[bytes]:
        return self._processes.recorder(self.producer.folder)

    def open(self, *, history: bool = True) -> Session:
        session = Session.open(self.producer.folder.path, history=history)
        self._sessions.append(session)
        return session

    def begin(self, until: int, *, history: bool = True) -> tuple[Session, Attached]:
        """A session beside a recorder that has read so many events."""
        self.write(until)
        self.record()
        session = self.open(history=history)
        return session, attach(session, until)

    @property
    def recorder(self) -> subprocess.Popen[bytes]:
        return self._processes.started[0]

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self.producer.lock.release()
        for process in self._processes.started:
            process.kill()
            process.communicate()


@pytest.fixture
def live(tmp_path: Path, ran: Ran) -> Iterator[Live]:
    live = Live(tmp_path, ran)
    yield live
    live.close()


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


def test_it_shows_what_a_session_shows_that_reads_alone(ran: Ran, live: Live) -> None:
    live.write(300)
    live.record()
    sessions = [live.open(history=history) for history in (True, False)]
    reader = live.open()
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
        live.write(start + 600)


def test_who_is_far_behind_takes_the_state_of_the_recorder_at_once(
    ran: Ran, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached_module, "JUMP_EVENTS", JUMP_EVENTS)
    session, source = live.begin(200)
    source._jump_events = JUMP_EVENTS
    behind = ran.events[:3_000]
    session._wall = source._wall = lambda: end_of(ran, behind)
    live.write(3_000)
    reader = alone(live.open())
    link = RecordingLink.open(live.producer.folder)
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
    for ordinal in (250, 1_500, 2_999):
        for viewer in (session, reader):
            viewer.seek_ordinal(ordinal)
        assert session.frame(WANT).ordinal == ordinal
        same(session.frame(WANT), reader.frame(WANT))


def test_neither_diagnosis_nor_tables_are_made_beside_a_recorder(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = live.begin(200, history=False)

    def refuse(*_: object) -> None:
        raise AssertionError("the recorder does this")

    monkeypatch.setattr(Diagnosis, "after", refuse)
    monkeypatch.setattr(RecordingWriter, "append", refuse)
    live.write(2_000)
    attach(session, 2_000)
    frame = session.frame(WANT)
    assert frame.ordinal == 2_000
    assert frame.blame


def test_before_a_recorder_that_stands_still_the_state_goes_on_and_says_so(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, source = live.begin(300)
    known = source._known
    monkeypatch.setattr(source._link, "known", lambda *_, **__: known)
    live.write(1_500)
    source._recorder_lag = 20.0
    while session.refresh():
        pass
    frame = session.frame(WANT)
    assert frame.ordinal == 1_500
    reader = alone(live.open())
    assert frame.progress == reader.frame(WANT).progress
    assert frame.groups == reader.frame(WANT).groups
    assert [note for note in frame.notes if note.startswith("The recorder is ")]
    session.seek_ordinal(1_400)
    assert session.frame(WANT).ordinal == 300, "as far as there are events to show"
    session.follow()
    monkeypatch.undo()
    attach(session, 1_500)
    same(session.frame(WANT), reader.frame(WANT))


def test_a_checkpoint_of_the_recorder_costs_no_frame(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1)
    live.write(300)
    folder, ended = live.producer.folder, threading.Event()
    recorder = threading.Thread(target=recorder_module._record, args=(folder, ended.is_set))
    recorder.start()
    session, reader = live.open(), live.open()
    for start in range(300, 1_500, 300):
        attach(session, start)
        reads = session.reader.events(1, 2)
        assert len(reads) == 2
        live.write(start + 300)
        link = RecordingLink.open(folder)
        assert link is not None
        assert within(30, lambda link=link, until=start + 300: at(link) == until)  # type: ignore[misc]
        link.close()
        session.frame(WANT)
    attach(session, 1_500)
    same(session.frame(WANT), alone(reader).frame(WANT))
    ended.set()
    recorder.join(30)


def at(link: RecordingLink) -> int:
    known = link.known()
    return 0 if known is None else known.ordinal


def test_without_its_recorder_it_reads_alone(live: Live) -> None:
    session, _ = live.begin(900)
    before = session.frame(WANT)
    live.recorder.kill()
    live.recorder.wait()
    session._lost_at = None
    with pytest.raises(LinkLost):
        session.reader.bounds()
    assert session.frame(WANT) is not None
    live.write(1_200)

    def all_read() -> bool:
        session.refresh()
        return session.frame(WANT).ordinal == 1_200

    assert within(30, all_read)
    reader = alone(live.open())
    same(session.frame(WANT), reader.frame(WANT))
    assert before.ordinal == 900


@pytest.mark.parametrize("following", [True, False])
def test_at_the_end_it_goes_on_in_the_recording(ran: Ran, live: Live, following: bool) -> None:
    session, _ = live.begin(600)
    if not following:
        session.seek_ordinal(400)
    live.write(len(ran.events))
    live.producer.end(ran.events[-1].captured_at_monotonic)

    def over() -> bool:
        session.refresh()
        session.frame(WANT)
        return session.finished

    assert within(30, over)
    assert live.recorder.wait(30) == 0
    frame = session.frame(WANT)
    assert frame.recorded
    assert frame.last_ordinal == len(ran.events)
    assert frame.ordinal == (len(ran.events) if following else 400)


def test_beside_a_recorder_that_was_busy_it_goes_on_where_it_was(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_link, "ANSWER_SECONDS", 0.5)
    session, source = live.begin(300)

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is read again")

    monkeypatch.setattr(Session, "_read_alone", refuse)
    reduced: list[int] = []

    def reduce_seen(state: State, event: Event, ordinal: int, run: RunInfo) -> None:
        reduced.append(ordinal)
        reduce(state, event, ordinal, run)

    monkeypatch.setattr(attached_module, "reduce", reduce_seen)
    live.recorder.send_signal(signal.SIGSTOP)

    def is_lost() -> bool:
        session.refresh()
        return source._link.lost

    assert within(10, is_lost)
    live.recorder.send_signal(signal.SIGCONT)
    live.write(900)
    assert attach(session, 900) is not source
    assert reduced == [*range(301, 901)]
    same(session.frame(WANT), alone(live.open()).frame(WANT))


def test_a_recorder_that_goes_while_it_is_asked_again_ends_no_session(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, source = live.begin(300)

    def stale(_limit: int) -> int:
        raise StaleRows("the recording has gone on")

    def lose(*_: object, **__: object) -> None:
        raise source._link._give_up("is gone")

    monkeypatch.setattr(source, "step", stale)
    monkeypatch.setattr(source._link, "known", lose)
    session.refresh()
    monkeypatch.undo()
    live.write(900)
    attach(session, 900)
    same(session.frame(WANT), alone(live.open()).frame(WANT))
