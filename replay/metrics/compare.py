"""Two runs side by side: metrics, what the time went to, ceilings, and whether a difference means
anything.

A recording is one run, and its noise is unknown. A benchmark artifact has iterations: a difference
counts where the intervals of both medians lie apart, and under a virtual clock, which has no noise,
always. What did not do the same work is set side by side, and neither is called better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from engine.events import RunInfo
from replay.diagnosis.report.shares import run_shares
from replay.diagnosis.verdicts import WORKING
from replay.metrics.difference import Difference, Noise, differ
from replay.metrics.overlay import Course, Setting, course_of, differing, settings_of
from replay.metrics.run_metrics import METRICS, measure_run, metric
from replay.recording.reader import RecordingReader, open_recording
from replay.runs.artifact import Artifact, Direction, Metric, recording_of
from replay.runs.materialize import Narrate, materialize
from replay.runs.open import named_artifact
from replay.sources.sanitize import clean_text

COMPARE_VERSION = 2
ENOUGH = 5
SMALL_SHARE = 0.02
"""Of the capacity in demand: up to here shares of single runs are too close to tell."""
SMALL_SECONDS = 0.001
"""The same of times: that much a busy loop alone makes."""


class Side(msgspec.Struct, frozen=True):
    """What is compared. `runs` iterations; `virtual` where their clock was."""

    target: str
    title: str
    runs: int
    virtual: bool
    outcome: str | None
    facts: dict[str, str]
    """Scenario, variant, versions and commits, as far as they are known."""


class Comparison(msgspec.Struct, frozen=True):
    """How two runs, or two artifacts, differ."""

    version: int
    a: Side
    b: Side
    noise: Noise
    metrics: list[Difference]
    verdict_shares: list[Difference]
    ceilings: list[Difference]
    other_work: list[str]
    """In what the work of the two differed; then nothing is better or worse."""
    notes: list[str]
    courses: tuple[Course | None, Course | None] = (None, None)
    """How either went; None where an artifact holds no timeline."""
    settings: list[Setting] = []
    """What was set otherwise."""

    @property
    def every(self) -> list[Difference]:
        return [*self.metrics, *self.verdict_shares, *self.ceilings]

    @property
    def worse(self) -> list[Difference]:
        """Differences for the worse that are not noise."""
        return [difference for difference in self.every if difference.judgement == "worse"]


Ceilings = Mapping[str, tuple[str, Direction | None, float]]
"""By request resource and fact: unit, the better direction, the number."""


@dataclass(frozen=True)
class _Loaded:
    side: Side
    metrics: Mapping[str, Metric]
    repeats: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """A number for each iteration, by the metric and statistic it is of."""
    shares: Sequence[Mapping[str, float]] = ()
    """Of the capacity in demand, by verdict, for each iteration."""
    ceilings: Sequence[Ceilings] = ()
    records: int | None = None
    columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    course: Course | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


def compare(a: str, b: str, narrate: Narrate) -> Comparison:
    """Compare whatever the two name: run folders, recordings, JSON Lines, artifacts.

    Raises `SourceError`.
    """
    left, right = _load(a, narrate), _load(b, narrate)
    noise = _noise_known(left.side, right.side)
    other_work = list(_other_work(left, right))
    comparison = Comparison(
        COMPARE_VERSION,
        left.side,
        right.side,
        noise,
        list(_metrics(left, right, noise)),
        list(_shares(left, right, noise)),
        list(_ceilings(left, right, noise)),
        other_work,
        [*left.notes, *right.notes],
        (left.course, right.course),
        differing(left.settings, right.settings) if left.settings and right.settings else [],
    )
    return _without_direction(comparison) if other_work else comparison


def _load(target: str, narrate: Narrate) -> _Loaded:
    named = named_artifact(target)
    if named is not None:
        return _load_artifact(target, *named)
    with materialize(target, narrate) as path, _opened(path) as reader:
        measures = measure_run(reader)
        run, status = reader.run(), reader.status()
        side = Side(
            clean_text(target),
            clean_text(run.name or run.run_id),
            1,
            False,
            status.outcome or measures.outcome,
            {"producer": f"{run.producer} {run.producer_version}".strip()},
        )
        metrics = {
            name: metric(name, measures.samples[name], measures.missing.get(name))
            for name in METRICS
        }
        lacks = ", ".join(clean_text(what) for what in run.lacks)
        return _Loaded(
            side,
            metrics,
            {},
            [_blame(reader)],
            [_limits(reader)],
            run.records,
            _columns(run),
            (f"{side.title} lacks {lacks}",) if lacks else (),
            course_of(reader),
            settings_of(reader),
        )


def _load_artifact(target: str, path: Path, artifact: Artifact) -> _Loaded:
    facts = {
        "scenario": f"{artifact.scenario_id} version {artifact.scenario_version}",
        "variant": artifact.variant,
        "harness": artifact.harness_version,
    }
    for name in ("baseline_sha", "candidate_sha"):
        commit = getattr(artifact, name)
        if commit is not None:
            facts[name] = commit
    repeats: dict[str, list[float]] = {}
    for iteration in artifact.iterations:
        for name, measured in iteration.metrics.items():
            for statistic in ("mean", "p95"):
                value = getattr(measured, statistic)
                if value is not None:
                    repeats.setdefault(f"{name} {statistic}", []).append(value)
    virtual = artifact.clock_script.clock == "virtual"
    side = Side(
        clean_text(target),
        clean_text(f"{artifact.scenario_id} {artifact.variant}"),
        len(artifact.iterations),
        virtual,
        None,
        {name: clean_text(value) for name, value in facts.items()},
    )
    shares: list[Mapping[str, float]] = []
    ceilings: list[Ceilings] = []
    columns: frozenset[str] = frozenset()
    course: Course | None = None
    settings: Mapping[str, str] = {}
    # Under a virtual clock one iteration is like the other.
    for number, iteration in enumerate(artifact.iterations[: 1 if virtual else None]):
        if iteration.timeline is not None:
            with _opened(recording_of(path, artifact, number)) as reader:
                if not shares:
                    side = msgspec.structs.replace(side, outcome=reader.status().outcome)
                    columns = _columns(reader.run())
                    course, settings = course_of(reader), settings_of(reader)
                shares.append(_blame(reader))
                ceilings.append(_limits(reader))
    records = artifact.inputs.record_count
    return _Loaded(
        side,
        artifact.metrics,
        repeats,
        shares,
        ceilings,
        records,
        columns,
        course=course,
        settings=settings,
    )


@contextmanager
def _opened(path: Path) -> Iterator[RecordingReader]:
    reader = open_recording(path)
    try:
        yield reader
    finally:
        reader.close()


def _columns(run: RunInfo) -> frozenset[str]:
    return frozenset(clean_text(column.name) for column in run.columns)


def _blame(reader: RecordingReader) -> dict[str, float]:
    shares: dict[str, float] = {}
    for share in run_shares(reader.blame(-(2**40), 2**40, "run")):
        shares[share.verdict] = shares.get(share.verdict, 0.0) + share.fraction
    return shares


def _limits(reader: RecordingReader) -> Ceilings:
    facts: dict[str, tuple[str, Direction | None, float]] = {}
    lowest: dict[str, float] = {}
    held: dict[str, float] = {}
    for row in reader.rollup(-(2**40), 2**40):
        if row.series == "limit":
            lowest[row.key] = min(lowest.get(row.key, row.last), row.last)
        elif row.series == "in_flight":
            held[row.key] = held.get(row.key, 0.0) + row.mean * row.bins
    bounds = reader.bounds()
    seconds = bounds.t1 - bounds.t0
    for resource, ceiling in reader.state_at(bounds.last_ordinal).ceilings.items():
        name = clean_text(resource)
        facts[f"{name}: effective maximum"] = ("requests", None, ceiling.effective_max)
        facts[f"{name}: limit at the end"] = ("requests", "higher", ceiling.limit)
        if resource in lowest:
            facts[f"{name}: lowest limit"] = ("requests", "higher", lowest[resource])
        if seconds > 0:
            mean = held.get(resource, 0.0) / seconds
            facts[f"{name}: mean in flight"] = ("requests", None, mean)
        facts[f"{name}: rate-limited"] = ("requests", "lower", ceiling.rate_limited)
    return facts


def _noise_known(a: Side, b: Side) -> Noise:
    if a.virtual and b.virtual:
        return "none"
    return "measured" if min(a.runs, b.runs) >= ENOUGH else "unknown"


def _other_work(a: _Loaded, b: _Loaded) -> Iterator[str]:
    """In what the work of the two differed, as far as both tell."""
    scenarios = [run.side.facts.get("scenario") for run in (a, b)]
    if None not in scenarios and scenarios[0] != scenarios[1]:
        yield f"scenario {scenarios[0]} and {scenarios[1]}"
    if a.records is not None and b.records is not None and a.records != b.records:
        yield f"{a.records:,} and {b.records:,} records"
    if a.columns and b.columns:
        for name, only in (("A", a.columns - b.columns), ("B", b.columns - a.columns)):
            if only:
                yield f"{', '.join(sorted(only))} only in {name}"


def _without_direction(comparison: Comparison) -> Comparison:
    def level(rows: list[Difference]) -> list[Difference]:
        return [
            difference
            if difference.judgement in ("same", "unknown")
            else msgspec.structs.replace(difference, judgement="different")
            for difference in rows
        ]

    return msgspec.structs.replace(
        comparison,
        metrics=level(comparison.metrics),
        verdict_shares=level(comparison.verdict_shares),
        ceilings=level(comparison.ceilings),
    )


def _metrics(a: _Loaded, b: _Loaded, noise: Noise) -> Iterator[Difference]:
    empty = Metric(missing_reason="this side does not have it")
    for name in dict.fromkeys([*a.metrics, *b.metrics]):
        left, right = a.metrics.get(name, empty), b.metrics.get(name, empty)
        unit, better = METRICS.get(name, (left.unit or right.unit, left.better))
        missing = tuple(
            clean_text(value.missing_reason) for value in (left, right) if value.missing_reason
        )
        # Of one number there is no 95th percentile to speak of.
        several = max(left.count / max(a.side.runs, 1), right.count / max(b.side.runs, 1)) > 1
        for statistic in ("mean", "p95") if several else ("mean",):
            key = f"{name} {statistic}"
            yield differ(
                clean_text(key if several else name),
                unit,
                better,
                getattr(left, statistic),
                getattr(right, statistic),
                noise,
                (a.repeats.get(key, ()), b.repeats.get(key, ())),
                missing,
                SMALL_SECONDS if unit == "s" else 0.0,
            )


def _shares(a: _Loaded, b: _Loaded, noise: Noise) -> Iterator[Difference]:
    """Shares of the capacity in demand. A side without blame has none."""
    if not a.shares or not b.shares:
        return
    for verdict in dict.fromkeys(name for shares in (*a.shares, *b.shares) for name in shares):
        left = [shares.get(verdict, 0.0) for shares in a.shares]
        right = [shares.get(verdict, 0.0) for shares in b.shares]
        better: Direction = "higher" if verdict == WORKING else "lower"
        yield differ(
            verdict,
            "share",
            better,
            _mean(left),
            _mean(right),
            noise,
            (left, right),
            least=SMALL_SHARE,
        )


def _ceilings(a: _Loaded, b: _Loaded, noise: Noise) -> Iterator[Difference]:
    for name in dict.fromkeys(name for ceilings in (*a.ceilings, *b.ceilings) for name in ceilings):
        left = [ceilings[name] for ceilings in a.ceilings if name in ceilings]
        right = [ceilings[name] for ceilings in b.ceilings if name in ceilings]
        unit, better, _ = (left or right)[0]
        values = [number for *_, number in left], [number for *_, number in right]
        only = "B" if not left else "A"
        yield differ(
            name,
            unit,
            better,
            _mean(values[0]),
            _mean(values[1]),
            noise,
            values,
            () if left and right else (f"only {only} has this resource",),
        )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
