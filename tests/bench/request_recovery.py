"""What request admission gets out of refusing providers, from the top of the checkout:
`PYTHONPATH=. python tests/bench/request_recovery.py [--quick]`.

For each true capacity under a cap of 32, over round trips of 0.25, 1 and 4 s, with and without a
retry-after, three distributions of latency and several seeds, all under virtual time: the worst
goodput outside cooldowns and the worst share of attempts answered with a 429, from round trip 20 to
200, for both recovery policies. Then the Jain index of two groups on one cap. `--quick`: one seed.

Exits 1 where the adaptive policy gives less than 0.9 of the capacity, more than 2 % refusals, or an
index below 0.95.
"""

from __future__ import annotations

import itertools
import statistics
import sys

from engine.request_admission.config import RecoveryPolicy
from tests.engine.request_admission.traffic import (
    Case,
    Latencies,
    Measured,
    jain_index,
    measure,
    shares,
)

CAPACITIES = (1, 4, 10, 20, 31)
ROUND_TRIPS = (0.25, 1.0, 4.0)
RETRY_AFTERS = (None, 1.0, 10.0)
DISTRIBUTIONS: tuple[Latencies, ...] = ("constant", "lognormal", "heavy")
POLICIES: tuple[RecoveryPolicy, ...] = ("adaptive", "published")


def of_capacity(capacity: int, recovery: RecoveryPolicy, seeds: int) -> list[Measured]:
    cells = itertools.product(ROUND_TRIPS, RETRY_AFTERS, DISTRIBUTIONS, range(seeds))
    return [
        measure(Case(capacity, trip, retry_after, latencies, seed, recovery=recovery))
        for trip, retry_after, latencies, seed in cells
    ]


def main(quick: bool) -> int:
    held = True
    print("policy     capacity   goodput (worst, mean)   429s (worst, mean)   overall (mean)")
    for recovery in POLICIES:
        for capacity in CAPACITIES:
            cases = of_capacity(capacity, recovery, 1 if quick else 3)
            goodput = [measured.goodput for measured in cases]
            refused = [measured.refused for measured in cases]
            overall = statistics.mean(measured.overall for measured in cases)
            print(
                f"{recovery:<10} {capacity:>8}"
                f"   {min(goodput):>7.2f} {statistics.mean(goodput):>7.2f}"
                f"          {max(refused):>7.1%} {statistics.mean(refused):>7.1%}"
                f"      {overall:>7.2f}"
            )
            if recovery == "adaptive":
                held = held and min(goodput) >= 0.9 and max(refused) <= 0.02
    for capacity, domains in ((32, False), (10, False), (32, True)):
        index = jain_index(shares((1.0, 1.0), domains, capacity, seed=1))
        where = "one aggregate cap, two domains" if domains else "one cap"
        print(f"Jain index, {where}, capacity {capacity}: {index:.4f}")
        held = held and index >= 0.95
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv[1:]))
