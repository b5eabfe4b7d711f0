"""Memory and processor time of a run of many records: `python tests/bench/large_run.py`.

A run in a folder, as `headgate run` makes it: journal, cells, Parquet and manifest, at a provider
inside the process that answers at once. The same workflow is run with a tenth of the records first,
in a process of its own: memory that is bounded by the row groups in flight is the same in both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine.events.run_folder import RunFolder
from engine.run.execute import RunControl
from engine.run.plan import plan_run
from engine.run.record import record_run
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow

COLUMNS = 4
ROW_GROUP = 500
MOST_MICROSECONDS = 200.0
MOST_GROWTH = 1.15
"""Of the peak of memory, from a tenth of the records to all of them."""


def workflow(records: int) -> Workflow:
    return Workflow.model_validate(
        {
            "name": "large",
            "records": records,
            "providers": {"p": {"type": "scripted", "latency": {"mean": 0.0, "spread": 0.0}}},
            "models": {"m": {"provider": "p", "model": "x", "max_parallel_requests": 64}},
            "columns": [
                {"name": "n", "type": "sampler", "uuid": True},
                {"name": "q", "type": "llm_text", "model": "m", "prompt": "Ask {{ n }}"},
                {"name": "t", "type": "expression", "template": "{{ q }}, and {{ n }}"},
                {"name": "a", "type": "llm_text", "model": "m", "prompt": "Answer {{ t }}"},
            ],
            "run": {"buffer_size": ROW_GROUP},
        }
    )


def run_once(records: int) -> dict[str, float]:
    """In this process. Megabytes are those of its peak."""
    plan = plan_run(LoadedWorkflow(workflow(records), None, {}))

    async def main(folder: Path) -> float:
        run_folder = RunFolder.create(folder / "run")
        began = time.process_time()
        result = await record_run(plan, run_folder, "large", RunControl(), lambda: True)
        assert result is not None
        assert (result.outcome, result.rows_done) == ("success", records)
        return time.process_time() - began

    with tempfile.TemporaryDirectory(prefix="headgate-large-") as folder:
        before = _peak_megabytes()
        seconds = asyncio.run(main(Path(folder)))
        cells = sum(f.stat().st_size for f in (Path(folder) / "run" / "cells").iterdir())
    return {
        "records": records,
        "microseconds_per_cell": seconds / (records * COLUMNS) * 1e6,
        "peak_megabytes": _peak_megabytes(),
        "megabytes_before": before,
        "kilobytes_of_cells_left": cells / 1024,
    }


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python tests/bench/large_run.py")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--once", action="store_true", help="one run, as JSON")
    options = parser.parse_args(arguments)
    if options.once:
        print(json.dumps(run_once(options.records)))
        return 0
    results = []
    for records in (options.records // 10, options.records):
        command = [sys.executable, "-P", __file__, "--once", "--records", str(records)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        facts = results[-1]
        print(
            f"{records:>9,} records x {COLUMNS} columns: "
            f"{facts['microseconds_per_cell']:6.1f} us of CPU a cell, "
            f"peak {facts['peak_megabytes']:6.1f} MB ({facts['megabytes_before']:.1f} before), "
            f"{facts['kilobytes_of_cells_left']:,.0f} kB of cells left"
        )
    growth = results[1]["peak_megabytes"] / results[0]["peak_megabytes"]
    print(f"ten times the records: {growth:.2f} times the memory (at most {MOST_GROWTH})")
    fast = results[1]["microseconds_per_cell"] <= MOST_MICROSECONDS
    return 0 if fast and growth <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
