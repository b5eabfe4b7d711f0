"""`RecordingLink`: the recording of a live run, asked through its recorder."""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import Any

import duckdb
import msgspec

from engine.events.run_folder import RunFolder
from replay.recording.live_protocol import (
    LAYOUT,
    LENGTH_BYTES,
    Answer,
    Failed,
    Known,
    KnownRequest,
    QueryRequest,
    Request,
    Rows,
    framed,
    live_address,
)
from replay.sources.base import SourceError

ANSWER_SECONDS = 3.0
"""A recorder that answers nothing for so long is given up."""
_CONNECT_SECONDS = 0.5

_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(Answer)


class LinkLost(SourceError):
    """The recorder is gone, or does not answer: the run has ended, or its recorder has."""


class StaleRows(SourceError):
    """The recording is no longer as it was said to be: ask again how far it reaches."""


class RecordingLink:
    """What `RecordingReader` needs of a connection, and how far the recording reaches.

    Queries see the recording as of the last `known`. Any thread may ask.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self.lost = False

    @classmethod
    def open(cls, folder: RunFolder) -> RecordingLink | None:
        """None where no recorder of this user listens."""
        address = live_address(folder)
        if address is None or not address.exists() or not hasattr(socket, "AF_UNIX"):
            return None
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            return None
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(str(address))
            if not _is_ours(connection):
                raise PermissionError
            connection.settimeout(ANSWER_SECONDS)
        except OSError:
            connection.close()
            return None
        return cls(connection)

    def known(self, have: int = 0, state: bool = False) -> Known | None:
        """How far the recording reaches now; None before its run is known.

        Args:
            have: Ordinal of the last answer: with the same one what grows is not sent again.
            state: Whether to send the state too.

        Raises:
            LinkLost: The recorder is gone, or of another version.
        """
        answer = self._ask(KnownRequest(have, state))
        if not isinstance(answer, Known) or answer.layout != LAYOUT:
            raise self._give_up("is of another version")
        return answer if answer.ordinal else None

    def cursor(self) -> RecordingLink:
        return self

    def execute(self, query: str, parameters: list[object], /) -> _Result:
        """Raises `duckdb.Error` for what the recorder's DuckDB refuses, `StaleRows`, `LinkLost`."""
        answer = self._ask(QueryRequest(query, parameters))
        if isinstance(answer, Rows):
            return _Result(answer.rows)
        if isinstance(answer, Failed) and answer.stale:
            raise StaleRows(answer.problem)
        raise duckdb.Error(answer.problem if isinstance(answer, Failed) else "no rows came")

    def interrupt(self) -> None:
        """A query of a recorder is not interrupted: it is short, or it is given up."""

    def close(self) -> None:
        self.lost = True
        self._socket.close()

    def _ask(self, request: Request) -> Answer:
        with self._lock:
            try:
                self._socket.sendall(framed(_encoder.encode(request)))
                length = int.from_bytes(self._receive(LENGTH_BYTES), "big")
                answer: Answer = _answers.decode(self._receive(length))
                return answer
            except (OSError, msgspec.MsgspecError, MemoryError) as error:
                raise self._give_up("is gone") from error

    def _receive(self, size: int) -> bytearray:
        data = bytearray(size)
        room = memoryview(data)
        while room:
            count = self._socket.recv_into(room)
            if not count:
                raise ConnectionResetError
            room = room[count:]
        return data

    def _give_up(self, why: str) -> LinkLost:
        self.close()
        return LinkLost(f"The recorder of the run {why}.")


class _Result:
    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows


def _is_ours(connection: socket.socket) -> bool:
    """Does this user run what listens? Where the system does not say, its folder is the answer."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = struct.Struct("3i")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    _, user, _ = credentials.unpack(data)
    return bool(user == os.geteuid())
