"""One side of the comparison as a process: a JSON request a line in, a JSON answer a line out."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.peer.common import cpu_per_task

SIDES = {
    "headgate": ("tests.bench.peer.headgate", "HeadgateSide", "headgate"),
    "data_designer": ("tests.bench.peer.data_designer", "DataDesignerSide", "data-designer"),
}


def answer(side: Any, request: dict[str, Any]) -> Any:
    what = request.pop("measure")
    if what == "admission":
        most = request.pop("most")
        made = side.admission(**request)
        return cpu_per_task(made.parts, made.tasks, most)
    if what in ("requests", "waiters", "semaphore"):
        return asyncio.run(getattr(side, what)(**request))
    if what == "trial":
        return trial(side, **request)
    keep = request.pop("keep", None)
    if keep is not None:
        return dataclasses.asdict(side.run(**request, folder=Path(keep)))
    folder = Path(tempfile.mkdtemp(prefix="headgate-bench-"))
    try:
        return dataclasses.asdict(side.run(**request, folder=folder / "run"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trial(side: Any, **request: Any) -> dict[str, Any]:
    """A run that a provider may bring to an end: its rows, how long it took, and its CPU."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-bench-"))
    began = time.perf_counter()
    try:
        cost = side.run(**request, recorded=True, folder=folder / "run")
    except Exception as error:
        seconds = time.perf_counter() - began
        return {"rows": 0, "seconds": seconds, "cpu": 0.0, "ended": type(error).__name__}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"rows": cost.rows, "seconds": cost.seconds, "cpu": cost.cpu, "ended": ""}


def main(name: str) -> int:
    # Whatever else is printed must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    module, kind, distribution = SIDES[name]
    side = getattr(importlib.import_module(module), kind)()
    hello = {"python": platform.python_version(), "version": version(distribution)}
    answers.write(json.dumps(hello) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer(side, json.loads(line))) + "\n")
    return 0
