"""What one slow row in many costs: `python tests/bench/heavy_tail.py`.

Under virtual time, so that nothing else on the machine counts. The horizon is the number of rows
that may be under way: `run.buffer_size` times `run.max_concurrent_row_groups`. A row that takes
very long holds its row group open, and with it a share of the horizon; the bench says how much of
the provider's capacity is lost by that, for a horizon of several sizes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from engine.scheduling.config import TaskAdmissionConfig
from engine.workflow.schema import Workflow
from tests.engine_run import run_engine

CAP = 16
RECORDS = 1_600
MEAN_SECONDS = 0.5
HORIZONS = ((20, 3), (50, 3), (100, 3), (100, 8), (200, 3), (RECORDS, 1))
"""The last one is no horizon: what it loses, the slowest rows cost at the end of the run."""
SPREADS = {"even": 0.05, "heavy-tailed": 2.5}
"""Standard deviation of the lognormal latency; its mean is the same."""


def workflow(buffer_size: int, row_groups: int, spread: float) -> Workflow:
    facts: dict[str, Any] = {
        "name": "tail",
        "records": RECORDS,
        "providers": {
            "p": {
                "type": "scripted",
                "timeout_seconds": 600,
                "latency": {"mean": MEAN_SECONDS, "spread": spread},
            }
        },
        "models": {"m": {"provider": "p", "model": "x", "max_parallel_requests": CAP}},
        "columns": [
            {"name": "n", "type": "sampler", "uuid": True},
            {"name": "q", "type": "llm_text", "model": "m", "prompt": "Ask {{ n }}"},
            {"name": "a", "type": "llm_text", "model": "m", "prompt": "Answer {{ q }} {{ n }}"},
        ],
        "run": {"buffer_size": buffer_size, "max_concurrent_row_groups": row_groups},
    }
    return Workflow.model_validate(facts)


def capacity_used(buffer_size: int, row_groups: int, spread: float, adaptive: bool) -> float:
    """Share of the cap that was in use, from the first call to the last answer."""
    config = replace(TaskAdmissionConfig(), adaptive_row_groups=adaptive)
    ran = run_engine(workflow(buffer_size, row_groups, spread), task_admission=config)
    busy = sum(
        event.diagnostics["duration_seconds"]
        for event in ran.events
        if event.event_kind == "model_request_completed"
    )
    return float(busy / (CAP * ran.seconds))


def main() -> int:
    print(f"{RECORDS:,} rows x 2 calls, cap {CAP}, mean latency {MEAN_SECONDS} s: capacity in use")
    print(f"{'horizon':>22}" + "".join(f"{name:>16}{'adaptive':>12}" for name in SPREADS))
    for buffer_size, row_groups in HORIZONS:
        line = f"{buffer_size:>5} rows x {row_groups} groups  "
        for spread in SPREADS.values():
            for adaptive in (False, True):
                used = capacity_used(buffer_size, row_groups, spread, adaptive)
                line += f"{used:>15.1%}" if not adaptive else f"{used:>12.1%} "
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
