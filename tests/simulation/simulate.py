"""One world, one order of callbacks: run it, and hold the run against every invariant.

python -m tests.simulation.simulate SEED        what becomes of that world
"""

from __future__ import annotations

import random
import sys
from collections import Counter

from engine.rows.admission import RowGroups
from tests.engine.scheduling.harness import Broken, Run, run
from tests.simulation.conservation import Promises, check_conservation
from tests.simulation.outages import check_outages
from tests.simulation.world import World, random_world

EXPECTED_ENDS = {
    None: {"success"},
    "drain": {"success", "cancelled"},
    "abort": {"success", "cancelled"},
    "twice": {"success", "cancelled"},
    "cancel": {"success", "error"},
    "disk": {"success", "failed"},
    "spawn": {"success", "error"},
}


def simulate(seed: int, shuffled: bool = True) -> Run:
    """Raises `Broken` with the invariant's name."""
    world = random_world(seed)
    ran = run(world.setting, random.Random(seed + 1) if shuffled else None)
    setting = world.setting
    row_groups = 0
    if world.stop is None:
        row_groups = len(RowGroups(setting.records, setting.buffer_size))
    policy = world.policy
    holds_back = (
        policy.shares == "bounded_borrow"
        and policy.bounded_borrow.default_borrow_ceiling is not None
    )
    check_outages(ran.events, setting.retry.max_attempts)
    check_conservation(ran.events, Promises(row_groups, world.queue_wait_timeout, holds_back))
    _check_end(ran, world)
    return ran


def _check_end(ran: Run, world: World) -> None:
    end = "error" if ran.result is None else ran.result.outcome
    if end not in EXPECTED_ENDS[world.stop] | ({"stopped"} if world.fatal else set()):
        raise Broken("outcome", f"{end} after {world.stop}: {ran.error!r}")
    if isinstance(ran.error, Exception) and not isinstance(ran.error, OSError):
        raise Broken("outcome", f"the run raised {ran.error!r}")
    if ran.result is not None and ran.result.outcome == "success":
        kept = ran.result.rows_done + ran.result.rows_dropped
        if kept != world.setting.records or len(ran.checkpoints) != ran.row_groups.finished:
            raise Broken("outcome", f"{kept} of {world.setting.records} rows done or dropped")
        if ran.row_groups.in_flight:
            raise Broken("outcome", f"row groups in flight: {ran.row_groups.in_flight}")
    failures = ran.stream.failures_by_sink
    if set(failures) - ({"FailingSink"} if world.failing_sink else set()):
        raise Broken("sinks", f"failures {failures}")


def main(arguments: list[str]) -> int:
    try:
        ran = simulate(int(arguments[0]))
    except Broken as error:
        print(error)
        return 1
    print(ran.result, f"{ran.ended_at:g} s", len(ran.events), "events")
    print(dict(Counter(event.event_kind for event in ran.events).most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
