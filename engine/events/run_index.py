"""The index of a user's runs: a pointer file for each run leads to its folder.

A pointer is removed only on the user's request, since a folder that is missing may be on a disk
that is not mounted. A folder that was moved is indexed again when it is opened under its new path.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from engine.events.run_folder import RUN_JSON, RunFolder, read_record
from engine.events.run_record import RunRecord
from engine.events.safe_files import read_small

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}")

Whereabouts = Literal["here", "away", "unreadable"]
"""`away`: the folder is missing or has another run. `unreadable`: its `run.json` can't be read."""


class Pointer(msgspec.Struct, frozen=True):
    """Contents of a pointer file, as JSON."""

    run_id: str
    path: str
    """Absolute."""
    name: str = ""


class KnownRun(NamedTuple):
    """A run of the index."""

    pointer: Path
    """Its pointer file."""
    run_id: str
    """Empty if an older headgate did not write it and the folder is away."""
    name: str
    path: Path
    where: Whereabouts
    record: RunRecord | None
    """None unless the folder is here."""


def register(folder: RunFolder, record: RunRecord) -> None:
    """Add the folder to the index. An index that can't be written is not an error.

    While the run exists where its pointer leads, the pointer stays as it is: neither a copy of the
    folder nor another path to it replaces it. From a copy the original takes it back.
    """
    try:
        here = str(folder.path.absolute())
        home = index_home()
        home.mkdir(parents=True, exist_ok=True)
        pointer = home / pointer_name(record.run_id)
        stored = _read(pointer)
        if stored is not None and (stored.path == here or _keeps(stored, folder)):
            return
        pointer_data = Pointer(record.run_id, here, record.name)
        part = home / f".{pointer.name}.{os.getpid()}"
        part.write_text(json.dumps(msgspec.to_builtins(pointer_data)) + "\n", "ascii")
        os.replace(part, pointer)
        _drop_older(home, here, pointer)
    except OSError:
        return


def list_runs() -> list[KnownRun]:
    """All runs of the index, newest first; those whose folders are not here come last."""
    runs: list[tuple[float, KnownRun]] = []
    try:
        pointers = [entry for entry in index_home().iterdir() if not entry.name.startswith(".")]
    except OSError:
        return []
    for pointer in pointers:
        stored = _read(pointer)
        if stored is None:
            continue
        run = _look_up(pointer, stored)
        try:
            registered = pointer.stat().st_mtime
        except OSError:
            continue
        started = registered if run.record is None else run.record.wall_start
        runs.append((registered if started is None else started, run))
    runs.sort(key=lambda entry: (entry[1].where == "here", entry[0]), reverse=True)
    return [run for _, run in runs]


def forget(run: KnownRun) -> None:
    """Remove the pointer, not the folder. Raises `OSError`."""
    run.pointer.unlink(missing_ok=True)


def index_home() -> Path:
    """Folder of the pointer files: in `HEADGATE_HOME`, else in the user's data folder."""
    home = os.environ.get("HEADGATE_HOME")
    if home:
        return Path(home) / "runs"
    from platformdirs import user_data_path

    return user_data_path("headgate") / "runs"


def pointer_name(run_id: str) -> str:
    """A safe file name for any run id."""
    if _PLAIN_NAME.fullmatch(run_id):
        return run_id
    return hashlib.sha256(run_id.encode(errors="surrogatepass")).hexdigest()[:32]


def _look_up(pointer: Path, stored: Pointer) -> KnownRun:
    path = Path(stored.path)
    folder = RunFolder(path)
    record = read_record(folder)
    there = folder.has(RUN_JSON)
    folder.close()
    if record is not None and stored.run_id in ("", record.run_id):
        return KnownRun(pointer, record.run_id, record.name, path, "here", record)
    where: Whereabouts = "unreadable" if record is None and there else "away"
    return KnownRun(pointer, stored.run_id, stored.name, path, where, None)


def _keeps(stored: Pointer, other: RunFolder) -> bool:
    """Whether the run still exists where the pointer leads, and is no copy of `other`."""
    folder = RunFolder(Path(stored.path))
    record = read_record(folder)
    is_copy = folder.doubt == "copy"
    folder.close()
    stands = record is not None and record.run_id == stored.run_id
    return stands and not (is_copy and other.doubt == "")


def _drop_older(home: Path, path: str, kept: Path) -> None:
    """Remove pointers to the same folder that an older headgate wrote without a run id."""
    for entry in home.iterdir():
        if entry != kept and not entry.name.startswith("."):
            stored = _read(entry)
            if stored is not None and not stored.run_id and stored.path == path:
                entry.unlink(missing_ok=True)


def _read(pointer: Path) -> Pointer | None:
    """Read a pointer file; None if it is none."""
    try:
        data = read_small(pointer)
    except OSError:
        return None
    if data.startswith(b"/"):  # an older headgate wrote nothing but the path
        return Pointer("", data.decode(errors="surrogateescape"))
    try:
        # A path that is not UTF-8 has lone surrogates, which only this decoder takes.
        stored = msgspec.convert(json.loads(data), Pointer)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None
    return stored if stored.path.startswith("/") else None
