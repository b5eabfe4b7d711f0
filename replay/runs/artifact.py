"""What a benchmark leaves behind: the artifact, as JSON, with its recordings beside it.

An artifact is of one variant (a policy, a configuration or a git ref) of one scenario. What is not
known is null, and `missing_reasons` says why under the name of the field.
"""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.events.safe_files import open_regular, read_small
from replay.sources.base import SourceError
from replay.sources.sanitize import clean_line, clean_text

Direction = Literal["lower", "higher"]


GateVerdict = Literal["passed", "failed", "inconclusive", "unknown"]


class Metric(msgspec.Struct, frozen=True):
    """Statistics of one metric, or the reason why they are not known."""

    unit: str = ""
    better: Direction | None = None
    count: int = 0
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    min: float | None = None
    max: float | None = None
    stddev: float | None = None
    missing_reason: str | None = None


ARTIFACT_SCHEMA_VERSION = 1
LARGEST = 256 << 20
DERIVED = (
    "ready_queue_wait",
    "task_admission_wait",
    "ready_to_lease_gap",
    "ready_idle_gap",
    "active_capacity_integral",
    "root_over_admission_debt",
    "hidden_scheduler_resource_waiters",
)
"""Metrics that `derived_metrics` always names; `metrics` has all there are."""
_BLOCK = 1 << 20


class Inputs(msgspec.Struct, frozen=True):
    """The size and the settings of the work that was measured."""

    record_count: int
    buffer_size: int
    row_group_concurrency: int
    task_capacity: int
    latency_knobs: dict[str, Any]
    warmups: int
    iterations: int
    seed: int


class ClockScript(msgspec.Struct, frozen=True):
    """The clock under which it was measured."""

    clock: Literal["virtual", "real"]
    monotonic_start: float
    schedule: str
    """In words: what moves it."""


class ArtifactRecording(msgspec.Struct, frozen=True):
    """A recording beside the artifact: its file name, and the SHA-256 of its bytes."""

    path: str
    sha256: str
    events: int
    streams: tuple[str, ...] = ("scheduler", "request")


class Iteration(msgspec.Struct, frozen=True):
    """One run of the scenario."""

    wall_time_seconds: float
    timeline: ArtifactRecording | None
    final_task_snapshot: dict[str, Any] | None
    final_request_snapshot: dict[str, Any] | None
    output_hashes: dict[str, str] | None
    metrics: dict[str, Metric] = {}
    completion: list[tuple[float, float]] = []
    utilisation: list[tuple[float, float]] = []
    cpu_seconds: float | None = None
    missing_reasons: dict[str, str] = {}


class GateResult(msgspec.Struct, frozen=True):
    """Whether a requirement on the scenario holds."""

    gate: str
    verdict: GateVerdict
    detail: str


class Artifact(msgspec.Struct, frozen=True):
    """The result of a benchmark: its inputs, each iteration, and what its gates say."""

    artifact_schema_version: int
    scenario_id: str
    scenario_version: int
    harness_version: str
    variant: str
    baseline_sha: str | None
    candidate_sha: str | None
    command_lines: list[str]
    machine: dict[str, Any]
    environment_knobs: dict[str, str]
    inputs: Inputs
    provider_script: dict[str, Any]
    clock_script: ClockScript
    capacity_plan: dict[str, Any] | None
    iterations: list[Iteration]
    derived_metrics: dict[str, Metric]
    metrics: dict[str, Metric]
    gates: list[GateResult]
    missing_reasons: dict[str, str] = {}


def read_artifact(path: Path) -> Artifact:
    """Raises `SourceError`: 2 for what is no artifact or a newer one, 4 for a damaged one."""
    name = clean_text(str(path))
    try:
        data = read_small(path.resolve(), limit=LARGEST)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise SourceError(f"{name} is too large for a benchmark artifact.") from error
        raise SourceError(f"{name} can't be read: {error.strerror}.") from error
    try:
        data = clean_line(data)
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError as error:
        raise SourceError(f"{name} is not a benchmark artifact of headgate.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(
            f"{name} is damaged: it is not whole JSON ({clean_text(str(error))}).", exit_code=4
        ) from error
    if head.artifact_schema_version > ARTIFACT_SCHEMA_VERSION:
        raise SourceError(
            f"{name} was written by a newer headgate (artifact schema "
            f"{head.artifact_schema_version}; this one reads up to {ARTIFACT_SCHEMA_VERSION})."
        )
    try:
        return msgspec.json.decode(data, type=Artifact)
    except msgspec.DecodeError as error:
        raise SourceError(f"{name} is damaged: {clean_text(str(error))}.", exit_code=4) from error


def begins_artifact(head: bytes) -> bool:
    """Do the first bytes of a file begin an artifact? Its version is written first."""
    return b'"artifact_schema_version"' in head


def recording_of(path: Path, artifact: Artifact, iteration: int = 0) -> Path:
    """The recording that an iteration names, its bytes checked against the hash.

    Raises `SourceError`: 2 where there is none, 4 where it is missing or not the one named.
    """
    name = clean_text(str(path))
    if not artifact.iterations:
        raise SourceError(f"{name} holds no iteration, and so nothing to replay.", exit_code=4)
    if iteration >= len(artifact.iterations):
        raise SourceError(f"{name} holds {len(artifact.iterations)} iterations, counted from 0.")
    chosen = artifact.iterations[iteration]
    if chosen.timeline is None:
        why = chosen.missing_reasons.get("timeline", "no reason is given")
        raise SourceError(f"{name} has no timeline to replay: {clean_text(why)}.")
    timeline = chosen.timeline
    beside = Path(timeline.path)
    if beside.is_absolute() or ".." in beside.parts:
        raise SourceError(f"{name} names a recording outside of its folder.", exit_code=4)
    recording = path.parent / beside
    shown = clean_text(str(recording))
    if not recording.is_file() or recording.is_symlink():
        raise SourceError(
            f"{name} needs its recording {shown}, which is not there: copy them together.",
            exit_code=4,
        )
    if sha256_of(recording) != timeline.sha256:
        raise SourceError(
            f"{shown} is not the recording that {name} was made of: its hash differs.", exit_code=4
        )
    return recording


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(open_regular(path), "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class _Head(msgspec.Struct):
    artifact_schema_version: int
    scenario_id: str
