"""headgate and NVIDIA NeMo Data Designer behind a provider that refuses, fails, is slow or out.

    make bench-peer-e2e [OPTIONS="--only outage --workflow chain --records 100"]

The provider is a process of its own that plays the same script for each of them in turn, from its
begin. Printed are the rows that each loses, the time that it takes, and the ratios of time and of
CPU; a run that ends with an error has lost all of its rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click

from console.cli import exit_codes
from replay.metrics.stats import describe, median_interval
from tests.bench.command import run_command
from tests.bench.peer.common import WORKFLOWS
from tests.bench.peer.sides import Worker, check_alike, check_interpreter, scripted_server

LATENCY = {"distribution": "lognormal", "mean": 0.1, "spread": 0.03}
ALLOWED = 1.05
"""Wall time of the peer's that ours may take, for what one machine does twice."""


class Script(NamedTuple):
    """What the provider does, and, where the judge has one of its own, what that does."""

    alpha: dict[str, Any]
    judge: dict[str, Any] | None = None


SCRIPTS: Mapping[str, Script] = {
    "healthy": Script({}),
    "storm": Script({"rate_limits": [{"from": 1.5, "to": 6.5}]}),
    "errors": Script({"error_rate": 0.05}),
    "outage": Script({"errors": [{"from": 1.5, "to": 21.5, "status": 529}]}),
    "token bucket": Script(
        {
            "tokens_per_minute": 240_000,
            "token_burst": 8_000,
            "completion_tokens": 50,
            "completion_spread": 0.6,
            "tells_budgets": True,
        }
    ),
    "heavy tail": Script({"latency": {"distribution": "lognormal", "mean": 0.1, "spread": 0.3}}),
    "slow judge": Script(
        {}, {"latency": {"distribution": "lognormal", "mean": 0.5, "spread": 0.15}}
    ),
}


class Outcome(NamedTuple):
    lost: int
    seconds: float
    cpu: float
    """Seconds of the process; 0 for a run that ended with an error."""
    ended: str
    """The error that it ended with; "" for none."""


def play(address: str, script: Mapping[str, Any]) -> None:
    """Let a provider begin with this script."""
    body = json.dumps({"seed": 7, "latency": LATENCY, **script}).encode()
    target = address.removesuffix("/v1") + "/script"
    request = urllib.request.Request(target, body, method="PUT")
    with urllib.request.urlopen(request, timeout=10) as response:
        response.read()


def compare(
    interpreter: Path,
    iterations: int,
    records: int,
    scripts: Sequence[str],
    workflows: Sequence[str],
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
        judge = address.replace("/alpha/", "/beta/")
        say(f"{records} rows, {iterations} runs of each in turn; ours first in each pair")
        say(
            f"{'workflow':<14} {'provider':<14} {'rows lost':>14} {'seconds':>16}"
            f" {'wall, of theirs':>16} {'CPU, of theirs':>15}"
        )
        for workflow in workflows:
            for name in scripts:
                script = SCRIPTS[name]
                outcomes: dict[str, list[Outcome]] = {"ours": [], "theirs": []}
                for iteration in range(iterations):
                    for side in ("ours", "theirs") if iteration % 2 else ("theirs", "ours"):
                        play(address, script.alpha)
                        if script.judge is not None:
                            play(judge, script.judge)
                        made = sides[side].ask(
                            measure="trial",
                            records=records,
                            base_url=address,
                            workflow=workflow,
                            judge_url=None if script.judge is None else judge,
                        )
                        lost = records - made["rows"]
                        outcomes[side].append(
                            Outcome(lost, made["seconds"], made["cpu"], made["ended"])
                        )
                label = f"{workflow:<14} {name:<14}"
                held = _report(label, outcomes["ours"], outcomes["theirs"], say) and held
    return held


def _report(
    label: str, ours: list[Outcome], theirs: list[Outcome], say: Callable[[str], None]
) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    ratio = median_interval([row.seconds / other.seconds for row, other in pairs]).median
    spent = [trial.cpu / other.cpu for trial, other in pairs if other.cpu]
    cpu = f"{median_interval(spent).median:>14.2f}x" if spent else f"{'-':>15}"
    lost = [max(trial.lost for trial in side) for side in (ours, theirs)]
    seconds = [describe([row.seconds for row in side]).p50 for side in (ours, theirs)]
    errors = sorted({their.ended for their in theirs} - {""})
    say(
        f"{label} {lost[0]:>6} {lost[1]:>7} {seconds[0]:>8.1f} {seconds[1]:>7.1f}"
        f" {ratio:>15.2f}x {cpu}" + (f"  they ended with {', '.join(errors)}" if errors else "")
    )
    slower = lost[1] == 0 and ratio > ALLOWED
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
@click.option(
    "--workflow",
    "workflows",
    type=click.Choice([*WORKFLOWS, "all"]),
    multiple=True,
    default=["review"],
    show_default=True,
)
def main(
    interpreter: Path,
    iterations: int,
    records: int,
    only: tuple[str, ...],
    workflows: tuple[str, ...],
) -> int:
    """Compare what failing providers cost, with NVIDIA NeMo Data Designer.

    Exits with 1 where ours lost a row, or was slower than a peer that lost none.
    """
    chosen = list(WORKFLOWS) if "all" in workflows else workflows
    held = compare(interpreter, iterations, records, only or list(SCRIPTS), chosen, click.echo)
    return exit_codes.OK if held else exit_codes.FINDINGS


if __name__ == "__main__":
    sys.exit(run_command(main))
