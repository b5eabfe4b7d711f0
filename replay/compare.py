"""Two runs side by side: metrics, what the time went to, ceilings, and whether a difference means
anything.

A recording is one run, and its noise is unknown. A benchmark artifact has iterations: a difference
counts where the intervals of both medians lie apart, and under a virtual clock, which has no noise,
always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from replay.artifact import Artifact, recording_of
from replay.diagnosis.summary import run_shares
from replay.diagnosis.verdicts import WORKING
from replay.recording.reader import RecordingReader, open_recording
from replay.recording.whole import Narrate, whole_recording
from replay.run_metrics import METRICS, measure_run, metric
from replay.sources.open import named_artifact
from replay.sources.text import clean_text
from replay.statistics import Direction, Metric, median_interval

COMPARE_VERSION = 1
ENOUGH = 5
Judgement = Literal["better", "worse", "same", "different", "unknown"]
"""`different` where it is not known which direction is better, or whether it is noise."""
SURE_ENOUGH = 0.9
"""Confidence that both intervals must have for noise to be told: five iterations do."""
NOTHING = 1e-9
"""Difference, relative to the larger or to 1, below which two numbers are the same."""


class Side(msgspec.Struct, frozen=True):
    """What is compared. `runs` iterations; `virtual` where their clock was."""

    target: str
    title: str
    runs: int
    virtual: bool
    outcome: str | None
    facts: dict[str, str]
    """Scenario, variant, versions and commits, as far as they are known."""


class Difference(msgspec.Struct, frozen=True):
    """One number of both sides. `change` is b - a, `ratio` b / a; None where they can't be told.

    `noise`: `beyond`, `within`, `none` (deterministic) or `unknown`.
    """

    name: str
    unit: str
    a: float | None
    b: float | None
    change: float | None
    ratio: float | None
    judgement: Judgement
    noise: Literal["beyond", "within", "none", "unknown"]
    interval_a: tuple[float, float] | None = None
    interval_b: tuple[float, float] | None = None
    missing_reasons: tuple[str, ...] = ()


class Comparison(msgspec.Struct, frozen=True):
    version: int
    a: Side
    b: Side
    metrics: list[Difference]
    verdict_shares: list[Difference]
    ceilings: list[Difference]
    notes: list[str]

    @property
    def worse(self) -> list[Difference]:
        """Differences for the worse that are not noise."""
        every = [*self.metrics, *self.verdict_shares, *self.ceilings]
        return [
            one for one in every if one.judgement == "worse" and one.noise in ("beyond", "none")
        ]


@dataclass(frozen=True)
class _Loaded:
    side: Side
    metrics: Mapping[str, Metric]
    repeats: Mapping[str, Sequence[float]]
    """A number for each iteration, by the metric and statistic it is of."""
    shares: Mapping[str, float] | None
    ceilings: Mapping[str, tuple[str, Direction | None, float]]
    notes: tuple[str, ...] = ()


def compare(a: str, b: str, narrate: Narrate) -> Comparison:
    """Compare whatever the two name: run folders, recordings, JSON Lines, artifacts.

    Raises `SourceError`.
    """
    left, right = _load(a, narrate), _load(b, narrate)
    noise = _noise_known(left.side, right.side)
    notes = [*left.notes, *right.notes]
    if noise == "measured" and min(left.side.runs, right.side.runs) < ENOUGH:
        notes.append(f"fewer than {ENOUGH} iterations: noise unknown")
    if noise == "unknown":
        notes.append(
            "one run each: noise unknown"
            if left.side.runs == right.side.runs == 1
            else "one run on one side: noise unknown"
        )
    if left.side.facts.get("scenario") != right.side.facts.get("scenario"):
        notes.append("the two did not run the same scenario")
    return Comparison(
        COMPARE_VERSION,
        left.side,
        right.side,
        list(_metrics(left, right, noise)),
        list(_shares(left, right, noise)),
        list(_ceilings(left, right, noise)),
        notes,
    )


def _load(target: str, narrate: Narrate) -> _Loaded:
    named = named_artifact(target)
    if named is not None:
        return _load_artifact(target, *named)
    with whole_recording(target, narrate) as path, _opened(path) as reader:
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
        found = {
            name: metric(name, measures.samples[name], measures.missing.get(name))
            for name in METRICS
        }
        notes = tuple(f"{side.title} lacks {clean_text(what)}" for what in run.lacks)
        return _Loaded(side, found, {}, _blame(reader), _limits(reader), notes)


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
        for name, one in iteration.metrics.items():
            for statistic in ("mean", "p95"):
                value = getattr(one, statistic)
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
    if not artifact.iterations or artifact.iterations[0].timeline is None:
        return _Loaded(side, artifact.metrics, repeats, None, {})
    with _opened(recording_of(path, artifact)) as reader:
        side = msgspec.structs.replace(side, outcome=reader.status().outcome)
        return _Loaded(side, artifact.metrics, repeats, _blame(reader), _limits(reader))


@contextmanager
def _opened(path: Path) -> Iterator[RecordingReader]:
    reader = open_recording(path)
    try:
        yield reader
    finally:
        reader.close()


def _blame(reader: RecordingReader) -> dict[str, float]:
    shares: dict[str, float] = {}
    for share in run_shares(reader.blame(-(2**40), 2**40, "run")):
        shares[share.verdict] = shares.get(share.verdict, 0.0) + share.fraction
    return shares


def _limits(reader: RecordingReader) -> dict[str, tuple[str, Direction | None, float]]:
    """By request resource and fact: unit, the better direction, the number."""
    found: dict[str, tuple[str, Direction | None, float]] = {}
    lowest: dict[str, float] = {}
    held: dict[str, float] = {}
    for row in reader.rollup(-(2**40), 2**40):
        if row.series == "limit":
            lowest[row.key] = min(lowest.get(row.key, row.last), row.last)
        elif row.series == "in_flight":
            held[row.key] = held.get(row.key, 0.0) + row.mean
    bounds = reader.bounds()
    seconds = bounds.t1 - bounds.t0
    for resource, ceiling in reader.state_at(bounds.last_ordinal).ceilings.items():
        name = clean_text(resource)
        found[f"{name}: effective maximum"] = ("requests", None, ceiling.effective_max)
        found[f"{name}: limit at the end"] = ("requests", "higher", ceiling.limit)
        if resource in lowest:
            found[f"{name}: lowest limit"] = ("requests", "higher", lowest[resource])
        if seconds > 0:
            mean = held.get(resource, 0.0) / seconds
            found[f"{name}: mean in flight"] = ("requests", None, mean)
        found[f"{name}: rate-limited"] = ("requests", "lower", ceiling.rate_limited)
    return found


Noise = Literal["measured", "none", "unknown"]


def _noise_known(a: Side, b: Side) -> Noise:
    if a.virtual and b.virtual:
        return "none"
    return "measured" if a.runs > 1 and b.runs > 1 else "unknown"


def _metrics(a: _Loaded, b: _Loaded, noise: Noise) -> Iterator[Difference]:
    empty = Metric(missing_reason="this side does not have it")
    for name in dict.fromkeys([*a.metrics, *b.metrics]):
        left, right = a.metrics.get(name, empty), b.metrics.get(name, empty)
        unit, better = METRICS.get(name, (left.unit or right.unit, left.better))
        missing = tuple(
            clean_text(one.missing_reason) for one in (left, right) if one.missing_reason
        )
        # Of one number there is no 95th percentile to speak of.
        several = max(left.count / max(a.side.runs, 1), right.count / max(b.side.runs, 1)) > 1
        for statistic in ("mean", "p95") if several else ("mean",):
            key = f"{name} {statistic}"
            yield _difference(
                clean_text(key if several else name),
                unit,
                better,
                getattr(left, statistic),
                getattr(right, statistic),
                noise,
                a.repeats.get(key, ()),
                b.repeats.get(key, ()),
                missing,
            )


def _shares(a: _Loaded, b: _Loaded, noise: Noise) -> Iterator[Difference]:
    """Shares of the capacity in demand, of the first iteration. A side without blame has none."""
    if a.shares is None or b.shares is None:
        return
    for verdict in dict.fromkeys([*a.shares, *b.shares]):
        better: Direction = "higher" if verdict == WORKING else "lower"
        yield _difference(
            verdict,
            "share",
            better,
            a.shares.get(verdict, 0.0),
            b.shares.get(verdict, 0.0),
            "none" if noise == "none" else "unknown",
        )


def _ceilings(a: _Loaded, b: _Loaded, noise: Noise) -> Iterator[Difference]:
    for name in dict.fromkeys([*a.ceilings, *b.ceilings]):
        left, right = a.ceilings.get(name), b.ceilings.get(name)
        unit, better, _ = left or right or ("", None, 0.0)
        yield _difference(
            name,
            unit,
            better,
            None if left is None else left[2],
            None if right is None else right[2],
            "none" if noise == "none" else "unknown",
            missing=() if left and right else ("only one side has this resource",),
        )


def _difference(
    name: str,
    unit: str,
    better: Direction | None,
    a: float | None,
    b: float | None,
    noise: Noise,
    repeats_a: Sequence[float] = (),
    repeats_b: Sequence[float] = (),
    missing: tuple[str, ...] = (),
) -> Difference:
    if a is None or b is None:
        why = missing or ("no reason is given",)
        return Difference(name, unit, a, b, None, None, "unknown", "unknown", missing_reasons=why)
    change, ratio = b - a, (b / a if a else None)
    judgement: Judgement = "different"
    if abs(change) <= NOTHING * max(abs(a), abs(b), 1.0):
        judgement = "same"
    elif better is not None:
        judgement = "better" if (change > 0) == (better == "higher") else "worse"
    if noise == "none":
        return Difference(name, unit, a, b, change, ratio, judgement, "none")
    if noise == "unknown" or len(repeats_a) < 2 or len(repeats_b) < 2:
        return Difference(name, unit, a, b, change, ratio, judgement, "unknown")
    left, right = median_interval(repeats_a), median_interval(repeats_b)
    if min(left.confidence, right.confidence) < SURE_ENOUGH:
        return Difference(name, unit, a, b, change, ratio, judgement, "unknown")
    apart = left.high < right.low or right.high < left.low
    return Difference(
        name,
        unit,
        a,
        b,
        change,
        ratio,
        judgement if apart or judgement == "same" else "same",
        "beyond" if apart else "within",
        (left.low, left.high),
        (right.low, right.high),
    )
