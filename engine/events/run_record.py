"""`RunRecord`: what `run.json` says of a run, and `run_state`: what the run is in truth."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import msgspec

from engine.capacity_plan import AsyncCapacityPlan
from engine.events.process_lock import Presence
from engine.events.types import SCHEMA_VERSION, Seconds

RecordedState = Literal["running", "ended", "complete", "lost"]
"""The producer writes `running` and `ended`; the recorder writes `complete` (all is imported, after
a clean end) and `lost` (all is imported, but the producer died without an end)."""
RunState = Literal["running", "ended", "complete", "lost", "unknown"]
"""What a run is in truth; see `run_state`."""
_WITHOUT_END: dict[Presence, RunState] = {"alive": "running", "dead": "lost", "unknown": "unknown"}


class RunRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`run.json`: what a run is and how far it got, readable without opening a recording."""

    run_id: str
    name: str
    state: RecordedState
    outcome: str | None = None
    """`success`, `failed`, `cancelled`; None while running and after a loss."""
    message: str = ""
    wall_start: Seconds | None = None
    wall_end: Seconds | None = None
    versions: dict[str, str] = {}
    """Versions of `headgate`, `python` and `duckdb` that made the run."""
    producer: str = "headgate"
    records: int | None = None
    rows_done: int = 0
    rows_dropped: int = 0
    schema_version: int = SCHEMA_VERSION
    pid: int | None = None
    """Process id of the producer, for people; the lock shows whether it is alive."""
    capacity_plan: AsyncCapacityPlan | None = None
    """Configured values; at the end also those observed."""
    resumes: int = 0
    """How often the run has gone on after an interruption."""
    paused_seconds: float = 0.0
    """Wall time of its interruptions, which is no part of how long it took."""

    @property
    def is_imported(self) -> bool:
        """Whether a recorder has put all that the journal held into the recording."""
        return self.state in ("complete", "lost")


def run_state(recorded: RecordedState, producer: Presence) -> RunState:
    """What a run is in truth: a producer that was killed leaves `running` in `run.json`.

    Args:
        recorded: State of the record.
        producer: Whether the producer is alive, as its lock shows.

    Returns:
        `lost` if the producer is proved dead, `unknown` if that can't be told.
    """
    return _WITHOUT_END[producer] if recorded == "running" else recorded


def decode_record(data: bytes) -> RunRecord | None:
    """A record from the bytes of `run.json`; None if they do not identify a run.

    Fields with invalid values get their defaults.
    """
    try:
        return msgspec.json.decode(data, type=RunRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _usable_part(data)


def _usable_part(data: bytes) -> RunRecord | None:
    try:
        facts = json.loads(data, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    usable: dict[str, Any] = {}
    for field in msgspec.structs.fields(RunRecord):
        if field.encode_name in facts:
            with suppress(msgspec.ValidationError, OverflowError):
                value = msgspec.convert(facts[field.encode_name], field.type)
                usable[field.name] = value
    if not usable.keys() >= {"run_id", "name", "state"}:
        return None
    return RunRecord(**usable)


def installed_versions() -> dict[str, str]:
    """Versions for `RunRecord.versions`, found without importing the packages."""
    versions = {"python": platform.python_version()}
    for package in ("headgate", "duckdb"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
