"""Columns of the user's own; each writes down when it worked, if TRUTH_WORK names a file.

Loaded by our engine and by scripts of Data Designer: standard library only.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

_once: list[bool] = []


def _note(column: str, began: float) -> None:
    with open(os.environ["TRUTH_WORK"], "a") as file:
        file.write(f"{column} {began} {time.monotonic()}\n")


async def lag(row: dict[str, Any]) -> str:
    await asyncio.sleep(0.01)
    began = time.monotonic()
    time.sleep(0.3)
    _note("lag", began)
    return "slept"


async def once(row: dict[str, Any]) -> str:
    await asyncio.sleep(0.01)
    _once.append(True)
    if len(_once) == 10:
        began = time.monotonic()
        time.sleep(4.0)
        _note("once", began)
    return "slept"


def work(row: dict[str, Any]) -> str:
    began, used = time.monotonic(), time.thread_time()
    total = 0
    while time.thread_time() - used < 0.15:
        total += 1
    _note("work", began)
    return "computed"


async def spin(row: dict[str, Any]) -> str:
    await asyncio.sleep(0.01)
    began, used = time.monotonic(), time.thread_time()
    total = 0
    while time.thread_time() - used < 0.2:
        total += 1
    _note("spin", began)
    return "computed"


async def burst(row: dict[str, Any]) -> str:
    await asyncio.sleep(0.01)
    began, used = time.monotonic(), time.thread_time()
    total = 0
    while time.thread_time() - used < 0.5:
        total += 1
    _note("burst", began)
    return "computed"


async def gil(row: dict[str, Any]) -> str:
    await asyncio.sleep(0.01)
    began = time.monotonic()
    sum(range(25_000_000))
    _note("gil", began)
    return "computed"
