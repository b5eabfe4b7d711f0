"""What a whole run was like, in numbers: the derived metrics of one joined timeline.

Computed from the recorded events alone, by one pass of the reducer, so that a console, `verify`,
`compare` and a benchmark can't come to different numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from engine.events import Event, RunInfo
from replay.metrics.event_metrics import NO_REQUESTS, Measures, RunPass
from replay.metrics.stats import describe
from replay.recording.reader import RecordingReader
from replay.runs.artifact import Direction, Metric
from replay.state.model import Progress
from replay.state.rows import AttemptRow, LeaseRow
from replay.state.waits import waits

CHUNK = 20_000
REFUSALS = "rate_limited_share"
SETTLED_REFUSALS = "settled_rate_limited_share"
ROUND_TRIPS = (20, 200)
"""Between which a ceiling has found its provider, counted in round trips from the first call."""
# Metric -> unit, and which direction is better where that is known.
METRICS: dict[str, tuple[str, Direction | None]] = {
    "ready_queue_wait": ("s", "lower"),
    "task_admission_wait": ("s", "lower"),
    "ready_to_lease_gap": ("s", "lower"),
    "ready_idle_gap": ("s", "lower"),
    "active_capacity_integral": ("s", None),
    "root_over_admission_debt": ("units", "lower"),
    "hidden_scheduler_resource_waiters": ("tasks", "lower"),
    "request_wait": ("s", "lower"),
    "provider_time": ("s", None),
    "own_time": ("s", "lower"),
    "wall_time": ("s", "lower"),
    "row_completion": ("s", "lower"),
    "time_to_first_row": ("s", "lower"),
    "time_to_half_of_the_rows": ("s", "lower"),
    "time_to_first_downstream_ready": ("s", "lower"),
    "time_to_first_downstream_dispatch": ("s", "lower"),
    "initial_idle_gap": ("s", "lower"),
    "downstream_ready_to_lease_gap": ("s", "lower"),
    "utilisation": ("share", "higher"),
    "rows_dropped": ("rows", "lower"),
    "tokens": ("tokens", "lower"),
    "cost": ("USD", "lower"),
    REFUSALS: ("share", "lower"),
    SETTLED_REFUSALS: ("share", "lower"),
    "limit_cuts": ("cuts", "lower"),
    "timeline_faults": ("tasks", "lower"),
    "event_rule_faults": ("events", "lower"),
    "open_at_the_end": ("leases and waiters", "lower"),
    "attempts_without_their_own_lease": ("attempts", "lower"),
    "request_fairness": ("Jain index", "higher"),
}


def metric(name: str, samples: Sequence[float], missing: str | None = None) -> Metric:
    """The named metric over `samples`; without any it is unknown, and says why."""
    unit, better = METRICS.get(name, ("", None))
    if not samples:
        return Metric(unit, better, missing_reason=missing or "the run gave no sample of it")
    statistics = describe(samples)
    return Metric(
        unit,
        better,
        statistics.count,
        statistics.mean,
        statistics.p50,
        statistics.p95,
        statistics.min,
        statistics.max,
        statistics.stddev,
    )


def measure_run(reader: RecordingReader) -> Measures:
    """Every metric of a recording. Reads it once, and all its leases and attempts into memory."""
    run = reader.run()
    pass_ = RunPass(run)
    for first, events in event_chunks(reader):
        for ordinal, event in enumerate(events, first):
            pass_.take(event, ordinal)
    leases, attempts = reader.bars(-math.inf, math.inf, 2**40)
    measures = pass_.measures()
    _add_waits(measures, run, leases, attempts, pass_.state.time)
    _add_progress(measures, run, leases)
    _add_fairness(measures, run, attempts)
    _add_spending(measures, pass_.state.progress)
    measures.attempts = attempts
    add_settled_refusals(measures, None)
    for name in METRICS:
        measures.samples.setdefault(name, [])
    return measures


def add_settled_refusals(measures: Measures, latency: float | None) -> None:
    """The part of the calls of `ROUND_TRIPS` that was refused because of load.

    Args:
        measures: Of one run; gets the metric.
        latency: Seconds of a round trip; None where the work has no such number.
    """
    late = []
    if latency is not None:
        start = min((row.started_at for row in measures.attempts if row.started_at), default=0.0)
        begin, end = (start + trips * latency for trips in ROUND_TRIPS)
        late = [
            row for row in measures.attempts if row.started_at and begin <= row.started_at < end
        ]
    refused = sum(row.outcome == "rate_limited" for row in late)
    measures.samples[SETTLED_REFUSALS] = [refused / len(late)] if late else []
    measures.missing[SETTLED_REFUSALS] = (
        "the scenario names no round trip"
        if latency is None
        else f"the run ended before round trip {ROUND_TRIPS[0]}"
    )


def event_chunks(reader: RecordingReader) -> Iterator[tuple[int, list[Event]]]:
    """All events in order, with the ordinal of the first of each piece."""
    bounds = reader.bounds()
    for first in range(bounds.first_ordinal, bounds.last_ordinal + 1, CHUNK):
        yield first, [event for _, event in reader.events(first, first + CHUNK - 1)]


def _add_spending(measures: Measures, progress: Progress) -> None:
    tokens = progress.prompt_tokens + progress.completion_tokens
    if tokens:
        measures.samples["tokens"] = [float(tokens)]
    else:
        measures.missing["tokens"] = "no call told of tokens"
    if progress.priced_calls and progress.priced_calls == progress.answered_calls:
        measures.samples["cost"] = [progress.cost]
    else:
        measures.missing["cost"] = "the cost of some calls is not known"


def _add_waits(
    measures: Measures,
    run: RunInfo,
    leases: Sequence[LeaseRow],
    attempts: Sequence[AttemptRow],
    end: float,
) -> None:
    by_execution: dict[str, list[AttemptRow]] = {}
    for attempt in attempts:
        if attempt.execution_id is not None:
            by_execution.setdefault(attempt.execution_id, []).append(attempt)
    downstream = {column.name for column in run.columns if column.depends_on}
    names = (
        "ready_queue_wait",
        "task_admission_wait",
        "ready_to_lease_gap",
        "request_wait",
        "provider_time",
        "own_time",
        "downstream_ready_to_lease_gap",
    )
    samples: dict[str, list[float]] = {name: [] for name in names}
    unknown = not attempts and any(column.request_resource for column in run.columns)
    for lease in leases:
        own = by_execution.get(lease.execution_id or "", [])
        waited = waits(lease, own, end)
        for name in names[:6]:
            value = getattr(waited, name)
            if name == "own_time" and unknown:
                continue  # what of it was the provider's is not recorded
            if value is not None and (own or name not in ("request_wait", "provider_time")):
                samples[name].append(value)
        if lease.column in downstream and waited.ready_to_lease_gap is not None:
            samples["downstream_ready_to_lease_gap"].append(waited.ready_to_lease_gap)
    for name, values in samples.items():
        measures.samples[name] = values
        measures.missing[name] = (
            NO_REQUESTS if name in ("request_wait", "provider_time", "own_time") else "no such task"
        )


def _add_progress(measures: Measures, run: RunInfo, leases: Sequence[LeaseRow]) -> None:
    """When the last cell of each row was done, counted from the start of the run."""
    done: dict[int, float] = {}
    lost: set[int] = set()
    for lease in leases:
        if lease.row is None:
            continue
        if lease.result == "completed" and lease.released_at is not None:
            done[lease.row] = max(done.get(lease.row, 0.0), lease.released_at)
        elif lease.result != "deferred":
            lost.add(lease.row)
    start = run.monotonic_start
    times = sorted(at - start for row, at in done.items() if row not in lost)
    measures.samples["row_completion"] = times
    why = "no row was finished, or all columns are batches"
    measures.missing["row_completion"] = why
    for name, index in (("time_to_first_row", 0), ("time_to_half_of_the_rows", len(times) // 2)):
        measures.samples[name] = [times[index]] if times else []
        measures.missing[name] = why


def _add_fairness(measures: Measures, run: RunInfo, attempts: Sequence[AttemptRow]) -> None:
    """Jain's index over columns that want the same resource and become ready alike, counted in
    requests of the first half of the run, when all of them are backlogged."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for column in run.columns:
        if column.request_resource is not None:
            key = (column.request_resource, column.depends_on)
            alike.setdefault(key, []).append(column.name)
    started = sorted(
        (attempt.started_at, attempt.column)
        for attempt in attempts
        if attempt.started_at and attempt.column
    )
    half = [column for _, column in started[: len(started) // 2]]
    indices = []
    for columns in alike.values():
        counts = [half.count(column) for column in columns]
        if len(columns) > 1 and any(counts):
            indices.append(sum(counts) ** 2 / (len(counts) * sum(n * n for n in counts)))
    measures.samples["request_fairness"] = indices
    measures.missing["request_fairness"] = "no two columns want one resource on equal terms"
