"""Where the time of one task lease went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from replay.state.rows import AttemptRow, LeaseRow


@dataclass(frozen=True, slots=True)
class Waits:
    """Where the time of one task lease went, in seconds; None where the stream does not tell."""

    ready_queue_wait: float | None
    task_admission_wait: float | None
    ready_to_lease_gap: float | None
    request_wait: float
    provider_time: float
    own_time: float | None


def waits(lease: LeaseRow, attempts: Sequence[AttemptRow], now: float) -> Waits:
    """The waits of a lease with its request attempts; what is open counts until `now`.

    `own_time` is the time of the worker in which none of its attempts was under way.
    """
    request_wait = provider_time = 0.0
    under_way: list[tuple[float, float]] = []
    for attempt in attempts:
        ended = now if attempt.released_at is None else attempt.released_at
        if attempt.wait_started_at is not None:
            until = ended if attempt.acquired_at is None else attempt.acquired_at
            request_wait += max(0.0, until - attempt.wait_started_at)
        if attempt.started_at is not None:
            until = ended if attempt.completed_at is None else attempt.completed_at
            provider_time += max(0.0, until - attempt.started_at)
        begun = (attempt.wait_started_at, attempt.acquired_at, attempt.started_at)
        begun_at = [at for at in begun if at is not None]
        if begun_at:
            last = ended if attempt.completed_at is None else max(ended, attempt.completed_at)
            under_way.append((begun_at[0], last))
    own_time = None
    if lease.spawned_at is not None:
        released = now if lease.released_at is None else lease.released_at
        own_time = max(0.0, released - lease.spawned_at - _covered(under_way))
    return Waits(
        _between(lease.enqueued_at, lease.selected_at),
        _between(lease.selected_at, lease.acquired_at),
        _between(lease.enqueued_at, lease.acquired_at),
        request_wait,
        provider_time,
        own_time,
    )


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(0.0, end - start)


def _covered(intervals: list[tuple[float, float]]) -> float:
    """Length of the union."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
