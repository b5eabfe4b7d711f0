"""The gates of a benchmark: what the measures of its iterations must show.

Deterministic claims are judged in every iteration; claims about time by
`replay.metrics.stats.judge`, which calls inconclusive what hangs on the fastest and the slowest
iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replay.metrics.event_metrics import Measures
from replay.metrics.run_metrics import REFUSALS, ROUND_TRIPS, SETTLED_REFUSALS
from replay.metrics.stats import judge, median_interval
from replay.runs.artifact import GateResult, GateVerdict
from replay.verify.report import CheckResult

LOOP_GRANULARITY = 0.05
"""Seconds that a busy event loop may take to come round, in real time."""
NEUTRAL = 1.05


@dataclass(frozen=True)
class Evidence:
    """All that a gate may look at. `hashes` are of the rows of each iteration, `serial` of the run
    with one task at a time; `against` are the wall times of the variant compared with."""

    measures: Sequence[Measures]
    bounds: Mapping[str, Any]
    virtual: bool
    expected_outcome: str
    hashes: Sequence[str]
    serial: str | None
    walls: Sequence[float]
    checks: Sequence[Sequence[CheckResult]]
    against: Sequence[float] = ()


def evaluate(gates: Sequence[str], evidence: Evidence) -> list[GateResult]:
    """The result of each gate. Raises `KeyError` for one that does not exist."""
    return [GateResult(gate, *_GATES[gate](evidence)) for gate in gates]


Judged = tuple[GateVerdict, str]


def _zero(name: str, unit: str) -> Callable[[Evidence], Judged]:
    def judged(evidence: Evidence) -> Judged:
        if not all(measures.samples[name] for measures in evidence.measures):
            return "unknown", "not all iterations tell"
        worst = max(sum(measures.samples[name]) for measures in evidence.measures)
        return _passed_if(worst == 0, f"{worst:g} {unit}")

    return judged


def _passed_if(held: bool, detail: str) -> Judged:
    return ("passed" if held else "failed"), detail


def _ended_as_planned(evidence: Evidence) -> Judged:
    outcomes = {measures.outcome or "no end" for measures in evidence.measures}
    return _passed_if(
        outcomes == {evidence.expected_outcome}, f"ended with {', '.join(sorted(outcomes))}"
    )


def _ready_idle(evidence: Evidence) -> Judged:
    """Where time is virtual, nothing may be left lying: work and capacity meet at one instant."""
    allowed = 1e-9 if evidence.virtual else LOOP_GRANULARITY
    longest = [
        max(measures.samples["ready_idle_gap"], default=0.0) for measures in evidence.measures
    ]
    detail = f"longest gap {max(longest) * 1000:.3g} ms, allowed {allowed * 1000:.3g} ms"
    if evidence.virtual:
        return _passed_if(max(longest) <= allowed, detail)
    return judge(longest, at_most=allowed), detail


def _root_debt(evidence: Evidence) -> Judged:
    worst = max(
        max(measures.samples["root_over_admission_debt"], default=0.0)
        for measures in evidence.measures
    )
    bound = float(evidence.bounds.get("root_debt", 0))
    return _passed_if(worst <= bound, f"{worst:g} units above the share, allowed {bound:g}")


def _same_rows(evidence: Evidence) -> Judged:
    if evidence.serial is None:
        return "unknown", "the serial run was not made"
    other = sum(digest != evidence.serial for digest in evidence.hashes)
    detail = f"{other} of {len(evidence.hashes)} iterations made other rows than the serial run"
    return _passed_if(bool(evidence.hashes) and not other, detail)


def _verified(evidence: Evidence) -> Judged:
    broken = {
        check.rule for checks in evidence.checks for check in checks if check.status == "found"
    }
    return _passed_if(not broken, f"rules broken: {', '.join(sorted(broken)) or 'none'}")


def _neutral_wall(evidence: Evidence) -> Judged:
    return neutral(evidence.walls, evidence.against)


def neutral(walls: Sequence[float], against: Sequence[float]) -> Judged:
    """Wall times of interleaved pairs: no more than 5 % above those compared with.

    It fails only where the interval of the median pair lies above that: a mean that a few noisy
    pairs have raised is inconclusive.
    """
    if not against:
        return "unknown", "nothing to compare with in this run"
    ratios = [wall / other for wall, other in zip(walls, against, strict=True)]
    mean = sum(ratios) / len(ratios)
    interval = median_interval(ratios)
    verdict = judge(ratios, at_most=NEUTRAL)
    if interval.low > NEUTRAL:
        verdict = "failed"
    elif verdict == "failed":
        verdict = "inconclusive"
    detail = (
        f"wall time {mean:.3f} of the baseline's, mean of pairs; "
        f"{interval.low:.3f} to {interval.high:.3f}"
    )
    return verdict, detail


def _healthy_keeps_working(evidence: Evidence) -> Judged:
    """Requests a second of the healthy resource inside the other's cooldowns, against outside.

    Looks at the time in which it has work: up to the start of its last request.
    """
    kept: list[float] = []
    for measures in evidence.measures:
        cooling = measures.cooldowns.get(evidence.bounds["limited"], [])
        healthy = evidence.bounds["healthy"]
        starts = sorted(
            row.started_at
            for row in measures.attempts
            if row.resource == healthy and row.started_at
        )
        if not cooling or len(starts) < 2:
            return "unknown", "no cooldown, or no request beside it"
        end = starts[-1]
        windows = [(begin, min(until, end)) for begin, until in cooling if begin < end]
        inside = sum(until - begin for begin, until in windows)
        outside = end - starts[0] - inside
        within = sum(any(begin <= at < until for begin, until in windows) for at in starts)
        if inside <= 0 or outside <= 0 or within == len(starts):
            return "unknown", "the healthy resource had no time beside or within the cooldowns"
        kept.append((within / inside) / ((len(starts) - within) / outside))
    worst = min(kept)
    return judge(kept, at_least=0.95), f"keeps {worst:.0%} of its rate, at least 95 % is due"


def _goodput(evidence: Evidence) -> Judged:
    """Successes from round trip 20 to 200 outside cooldown, of what the provider can serve."""
    shares = []
    for measures in evidence.measures:
        resource, capacity, latency = (
            evidence.bounds[name] for name in ("resource", "capacity", "latency")
        )
        done = [
            row.completed_at
            for row in measures.attempts
            if row.resource == resource and row.outcome == "success" and row.completed_at
        ]
        if not done:
            return "unknown", "no request was answered"
        start = min(row.started_at for row in measures.attempts if row.started_at)
        begin, end = (start + trips * latency for trips in ROUND_TRIPS)
        end = min(end, max(done))
        cooling = [
            (max(a, begin), min(b, end))
            for a, b in measures.cooldowns.get(resource, [])
            if b > begin
        ]
        free = end - begin - sum(max(0.0, b - a) for a, b in cooling)
        served = sum(begin <= at < end and not _within(at, cooling) for at in done)
        if free <= 0:
            return "unknown", "the run ended before round trip 20"
        shares.append(served / (capacity / latency * free))
    return judge(shares, at_least=0.9), f"{min(shares):.0%} of the capacity, at least 90 % is due"


def _few_refusals(evidence: Evidence) -> Judged:
    shares = [measures.samples[SETTLED_REFUSALS] for measures in evidence.measures]
    if not all(shares):
        return "unknown", "the run ended before round trip 20"
    settled = [share for [share] in shares]
    first, last = ROUND_TRIPS
    detail = (
        f"{max(settled):.1%} of the calls from round trip {first} to {last} answered 429 "
        f"({SETTLED_REFUSALS}), at most 2 % is allowed"
    )
    return judge(settled, at_most=0.02), detail


def _clairvoyant(evidence: Evidence) -> Judged:
    """The time of a client that knows the provider's script, of the time that the run took."""
    shares = []
    for measures in evidence.measures:
        done = [row.completed_at for row in measures.attempts if row.completed_at]
        starts = [row.started_at for row in measures.attempts if row.started_at]
        answered = sum(row.outcome == "success" for row in measures.attempts)
        if not done or not starts:
            return "unknown", "no request was answered"
        optimum = evidence.bounds["lost_seconds"] + answered * evidence.bounds["seconds_per_record"]
        shares.append(optimum / (max(done) - min(starts)))
    return judge(shares, at_least=0.88), f"{min(shares):.0%} of the optimum, at least 88 % is due"


def _few_refused(evidence: Evidence) -> Judged:
    shares = [share for measures in evidence.measures for share in measures.samples[REFUSALS]]
    if len(shares) < len(evidence.measures):
        return "unknown", "not all iterations tell"
    detail = f"{max(shares):.1%} of the calls refused ({REFUSALS}), at most 2 % is allowed"
    return _passed_if(max(shares) <= 0.02, detail)


def _below_the_knee(evidence: Evidence) -> Judged:
    """Calls at once from round trip 20 on, of those beyond which only latency grows."""
    shares = []
    for measures in evidence.measures:
        start = min((row.started_at for row in measures.attempts if row.started_at), default=0.0)
        begin = (
            start
            + ROUND_TRIPS[0] * evidence.bounds["seconds_per_record"] * (evidence.bounds["knee"])
        )
        done = [row.completed_at for row in measures.attempts if row.completed_at]
        end = max(done, default=0.0)
        if end <= begin:
            return "unknown", "the run ended before round trip 20"
        busy = sum(
            max(0.0, row.completed_at - max(begin, row.started_at))
            for row in measures.attempts
            if row.started_at and row.completed_at
        )
        shares.append(busy / (end - begin) / evidence.bounds["knee"])
    return judge(shares, at_most=1.5), f"{max(shares):.2f} times the knee, at most 1.5 is due"


def _fair_requests(evidence: Evidence) -> Judged:
    indices = [
        min(measures.samples["request_fairness"], default=0.0) for measures in evidence.measures
    ]
    return _passed_if(min(indices) >= 0.95, f"Jain index {min(indices):.3f}, at least 0.95 is due")


def _within(at: float, windows: Sequence[tuple[float, float]]) -> bool:
    return any(begin <= at < end for begin, end in windows)


_GATES: dict[str, Callable[[Evidence], Judged]] = {
    "ended_as_planned": _ended_as_planned,
    "verified": _verified,
    "timelines_whole": _zero(
        "timeline_faults", "timelines miss one of their 13 fields or run backwards"
    ),
    "no_row_dropped": _zero("rows_dropped", "rows dropped"),
    "ready_idle": _ready_idle,
    "root_debt": _root_debt,
    "same_rows": _same_rows,
    "neutral_wall": _neutral_wall,
    "healthy_keeps_working": _healthy_keeps_working,
    "goodput": _goodput,
    "few_refusals": _few_refusals,
    "fair_requests": _fair_requests,
    "clairvoyant": _clairvoyant,
    "few_refused": _few_refused,
    "below_the_knee": _below_the_knee,
}
