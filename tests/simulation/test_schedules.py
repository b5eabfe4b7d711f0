"""Thousands of random worlds in random orders; a failure names its seed and its invariant.

`SIMULATION_RUNS` and `SIMULATION_FROM` in the environment search further.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import msgspec
import pytest

from tests.effort import effort
from tests.engine.scheduling.harness import Broken
from tests.simulation.simulate import simulate

RUNS = int(os.environ.get("SIMULATION_RUNS", effort(1000, 4000)))
FIRST = int(os.environ.get("SIMULATION_FROM", "0"))
PORTIONS = 4

# What the worlds must bring about between them, or they search too little.
SEEN = (
    "admission_blocked group_capped queue_empty queue_drained cancelled retry_deferred "
    "non_retryable_dropped worker_spawn_failed row_group_admission_blocked row_group_checkpointed "
    "scheduler_loop_heartbeat request_effective_cap_changed request_queue_formed "
    "request_queue_drained request_wait_timeout request_wait_cancelled request_wait_reason_changed "
    "request_rate_limited request_limit_decreased request_limit_increased "
    "request_soft_ceiling_recovered request_fully_recovered"
).split()
OUTCOMES = (
    "success rate_limited provider_failure provider_timeout local_cancelled local_timeout"
).split()


def outcome(seed: int) -> bytes:
    """All that a world's run says. Raises `AssertionError` with the seed."""
    try:
        return simulate(seed, shuffled=seed % 4 != 0).lines()
    except Broken as error:
        raise AssertionError(f"world {seed}: {error}") from error


@pytest.mark.parametrize("portion", range(PORTIONS))
def test_no_schedule_breaks_an_invariant(portion: int) -> None:
    kinds: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for seed in range(FIRST + portion, FIRST + RUNS, PORTIONS):
        lines = outcome(seed)
        if portion == 0:
            events = msgspec.json.decode(lines)
            kinds.update(event["event_kind"] for event in events)
            outcomes.update(event.get("reason_or_outcome") for event in events)
    if portion == 0 and RUNS >= 1000:
        assert [kind for kind in SEEN if not kinds[kind]] == []
        assert [kind for kind in OUTCOMES if not outcomes[kind]] == []


def test_one_seed_gives_one_stream() -> None:
    for seed in range(effort(20, 200)):
        assert outcome(seed) == outcome(seed), f"world {seed}"


def test_one_seed_gives_one_stream_in_every_process() -> None:
    """Nothing hangs on the order of a set, which differs from process to process."""
    seeds = range(effort(10, 100))
    script = f"from tests.simulation.test_schedules import digest; print(digest({seeds}))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.strip()
        for number in (1, 2)
    }
    assert digests == {digest(seeds)}


def digest(seeds: range) -> str:
    return hashlib.sha256(b"".join(outcome(seed) for seed in seeds)).hexdigest()
