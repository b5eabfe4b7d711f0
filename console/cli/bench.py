"""`headgate bench`: evidence for what the scheduler claims."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from console.cli import exits


@click.group()
def bench() -> None:
    """Benchmarks: scenarios whose artifacts replay like recordings, and Data Designer beside us."""


@bench.command()
@click.option(
    "--python",
    "interpreter",
    type=click.Path(path_type=Path),
    default=Path(sys.executable),
    help="Python of an environment with data-designer 0.9.7. Default: this one.",
)
@click.option("--iterations", type=click.IntRange(1), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="Fewer cells and records: a minute instead of ten.")
@click.option(
    "--only",
    type=click.Choice(["admission", "requests", "run"]),
    multiple=True,
    help="Only these parts.",
)
@click.option("--json", "as_json", is_flag=True, help="Every measurement as JSON on stdout.")
def peer(
    interpreter: Path, iterations: int, quick: bool, only: tuple[str, ...], as_json: bool
) -> int:
    """Compare with NVIDIA NeMo Data Designer: the same work, interleaved, equal sinks.

    Both engines run in processes of their own. Exits with 1 where a gate does not hold.
    """
    from console.cli.bench_peer import compare_with_peer

    held = compare_with_peer(interpreter, iterations, quick, frozenset(only), as_json)
    return exits.OK if held else exits.FOUND


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
                "id": one.id,
                "version": one.version,
                "title": one.title,
                "clock": one.clock,
                "gates": list(one.gates),
            }
            for one in SCENARIOS.values()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for one in SCENARIOS.values():
        click.echo(f"{one.id:<30} {one.clock:<8} {one.title}")
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
@click.option("--baseline", metavar="REF", help="A git ref or a checkout; with --candidate.")
@click.option("--candidate", metavar="REF", help="Another one, run in turn with the first.")
@click.option(
    "--this-environment",
    is_flag=True,
    help="Run both refs with the packages of this environment, instead of one for each.",
)
@click.option("--records", type=click.IntRange(1), help="Over the scenario's.")
@click.option("--iterations", type=click.IntRange(1), help="Over the scenario's.")
@click.option("--smoke", is_flag=True, help="Small, and under the virtual clock: seconds.")
def run_one(
    scenario: str,
    out: Path,
    policy: str,
    versus: str | None,
    baseline: str | None,
    candidate: str | None,
    this_environment: bool,
    records: int | None,
    iterations: int | None,
    smoke: bool,
) -> int:
    """Run SCENARIO (see `headgate bench list`), judge its gates, leave artifacts in a folder.

    Two policies of this code, or two states of the code, are run in turn. Exits with 1 where a
    gate fails.
    """
    from console.cli.bench_refs import run_refs
    from console.cli.bench_run import Request, check_variant, find_scenario, run_scenario
    from engine.errors import UserError

    names = (policy,) if versus is None else (policy, versus)
    variants = tuple(dict.fromkeys(check_variant(name) for name in names))
    request = Request(find_scenario(scenario), variants, out, records, iterations, smoke)
    if baseline is None and candidate is None:
        artifacts = run_scenario(request)
    elif baseline is None or candidate is None:
        raise UserError("--baseline and --candidate go together")
    elif variants != ("default",):
        raise UserError("compare either refs or policies, not both at once")
    else:
        refs = (baseline, candidate)
        artifacts = run_refs(request, refs, own_environments=not this_environment)
    failed = any(gate.verdict == "failed" for one in artifacts for gate in one.gates)
    return exits.FOUND if failed else exits.OK


@bench.command()
@click.option("--tasks", type=click.IntRange(1000), default=1_000_000, show_default=True)
@click.option("--groups", type=click.IntRange(1000), default=100_000, show_default=True)
def soak(tasks: int, groups: int) -> int:
    """See whether memory stays flat over many tasks, and over groups that come and go.

    Under virtual time: minutes for a million tasks. Exits with 1 where it does not.
    """
    from engine.benchmark.soak import FLAT, Look, soak_groups, soak_tasks

    def tell(look: Look) -> None:
        click.echo(
            f"  {look.done:>9,} done   {look.blocks:>9,} blocks   {look.resident / 2**20:7.1f} MiB"
        )

    flat = True
    for title, work, amount in (
        (f"{groups:,} groups of a few tasks each", soak_groups, groups),
        (f"{tasks:,} tasks of one run", soak_tasks, tasks),
    ):
        click.echo(title)
        soaked = work(amount, tell)
        held = soaked.growth <= FLAT
        flat = flat and held
        click.echo(
            f"  {'passed' if held else 'failed'}: {(soaked.growth - 1) * 100:+.1f} % blocks since "
            f"a quarter of it, at most {(FLAT - 1) * 100:+.0f} % is allowed"
        )
    return exits.OK if flat else exits.FOUND
