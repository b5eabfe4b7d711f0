"""Series for charts, each as long as there are samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from engine.events import RunInfo
from replay.diagnosis.verdicts import WORKING
from replay.playback.frame import CeilingRow, GroupRow
from replay.playback.series_sampler import LATENCY_P95, Samples
from replay.state.model import State
from replay.state.rows import BlameRow

BlameSeries = tuple[tuple[str, tuple[float, ...]], ...]
_NEAR = 1e-9


def ceiling_rows(
    state: State, past: Samples, at: float, present: bool, calls: bool
) -> tuple[CeilingRow, ...]:
    """By resource, each with its past; `present`: and the state as the last sample; `calls`: and
    what became of its calls."""
    rows = []
    samples = past.samples
    for key in sorted(state.ceilings):
        ceiling = msgspec.structs.replace(state.ceilings[key])
        until = ceiling.blocked_until
        cooling = until is not None and until > at
        rows.append(
            CeilingRow(
                ceiling,
                (
                    *(sample.value("limit", key) for sample in samples),
                    *[float(ceiling.limit)] * present,
                ),
                (
                    *(sample.value("in_flight", key) for sample in samples),
                    *[float(ceiling.in_flight)] * present,
                ),
                (
                    *(sample.value("waiters", key) for sample in samples),
                    *[float(ceiling.waiters)] * present,
                ),
                (*(sample.value("cooling", key) > 0 for sample in samples), *[cooling] * present),
                (
                    *(int(sample.sums.get(("rate_limited", key), 0)) for sample in samples),
                    *[0] * present,
                ),
            )
        )
    return tuple(_with_calls(row, past, present) for row in rows) if calls else tuple(rows)


def _with_calls(row: CeilingRow, past: Samples, present: bool) -> CeilingRow:
    """The present second is not over: nothing is known of its calls."""
    key, samples = row.ceiling.resource, past.samples
    latency = (*(sample.value("latency", key) for sample in samples), *[0.0] * present)
    is_recorded = any(latency) or not past.total("completed", key)
    return replace(
        row,
        failed=(
            *(int(sample.sums.get(("failed", key), 0)) for sample in samples),
            *[0] * present,
        ),
        latency=latency if is_recorded else None,
        latency_p95=(*(sample.value(LATENCY_P95, key) for sample in samples), *[0.0] * present),
    )


def queue_series(
    groups: Sequence[GroupRow], past: Samples, present: bool
) -> tuple[tuple[float, ...], ...]:
    """By group; `present`: with what is queued now as the last sample."""
    return tuple(
        (
            *(sample.value("queue_depth", group.key) for sample in past.samples),
            *[float(group.queued)] * present,
        )
        for group in groups
    )


def blame_series(
    run: RunInfo, rows: Sequence[BlameRow], edge: float, samples: int, span: float
) -> BlameSeries:
    """Each verdict's part of the capacity in demand, in `samples` equal stretches of the `span`
    seconds that end at `edge`; work first, then what took most in all of them."""
    if samples <= 0 or span <= 0:
        return ()
    left, width = edge - span - run.monotonic_start, span / samples
    seconds: dict[str, list[float]] = {}
    totals = [0.0] * samples
    for row in rows:
        begin, end = row.bin - left, row.bin + row.bins - left
        first = max(0, math.floor(begin / width + _NEAR))
        after = min(samples, math.ceil(end / width - _NEAR))
        if after <= first:
            continue
        values = seconds.get(row.verdict)
        if values is None:
            values = seconds[row.verdict] = [0.0] * samples
        for index in range(first, after):
            part = min(end, (index + 1) * width) - max(begin, index * width)
            if part > 0:
                values[index] += row.per_bin * part
                totals[index] += row.per_bin * part
    order = sorted(seconds, key=lambda name: (name != WORKING, -math.fsum(seconds[name]), name))
    return tuple(
        (
            name,
            tuple(
                value / total if total > 0 else 0.0
                for value, total in zip(seconds[name], totals, strict=True)
            ),
        )
        for name in order
    )
