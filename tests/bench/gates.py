"""Every scenario of `headgate bench` at its full size, and what its gates found.

    make bench-gates [OPTIONS="--only heavy-root --out FOLDER"]

Exits with 1 where a gate fails or a scenario can't be run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from console.cli import exit_codes
from console.cli.bench.run import Request, find_scenario, run_scenario
from engine.benchmark.catalogue import SCENARIOS
from engine.benchmark.variants import DEFAULT
from engine.errors import UserError
from tests.bench.command import run_command


@click.command()
@click.option("--only", multiple=True, metavar="SCENARIO", help="This one; may be given again.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the artifacts, new or empty; without it they are thrown away.",
)
def main(only: tuple[str, ...], out: Path | None) -> int:
    """Run every scenario, or some, and say which gates failed."""
    scenarios = [find_scenario(name) for name in only or SCENARIOS]
    failed: list[str] = []
    with ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-gates-")))
        for scenario in scenarios:
            began = time.monotonic()
            try:
                artifacts = run_scenario(Request(scenario, (DEFAULT,), out / scenario.id))
            except UserError as error:
                click.echo(f"{scenario.id}: {error}")
                failed.append(scenario.id)
                continue
            click.echo(f"  {time.monotonic() - began:.0f} s")
            failed += [
                f"{scenario.id}: {gate.gate}"
                for artifact in artifacts
                for gate in artifact.gates
                if gate.verdict == "failed"
            ]
    click.echo(f"{len(scenarios)} scenarios, failed: {', '.join(failed) or 'none'}")
    return exit_codes.FINDINGS if failed else exit_codes.OK


if __name__ == "__main__":
    sys.exit(run_command(main))
