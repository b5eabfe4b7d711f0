"""What `headgate exec` costs a real Data Designer run, beside the package's own event file.

    make bench-exec

Runs are paired and interleaved: each round has one of every kind, in turning order. Compared are,
within a round, the processor time of their process during generation (providers that answer at
once, so that nothing but the work counts) and, at a model latency of a second, the wall time.
The median of the rounds is printed with the range that holds the true one. Exit code 1 where exec
costs no less than the package's own file, or more than the budget of wall time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from replay.metrics.stats import Interval, median_interval
from tests.peer.desk import Desk, open_desk

BARE, EXEC, NATIVE = "bare", "headgate exec", "write_scheduler_events"
CPU_ROUNDS, CPU_RECORDS, CPU_LATENCY = 7, 120, 0.005
WALL_ROUNDS, WALL_RECORDS, WALL_LATENCY = 5, 30, 1.0
WALL_BUDGET = 0.03

Costs = dict[str, dict[str, float]]


def run(desk: Desk, kind: str) -> dict[str, float]:
    if kind == EXEC:
        with desk.executed("create") as process:
            assert process.wait(300) == 0
    else:
        desk.run("create", write_scheduler_events=kind == NATIVE)
    return desk.cost


def rounds(kinds: Sequence[str], number: int, seconds: float, records: int) -> list[Costs]:
    result = []
    for turn in range(number):
        costs: Costs = {}
        start = turn % len(kinds)
        for kind in (*kinds[start:], *kinds[:start]):
            with (
                tempfile.TemporaryDirectory() as folder,
                open_desk(Path(folder) / "desk", seconds, records) as desk,
            ):
                costs[kind] = run(desk, kind)
        result.append(costs)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return result


def compare(actual: list[Costs], name: str, other: str, what: str) -> Interval:
    """How much more `one` costs than `other`, as a fraction, from the pairs of each round."""
    over = median_interval([costs[name][what] / costs[other][what] - 1 for costs in actual])
    spent = median_interval([costs[name][what] for costs in actual]).median
    print(
        f"{what:18} {name} against {other}: {100 * over.median:+.1f} % "
        f"({100 * over.low:+.1f} to {100 * over.high:+.1f} at {100 * over.confidence:.1f} %, "
        f"{len(actual)} pairs; {name} {spent:.2f} s)"
    )
    return over


def main() -> int:
    busy = rounds((BARE, EXEC, NATIVE), CPU_ROUNDS, CPU_LATENCY, CPU_RECORDS)
    compare(busy, NATIVE, BARE, "cpu")
    compare(busy, EXEC, BARE, "cpu")
    cheaper = compare(busy, EXEC, NATIVE, "cpu")
    compare(busy, EXEC, NATIVE, "whole_process_cpu")
    slow = rounds((BARE, EXEC), WALL_ROUNDS, WALL_LATENCY, WALL_RECORDS)
    longer = compare(slow, EXEC, BARE, "wall")
    return int(cheaper.median >= 0 or longer.median > WALL_BUDGET)


if __name__ == "__main__":
    sys.exit(main())
