"""`headgate bench`: evidence for what the scheduler claims."""

from __future__ import annotations

from pathlib import Path

import click

from console.cli import exit_codes


@click.group()
def bench() -> None:
    """Benchmarks: scenarios whose artifacts replay like recordings, to compare policies with."""


@bench.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
def list_scenarios(as_json: bool) -> None:
    """List the scenarios and the policies they can be run with."""
    import json

    from engine.benchmark.catalogue import SCENARIOS
    from engine.benchmark.variants import VARIANTS

    if as_json:
        rows = [
            {
                "id": scenario.id,
                "version": scenario.version,
                "title": scenario.title,
                "clock": scenario.clock,
                "gates": list(scenario.gates),
            }
            for scenario in SCENARIOS.values()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for scenario in SCENARIOS.values():
        click.echo(f"{scenario.id:<30} {scenario.clock:<8} {scenario.title}")
    click.echo("\nPolicies, for --policy and --versus")
    for name, variant in VARIANTS.items():
        click.echo(f"{name:<30} {variant.title}")


@bench.command("run")
@click.argument("scenario")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the artifacts and their recordings, new or empty.",
)
@click.option("--policy", default="default", show_default=True, help="See `headgate bench list`.")
@click.option("--versus", help="Another policy, run in turn with the first.")
@click.option("--records", type=click.IntRange(1), help="Over the scenario's.")
@click.option("--iterations", type=click.IntRange(1), help="Over the scenario's.")
@click.option("--smoke", is_flag=True, help="Small, and under the virtual clock: seconds.")
def run_command(
    scenario: str,
    out: Path,
    policy: str,
    versus: str | None,
    records: int | None,
    iterations: int | None,
    smoke: bool,
) -> int:
    """Run SCENARIO (see `headgate bench list`), judge its gates, leave artifacts in a folder.

    Two policies are run in turn. Exits with 1 where a gate fails.
    """
    from console.cli.bench.run import Request, check_variant, find_scenario, run_scenario

    names = (policy,) if versus is None else (policy, versus)
    variants = tuple(dict.fromkeys(check_variant(name) for name in names))
    request = Request(find_scenario(scenario), variants, out, records, iterations, smoke)
    artifacts = run_scenario(request)
    failed = any(gate.verdict == "failed" for artifact in artifacts for gate in artifact.gates)
    return exit_codes.FINDINGS if failed else exit_codes.OK
