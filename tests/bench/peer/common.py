"""What both sides of the comparison do alike. Needs nothing but the standard library."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from engine.benchmark.admission_loop import AdmissionParts, enqueue_all

CAP = 32
"""Requests in flight, and leases where capacity binds."""
LATENCY_SECONDS = 0.02
BUFFER_SIZE = 50
ROW_GROUPS = 4
IN_FLIGHT = 256
CATEGORIES = ("tides", "bridges", "lanterns", "orchards")
PROMPTS = {
    "question": "Ask a question about {{ topic }}.",
    "keywords": "Name keywords for {{ topic }} in the style of {{ style }}.",
    "answer": "Answer in one sentence: {{ question }}",
    "verdict": "Is this right? {{ question }} {{ answer }}",
}
WORKFLOWS = {
    "review": PROMPTS,
    "chain": {
        "question": PROMPTS["question"],
        "answer": PROMPTS["answer"],
        "verdict": PROMPTS["verdict"],
    },
    "side by side": {
        "question": PROMPTS["question"],
        "keywords": PROMPTS["keywords"],
        "title": "Name a title about {{ topic }} in the style of {{ style }}.",
        "verdict": "Is {{ topic }} a good topic in the style of {{ style }}?",
    },
}
"""Model columns with their prompts, by workflow."""
JUDGE_COLUMN = "verdict"
"""The column of a second provider, where there is one."""
JUDGE_CAP = 16


def summary_of(workflow: str) -> str:
    """Template of the last column, that needs all others."""
    return "{{ topic }}: " + " | ".join(f"{{{{ {name} }}}}" for name in WORKFLOWS[workflow])


@dataclass(frozen=True)
class Parts:
    """An empty queue with its controller, and the tasks to put through it."""

    parts: AdmissionParts
    tasks: Sequence[Any]


@dataclass(frozen=True)
class RunCost:
    """CPU of the process and elapsed time, in seconds; the events recorded and their bytes."""

    cpu: float
    seconds: float
    rows: int
    events: int
    bytes: int


def cpu_per_task(parts: AdmissionParts, tasks: Sequence[Any], most: int) -> float:
    """Seconds of CPU to enqueue a task, admit and release it; `most` of them are admitted.

    The same work as `time_steps`, without a clock inside.
    """
    gc.collect()
    before = time.process_time()
    enqueue_all(parts, tasks)
    enqueueing = (time.process_time() - before) / len(tasks)
    select, acquire, commit, release = parts.select, parts.acquire, parts.commit, parts.release
    running: deque[Any] = deque()
    admitted = 0
    before = time.process_time()
    while True:
        while admitted < most and (selection := select()) is not None:
            lease = acquire(selection)
            if not parts.is_lease(lease) or commit(selection) is None:
                raise RuntimeError("a selected task was not admitted")
            running.append(lease)
            admitted += 1
        if not running:
            break
        release(running.popleft())
    return enqueueing + (time.process_time() - before) / admitted


async def cpu_seconds_of(
    acquire: Callable[[Any], Awaitable[Any]],
    item: Any,
    release: Callable[[Any, Any], object],
    outcome: Any,
    times: int,
) -> float:
    """CPU seconds of one acquisition with its release, over `times`."""
    gc.collect()
    before = time.process_time()
    for _ in range(times):
        release(await acquire(item), outcome)
    return (time.process_time() - before) / times


async def elapsed(call: Callable[[], Coroutine[Any, Any, None]], times: int) -> float:
    """Seconds until so many calls, begun together, are over."""
    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(times)))
    return time.perf_counter() - began
