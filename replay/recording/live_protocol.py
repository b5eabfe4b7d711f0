"""What a recorder and those who watch its run say to each other, and where they meet.

DuckDB lets no second process open a file that is being written. So the recorder answers queries on
it through a Unix socket, outside the run folder, which only its user can reach. The name follows
from the folder itself: it stays the same whatever the folder is renamed to.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec

from engine.events.run_folder import RunFolder
from replay.diagnosis.verdicts import VerdictRow
from replay.recording.temporary_folders import temporary_home
from replay.sources.base import SourceError
from replay.state.rows import BlameRow, RollupRow

LAYOUT = 1
"""Of the messages: two processes of different layouts don't talk."""
LENGTH_BYTES = 8
"""Each message is preceded by its length, big-endian."""
MOST_REQUEST_BYTES = 1 << 20
_LONGEST_ADDRESS = 100
"""Bytes; the shortest limit of a system is 104."""


class KnownRequest(msgspec.Struct, tag="known"):
    """How far does the recording reach? Queries that follow see it as it is now."""

    have: int
    """The ordinal of the last answer; what grows is sent only with another one. 0: none."""
    state: bool = False
    """With the state, unless it is very large, and where its journal goes on."""


class QueryRequest(msgspec.Struct, tag="query"):
    """A query on what has been recorded so far."""

    sql: str
    """One SELECT."""
    values: list[Any]


class StateAnswer(msgspec.Struct):
    """The recorder's state, from which a session goes on without reading the journal again."""

    run: bytes
    """JSON: an integer of msgpack has 64 bits."""
    state: bytes
    position: dict[str, int]
    """Where the source goes on behind it, as a `Batch` gave it."""


class Known(msgspec.Struct, tag="known"):
    """The recording as of its last commit, and what is not written yet as it still grows."""

    layout: int
    ordinal: int
    """Of the last event that is recorded; 0 before the first."""
    t: float
    """Its time."""
    changed: bool = True
    """False: the rest is what the last answer held."""
    series: list[RollupRow] = []
    blame: list[BlameRow] = []
    verdicts: list[VerdictRow] = []
    state: StateAnswer | None = None


class Rows(msgspec.Struct, tag="rows"):
    """All rows of a query."""

    rows: list[tuple[Any, ...]]


class Failed(msgspec.Struct, tag="failed"):
    """The query could not be answered; `problem` is a sentence for people."""

    problem: str
    stale: bool = False
    """The recording is no longer as the reader was told: it is to ask again how far it reaches."""


Request = KnownRequest | QueryRequest
Answer = Known | Rows | Failed


def live_address(folder: RunFolder) -> Path | None:
    """Where the recorder of a run listens, in a folder of this user alone; None where there is no
    place for such a folder."""
    try:
        home = temporary_home() / f"headgate-live-{os.geteuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(home)
        run = os.fstat(folder.fd)
    except (OSError, SourceError):
        return None
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    if not private or not stat.S_ISDIR(status.st_mode):
        return None
    address = home / f"{run.st_dev:x}-{run.st_ino:x}"
    return address if len(os.fsencode(address)) <= _LONGEST_ADDRESS else None


def framed(data: bytes) -> bytes:
    """The message with its length before it, as it goes through the socket."""
    return len(data).to_bytes(LENGTH_BYTES, "big") + data
