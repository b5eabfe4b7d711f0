"""`RecordingServer`: the recorder answers those who watch its run.

Everything happens in the thread that writes, between two commits: whoever asks sees what is
committed, and a query never meets a checkpoint. Whoever asks may die at any moment; whoever does
not read its answers has them dropped.
"""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import duckdb
import msgspec

from engine.events.run_folder import RunFolder
from replay.recording.ingest import Ingest
from replay.recording.live_protocol import (
    LAYOUT,
    LENGTH_BYTES,
    MOST_REQUEST_BYTES,
    Failed,
    Known,
    KnownRequest,
    QueryRequest,
    Request,
    Rows,
    StateAnswer,
    framed,
    live_address,
)
from replay.state.wire import encode_state

SNAPSHOT_SECONDS = 5.0
"""A reader that asks nothing for so long no longer holds the recording as it was."""
_ABANDONED_SECONDS = 60.0
_LINGER_SECONDS = 0.01
"""A frame takes several queries: the next of them is awaited for so long."""
_LONGEST_LINGER_SECONDS = 0.1
_MOST_UNSENT_BYTES = 1 << 30
_RECEIVE_BYTES = 1 << 16

MOST_TASKS_SENT = 100_000
"""The state of more live tasks is not sent: that would take longer than to read the journal."""

_requests = msgspec.msgpack.Decoder(Request)
_encoder = msgspec.msgpack.Encoder()


class _Reader:
    """One who watches."""

    def __init__(self, connection: socket.socket, cursor: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.cursor = cursor
        self.received = bytearray()
        self.unsent = bytearray()
        self.in_snapshot = self.stale = False
        self.postponed = False
        """It has asked what is answered only after a commit."""
        self.last_request_at = time.monotonic()

    def renew_snapshot(self) -> None:
        """Queries see the recording as it is now, until the next call."""
        self.end_snapshot()
        self.cursor.execute("BEGIN")
        self.cursor.execute("SELECT 1 FROM meta LIMIT 1").fetchall()  # from here on, not later
        self.in_snapshot, self.stale = True, False

    def end_snapshot(self) -> None:
        if self.in_snapshot:
            self.in_snapshot, self.stale = False, True
            with suppress(duckdb.Error):
                self.cursor.execute("ROLLBACK")


class RecordingServer:
    """Serves the recording that `ingest` writes; nobody, where the system has no place for that."""

    def __init__(self, ingest: Ingest, folder: RunFolder) -> None:
        self._ingest = ingest
        ingest.before_checkpoint(self._end_snapshots)
        self._readers: dict[int, _Reader] = {}
        self._committed = True
        self._address = live_address(folder)
        self._listener: socket.socket | None = None
        if self._address is None or not hasattr(socket, "AF_UNIX"):
            return
        with ExitStack() as opened:
            try:
                selector = opened.enter_context(selectors.DefaultSelector())
                listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                listener.setblocking(False)
                _remove_abandoned(self._address)
                listener.bind(str(self._address))
                listener.listen()
                selector.register(listener, selectors.EVENT_READ)
            except OSError:
                return
            self._listener, self._selector = listener, selector
            opened.pop_all()

    @property
    def has_readers(self) -> bool:
        return bool(self._readers)

    def serve_queries(self) -> None:
        """Answer queries before a commit: they see the recording as their reader was told of it."""
        if self._readers:
            self._committed = False
            try:
                self.serve(0)
            finally:
                self._committed = True

    def serve(self, seconds: float) -> None:
        """Answer for so long, and a little longer where a reader is in the middle of a frame."""
        if self._listener is None:
            time.sleep(seconds)
            return
        now = time.monotonic()
        until, latest = now + seconds, now + seconds + _LONGEST_LINGER_SECONDS
        for waiting in [reader for reader in self._readers.values() if reader.postponed]:
            self._attend(waiting, 0)
            until = max(until, now + _LINGER_SECONDS)
        while True:
            for key, mask in self._selector.select(max(0.0, until - now)):
                if key.fileobj is self._listener:
                    self._accept()
                elif (reader := self._readers.get(key.fd)) is not None:
                    self._attend(reader, mask)
                until = max(until, min(latest, time.monotonic() + _LINGER_SECONDS))
            now = time.monotonic()
            if now >= until:
                break
        for reader in self._readers.values():
            if now - reader.last_request_at > SNAPSHOT_SECONDS:
                reader.end_snapshot()

    def _end_snapshots(self) -> None:
        for reader in self._readers.values():
            reader.end_snapshot()

    def close(self) -> None:
        """Before the recording is closed."""
        for reader in list(self._readers.values()):
            self._drop(reader)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._selector.close()
            if self._address is not None:
                self._address.unlink(missing_ok=True)

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)
            self._readers[connection.fileno()] = _Reader(connection, self._ingest.cursor())

    def _attend(self, reader: _Reader, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                data = reader.connection.recv(_RECEIVE_BYTES)
                if not data:
                    self._drop(reader)
                    return
                reader.received += data
            self._answer_all(reader)
            self._send(reader)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._drop(reader)

    def _answer_all(self, reader: _Reader) -> None:
        """Raises `ValueError` for what is no request."""
        received = reader.received
        reader.postponed = False
        while len(received) >= LENGTH_BYTES:
            length = int.from_bytes(received[:LENGTH_BYTES], "big")
            if length > MOST_REQUEST_BYTES:
                raise ValueError("too long")
            if len(received) < LENGTH_BYTES + length:
                return
            request = _requests.decode(received[LENGTH_BYTES : LENGTH_BYTES + length])
            if not self._committed and not (
                isinstance(request, QueryRequest) and reader.in_snapshot
            ):
                reader.postponed = True
                return
            del received[: LENGTH_BYTES + length]
            reader.last_request_at = time.monotonic()
            if isinstance(request, KnownRequest):
                answer = self._known(reader, request)
            else:
                answer = self._rows(reader, request)
            reader.unsent += framed(answer)
            if len(reader.unsent) > _MOST_UNSENT_BYTES:
                raise ValueError("answers are not read")

    def _known(self, reader: _Reader, request: KnownRequest) -> bytes:
        ingest, fold = self._ingest, self._ingest.fold
        if fold is None or ingest.run is None:
            return _encoder.encode(Known(LAYOUT, 0, 0.0))
        reader.renew_snapshot()
        known = Known(LAYOUT, ingest.last_ordinal, fold.state.time)
        if request.state and len(fold.state.tasks) <= MOST_TASKS_SENT:
            run = msgspec.json.encode(fold.run)
            known.state = StateAnswer(run, encode_state(fold.state), ingest.position)
        if request.have == known.ordinal:
            known.changed = False
        else:
            known.series, known.blame = fold.open_series(), fold.open_blame()
            known.verdicts = fold.open_verdicts()
        return _encoder.encode(known)

    @staticmethod
    def _rows(reader: _Reader, request: QueryRequest) -> bytes:
        if reader.stale:
            return _encoder.encode(Failed("It is written on.", stale=True))
        try:
            statements = reader.cursor.extract_statements(request.sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                return _encoder.encode(Failed("Only one SELECT is answered."))
            rows = reader.cursor.execute(request.sql, request.values).fetchall()
            return _encoder.encode(Rows(rows))
        except (duckdb.Error, OverflowError, TypeError) as error:
            if reader.in_snapshot:  # an error ends a transaction
                reader.renew_snapshot()
            return _encoder.encode(Failed((str(error).splitlines() or [""])[0]))

    def _send(self, reader: _Reader) -> None:
        while reader.unsent:
            try:
                sent = reader.connection.send(reader.unsent)
            except BlockingIOError:
                break
            del reader.unsent[:sent]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if reader.unsent else 0)
        self._selector.modify(reader.connection, wanted)

    def _drop(self, reader: _Reader) -> None:
        del self._readers[reader.connection.fileno()]
        self._selector.unregister(reader.connection)
        reader.connection.close()
        reader.end_snapshot()
        reader.cursor.close()


def _remove_abandoned(address: Path) -> None:
    """What recorders that were killed left behind: the one of this run, and those nobody hears."""
    address.unlink(missing_ok=True)
    for other in address.parent.iterdir():
        with suppress(OSError):
            if time.time() - other.lstat().st_mtime < _ABANDONED_SECONDS:
                continue
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(0.1)
                try:
                    probe.connect(str(other))
                except ConnectionRefusedError:
                    other.unlink()
