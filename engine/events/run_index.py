"""The index of a user's runs: one pointer each, by which its folder is found again.

A pointer is only removed when the user says so: a folder that is not there now may be on a disk
that is away. A folder that was moved is found again when it is opened under its new name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from engine.events.run_folder import RUN_JSON, RunFolder, RunRecord, read_record
from engine.events.safe_files import read_small

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}")

Whereabouts = Literal["here", "away", "unreadable"]
"""`away`: the folder is not there now, or holds another run. `unreadable`: its `run.json` is."""


class Pointer(msgspec.Struct, frozen=True):
    """What a pointer's file holds, as JSON."""

    run_id: str
    path: str
    """Absolute."""
    name: str = ""


class KnownRun(NamedTuple):
    """A run that is in the index."""

    pointer: Path
    """Its file in the index."""
    run_id: str
    """Empty where an older headgate did not note it and the folder is away."""
    name: str
    path: Path
    where: Whereabouts
    record: RunRecord | None
    """None unless the folder is here."""


def register(folder: RunFolder, record: RunRecord) -> None:
    """Let `list_runs` find the folder. A home that can't be written never stops anything.

    The pointer stays where it points as long as the run stands there: neither a copy of the folder
    nor another name of it takes it. From a copy the original takes it back.
    """
    try:
        here = str(folder.path.absolute())
        home = index_home()
        home.mkdir(parents=True, exist_ok=True)
        pointer = home / pointer_name(record.run_id)
        known = _read(pointer)
        if known is not None and (known.path == here or _keeps(known, folder)):
            return
        fresh = Pointer(record.run_id, here, record.name)
        part = home / f".{pointer.name}.{os.getpid()}"
        part.write_text(json.dumps(msgspec.to_builtins(fresh)) + "\n", "ascii")
        os.replace(part, pointer)
        _drop_older(home, here, pointer)
    except OSError:
        return


def list_runs() -> list[KnownRun]:
    """All runs of the index, newest first; those whose folders are not here come last."""
    found: list[tuple[float, KnownRun]] = []
    try:
        pointers = [entry for entry in index_home().iterdir() if not entry.name.startswith(".")]
    except OSError:
        return []
    for pointer in pointers:
        known = _read(pointer)
        if known is None:
            continue
        run = _look_up(pointer, known)
        try:
            registered = pointer.stat().st_mtime
        except OSError:
            continue
        started = registered if run.record is None else run.record.wall_start
        found.append((registered if started is None else started, run))
    found.sort(key=lambda entry: (entry[1].where == "here", entry[0]), reverse=True)
    return [run for _, run in found]


def forget(run: KnownRun) -> None:
    """Remove the pointer, not the folder. Raises `OSError`."""
    run.pointer.unlink(missing_ok=True)


def index_home() -> Path:
    """One pointer file a run: under `HEADGATE_HOME`, else the user's data folder."""
    home = os.environ.get("HEADGATE_HOME")
    if home:
        return Path(home) / "runs"
    from platformdirs import user_data_path

    return user_data_path("headgate") / "runs"


def pointer_name(run_id: str) -> str:
    """A file name for any run id, whoever made it up."""
    if _PLAIN_NAME.fullmatch(run_id):
        return run_id
    return hashlib.sha256(run_id.encode(errors="surrogatepass")).hexdigest()[:32]


def _look_up(pointer: Path, known: Pointer) -> KnownRun:
    path = Path(known.path)
    folder = RunFolder(path)
    record = read_record(folder)
    there = folder.has(RUN_JSON)
    folder.close()
    if record is not None and known.run_id in ("", record.run_id):
        return KnownRun(pointer, record.run_id, record.name, path, "here", record)
    where: Whereabouts = "unreadable" if record is None and there else "away"
    return KnownRun(pointer, known.run_id, known.name, path, where, None)


def _keeps(known: Pointer, other: RunFolder) -> bool:
    """Does the run still stand where the pointer points, with no less right than in `other`?"""
    folder = RunFolder(Path(known.path))
    record = read_record(folder)
    is_copy = folder.doubt == "copy"
    folder.close()
    stands = record is not None and record.run_id == known.run_id
    return stands and not (is_copy and other.doubt == "")


def _drop_older(home: Path, path: str, kept: Path) -> None:
    """Pointers of an older headgate, which did not note the run, to the same folder."""
    for entry in home.iterdir():
        if entry != kept and not entry.name.startswith("."):
            known = _read(entry)
            if known is not None and not known.run_id and known.path == path:
                entry.unlink(missing_ok=True)


def _read(pointer: Path) -> Pointer | None:
    """None for what is no pointer."""
    try:
        data = read_small(pointer)
    except OSError:
        return None
    if data.startswith(b"/"):  # an older headgate wrote nothing but the path
        return Pointer("", data.decode(errors="surrogateescape"))
    try:
        # A path that is not UTF-8 has lone surrogates, which only this decoder takes.
        known = msgspec.convert(json.loads(data), Pointer)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None
    return known if known.path.startswith("/") else None
