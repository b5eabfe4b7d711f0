"""headgate and NVIDIA NeMo Data Designer behind one provider that refuses, fails or is out.

    make bench-peer-e2e [OPTIONS="--only outage --records 100"]

The provider is a process of its own that plays the same script for each of them in turn, from its
begin. Printed are the rows that each loses and the time that it takes; a run that ends with an
error has lost all of its rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click

from console.cli import exit_codes
from replay.metrics.stats import describe, median_interval
from tests.bench.command import run_command
from tests.bench.peer.sides import Worker, check_alike, check_interpreter, scripted_server

LATENCY = {"distribution": "lognormal", "mean": 0.1, "spread": 0.03}
CALLS_PER_RECORD = 4
ALLOWED = 1.05
"""Wall time of the peer's that ours may take, for what one machine does twice."""

SCRIPTS: Mapping[str, dict[str, Any]] = {
    "healthy": {},
    "storm": {"rate_limits": [{"from": 1.5, "to": 6.5}]},
    "errors": {"error_rate": 0.05},
    "outage": {"errors": [{"from": 1.5, "to": 21.5, "status": 529}]},
    "token bucket": {
        "tokens_per_minute": 240_000,
        "token_burst": 8_000,
        "completion_tokens": 50,
        "completion_spread": 0.6,
        "tells_budgets": True,
    },
}


class Outcome(NamedTuple):
    lost: int
    seconds: float
    ended: str
    """The error that it ended with; "" for none."""


def play(address: str, script: Mapping[str, Any]) -> None:
    """Let the provider begin with this script."""
    body = json.dumps({"seed": 7, "latency": LATENCY, **script}).encode()
    target = address.removesuffix("/v1") + "/script"
    request = urllib.request.Request(target, body, method="PUT")
    with urllib.request.urlopen(request, timeout=10) as response:
        response.read()


def compare(
    interpreter: Path,
    iterations: int,
    records: int,
    only: frozenset[str],
    say: Callable[[str], None],
) -> bool:
    """True where ours lost no row, and was never slower than a peer that lost none either."""
    check_interpreter(interpreter)
    held = True
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-peer-")))
        sides = {
            "ours": stack.enter_context(Worker(Path(sys.executable), "headgate", home)),
            "theirs": stack.enter_context(Worker(interpreter, "data_designer", home)),
        }
        check_alike(sides["ours"], sides["theirs"])
        address = stack.enter_context(scripted_server(home))
        say(f"{records} rows of {CALLS_PER_RECORD} calls, {iterations} runs of each in turn")
        say(f"{'provider':<14} {'rows lost':>16} {'seconds':>18} {'times faster':>14}")
        for name, script in SCRIPTS.items():
            if only and name not in only:
                continue
            outcomes: dict[str, list[Outcome]] = {"ours": [], "theirs": []}
            for iteration in range(iterations):
                for side in ("ours", "theirs") if iteration % 2 else ("theirs", "ours"):
                    play(address, script)
                    made = sides[side].ask(measure="trial", records=records, base_url=address)
                    outcomes[side].append(
                        Outcome(records - made["rows"], made["seconds"], made["ended"])
                    )
            held = _report(name, outcomes["ours"], outcomes["theirs"], say) and held
    return held


def _report(
    name: str, ours: list[Outcome], theirs: list[Outcome], say: Callable[[str], None]
) -> bool:
    ratios = [other.seconds / one.seconds for one, other in zip(ours, theirs, strict=True)]
    ratio = median_interval(ratios)
    lost = [max(one.lost for one in side) for side in (ours, theirs)]
    seconds = [describe([one.seconds for one in side]).p50 for side in (ours, theirs)]
    errors = sorted({one.ended for one in theirs} - {""})
    say(
        f"{name:<14} {lost[0]:>7} {lost[1]:>8} {seconds[0]:>9.1f} {seconds[1]:>8.1f}"
        f" {ratio.median:>13.2f}x" + (f"  they ended with {', '.join(errors)}" if errors else "")
    )
    slower = lost[1] == 0 and ratio.median < 1 / ALLOWED
    return lost[0] == 0 and not slower


@click.command()
@click.option(
    "--python",
    "interpreter",
    type=click.Path(path_type=Path),
    required=True,
    help="Python of an environment with data-designer 0.9.7.",
)
@click.option("--iterations", type=click.IntRange(1), default=3, show_default=True)
@click.option("--records", type=click.IntRange(1), default=200, show_default=True)
@click.option("--only", type=click.Choice(list(SCRIPTS)), multiple=True, help="Only these.")
def main(interpreter: Path, iterations: int, records: int, only: tuple[str, ...]) -> int:
    """Compare what failing providers cost, with NVIDIA NeMo Data Designer.

    Ours first in each pair of columns. Exits with 1 where ours lost a row, or was slower than a
    peer that lost none.
    """
    held = compare(interpreter, iterations, records, frozenset(only), click.echo)
    return exit_codes.OK if held else exit_codes.FOUND


if __name__ == "__main__":
    sys.exit(run_command(main))
