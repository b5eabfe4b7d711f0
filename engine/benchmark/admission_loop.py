"""The measuring loop over a queue and a task admission controller, whoever's they are.

Needs nothing but the standard library, so that it also runs where only the other engine is at hand.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

STEPS = ("enqueue", "select", "acquire", "commit", "release")
BATCH = 1000
"""Tasks that become ready together."""
SAMPLES = 4096
"""Cycles whose durations are kept for the quantiles, evenly over the run."""


@dataclass(frozen=True)
class AdmissionParts:
    """The five operations of one engine, on a queue and a controller made for one cell.

    `select` gives a selection or None, `acquire` a lease for it (or what `is_lease` tells from
    one), `commit` None where the selection was stale.
    """

    enqueue: Callable[[Sequence[Any]], object]
    select: Callable[[], Any]
    acquire: Callable[[Any], Any]
    commit: Callable[[Any], Any]
    release: Callable[[Any], object]
    is_lease: Callable[[Any], bool]


@dataclass(frozen=True)
class StepTimes:
    """Elapsed seconds: `steps` per task; `p50` and `p95` of whole cycles from the selection to the
    release, without enqueueing."""

    tasks: int
    steps: dict[str, float]
    p50: float
    p95: float


def time_steps(parts: AdmissionParts, tasks: Sequence[Any]) -> StepTimes:
    """Enqueue every task, admit and release it, with a clock at every step.

    As a scheduler does: whatever may run is leased until nothing is eligible; then the oldest
    lease is released and the queue is asked again. Where capacity is plentiful, everything is
    leased before the first release. The clock itself costs a little.
    """
    gc.collect()
    began = perf_counter()
    enqueue_all(parts, tasks)
    enqueueing = (perf_counter() - began) / len(tasks)
    spent = dict.fromkeys(STEPS[1:], 0.0)
    running: deque[Any] = deque()
    admitted = 0
    every = max(1, len(tasks) // SAMPLES)
    cycles: list[float] = []
    cycle = 0.0
    while True:
        t0 = perf_counter()
        selection = parts.select()
        t1 = perf_counter()
        spent["select"] += t1 - t0
        cycle += t1 - t0
        if selection is not None:
            lease = parts.acquire(selection)
            t2 = perf_counter()
            if not parts.is_lease(lease) or parts.commit(selection) is None:
                raise RuntimeError("a selected task was not admitted")
            t3 = perf_counter()
            spent["acquire"] += t2 - t1
            spent["commit"] += t3 - t2
            running.append(lease)
            admitted += 1
            cycle += t3 - t1
            if admitted % every == 0:
                cycles.append(cycle)
            cycle = 0.0
            continue
        if not running:
            break
        t0 = perf_counter()
        parts.release(running.popleft())
        t1 = perf_counter()
        spent["release"] += t1 - t0
        cycle += t1 - t0
    steps = {"enqueue": enqueueing}
    steps.update((step, seconds / admitted) for step, seconds in spent.items())
    cycles.sort()
    return StepTimes(admitted, steps, _quantile(cycles, 0.5), _quantile(cycles, 0.95))


def enqueue_all(parts: AdmissionParts, tasks: Sequence[Any]) -> None:
    """In batches of `BATCH`."""
    for start in range(0, len(tasks), BATCH):
        parts.enqueue(tasks[start : start + BATCH])


def _quantile(ordered: Sequence[float], fraction: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]
