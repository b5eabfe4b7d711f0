"""What a recorder answers to those who watch its run, and what it does not put up with."""

from __future__ import annotations

import os
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import pytest

from engine.events import RunInfo, SchedulerEvent
from engine.events.run_folder import RunFolder
from replay.playback.attached import Attached
from replay.recording.ingest import Ingest
from replay.recording.live_link import LinkLost, RecordingLink, StaleRows
from replay.recording.live_protocol import Known, framed, live_address
from replay.recording.live_server import RecordingServer
from replay.sources.feed import open_journal
from tests.replay.producer import Producer

RUN = RunInfo(run_id="run", name="run", producer="headgate", wall_start=0.0)


def beat(number: int) -> SchedulerEvent:
    return SchedulerEvent("scheduler_loop_heartbeat", float(number), number)


class Recorder:
    """An import with its server, in a thread of their own as in a recorder."""

    def __init__(self, path: Path) -> None:
        self.producer = Producer(path, RUN)
        self.folder = RunFolder(self.producer.folder.path)
        self.write(1, 2)
        self._work: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.do("step")

    def write(self, *numbers: int) -> None:
        self.producer.write([beat(number) for number in numbers])

    def do(self, what: str) -> object:
        self._work.put(what)
        return self._done.get(timeout=20)

    def close(self) -> None:
        self._work.put("end")
        self._thread.join(20)
        self.producer.lock.release()

    def _answer_between(self, server: RecordingServer) -> None:
        """Until the end of the step is wanted."""
        self._done.put(None)
        while self._work.empty():
            server.serve_queries()
            time.sleep(0.001)

    def _serve(self) -> None:
        ingest = Ingest(open_journal(self.folder), self.folder.recording)
        server = RecordingServer(ingest, self.folder)
        while True:
            server.serve(0.005)
            with suppress(queue.Empty):
                what = self._work.get_nowait()
                if what == "end":
                    break
                if what.startswith("step, asked"):
                    ingest.step(between=lambda: self._answer_between(server))
                    continue
                if what == "checkpoint":
                    ingest.checkpoint()
                self._done.put(ingest.step() if what == "step" else server.has_readers)
        server.close()
        ingest.close()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    started = Recorder(tmp_path)
    yield started
    started.close()


def ordinals(link: RecordingLink) -> list[int]:
    return [row[0] for row in link.execute("SELECT ordinal FROM events ORDER BY 1", []).fetchall()]


def test_queries_see_what_the_last_answer_was_about(recorder: Recorder) -> None:
    with closing(open_link(recorder)) as link, closing(open_link(recorder)) as other:
        known = link.known()
        assert known is not None
        assert (known.ordinal, known.t) == (2, 2.0)
        recorder.write(3, 4, 5)
        recorder.do("step")
        assert ordinals(link) == [1, 2]
        assert ordinals(other) == [1, 2, 3, 4, 5], "who has not asked how far sees what there is"
        known = link.known(known.ordinal)
        assert known is not None
        assert (known.ordinal, known.changed) == (5, True)
        assert ordinals(link) == [1, 2, 3, 4, 5]
        known = link.known(known.ordinal)
        assert known is not None
        assert not known.changed


def test_a_reader_is_in_the_way_of_no_checkpoint(recorder: Recorder) -> None:
    with closing(open_link(recorder)) as link:
        link.known()
        assert ordinals(link) == [1, 2]
        recorder.write(3)
        recorder.do("step")
        recorder.do("checkpoint")
        with pytest.raises(StaleRows):
            ordinals(link)
        link.known()
        assert ordinals(link) == [1, 2, 3]


def test_before_a_commit_queries_are_answered_and_nothing_else(recorder: Recorder) -> None:
    with closing(open_link(recorder)) as link, closing(open_link(recorder)) as other:
        assert link.known() is not None
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.append(other.known()))
        recorder.write(3)
        recorder.do("step, asked before its commit")
        asking.start()
        assert ordinals(link) == [1, 2]
        assert answers == []
        recorder.do("end of the step")
        asking.join(20)
        (known,) = answers
        assert isinstance(known, Known)
        assert known.ordinal == 3


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM events",
        "SELECT 1; DELETE FROM events",
        "COPY events TO '{folder}/stolen.csv'",
        "ATTACH '{folder}/other.duckdb'",
        "BEGIN",
        "SELECT * FROM read_text('{folder}/run.json')",
        "SELECT nothing FROM events",
        "no SQL",
    ],
)
def test_only_the_recording_is_read(recorder: Recorder, sql: str) -> None:
    with closing(open_link(recorder)) as link:
        link.known()
        with pytest.raises(duckdb.Error):
            link.execute(sql.format(folder=recorder.folder.path), [])
        assert ordinals(link) == [1, 2], "and the next query is answered"
    assert {path.name for path in recorder.folder.path.iterdir()} <= {
        "journal",
        "recording.duckdb",
        "recording.duckdb.wal",
        "run.json",
        "run.lock",
    }


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\0" * 7 + b"\x03abc", framed(b"\x81\xa1a\x01")])
def test_who_sends_no_request_is_dropped(recorder: Recorder, data: bytes) -> None:
    address = live_address(recorder.folder)
    assert address is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(address))
        connection.sendall(data)
        assert connection.recv(1) == b""
    assert recorder.do("readers") is False


def test_half_a_request_holds_nobody_up(recorder: Recorder) -> None:
    address = live_address(recorder.folder)
    assert address is not None
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as half,
        closing(open_link(recorder)) as link,
    ):
        half.connect(str(address))
        half.sendall(b"\0\0\0")
        assert link.known() is not None
        recorder.write(3)
        assert recorder.do("step") == 1


def test_the_socket_is_for_its_user_alone_and_goes_with_the_recorder(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    address = live_address(recorder.folder)
    assert address is not None
    assert address.parent.stat().st_mode & 0o077 == 0
    link = open_link(recorder)
    recorder.close()
    assert not address.exists()
    with pytest.raises(LinkLost):
        link.known()
    assert RecordingLink.open(recorder.folder) is None


def test_a_folder_that_others_can_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = RunFolder.create(tmp_path / "run")
    assert live_address(folder) is not None
    (tmp_path / f"headgate-live-{os.geteuid()}").chmod(0o777)
    assert live_address(folder) is None
    assert RecordingLink.open(folder) is None


def open_link(recorder: Recorder) -> RecordingLink:
    link = RecordingLink.open(recorder.folder)
    assert link is not None
    return link


def test_a_state_that_is_too_large_to_send_is_read_from_the_journal(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for_state = 0
    known = RecordingLink.known

    def count(link: RecordingLink, have: int = 0, state: bool = False) -> Known | None:
        nonlocal asked_for_state
        asked_for_state += state
        return known(link, have, state)

    monkeypatch.setattr(RecordingLink, "known", count)
    monkeypatch.setattr("replay.recording.live_server.MOST_TASKS_SENT", -1)
    recorder.write(*range(3, 41))
    recorder.do("step")
    now, feed = 0.0, open_journal(recorder.folder)
    alone = Ingest(feed, ":memory:")
    alone.step(4)
    link = RecordingLink.open(recorder.folder)
    assert link is not None
    with closing(feed), closing(alone), closing(link):
        assert Attached.attach(link, feed, None, wall=lambda: now) is None
        source = Attached.attach(
            link, feed, alone.fold, wall=lambda: now, clock=lambda: now, jump_events=3
        )
        assert source is not None
        while source.step(10):
            pass
        assert source.state.ordinal == 40
        assert asked_for_state == 2
