"""`headgate compare`."""

from __future__ import annotations

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.stdout import print_json, print_text


@click.command()
@click.argument("a", type=RUN)
@click.argument("b", type=RUN)
@click.option("--json", "as_json", is_flag=True, help="The whole comparison as JSON.")
@click.option(
    "--fail-on-worse",
    is_flag=True,
    help="Exit with 1 where B is worse than A in something, beyond noise.",
)
def compare(a: str, b: str, as_json: bool, fail_on_worse: bool) -> int:
    """Compare two runs: A and B are run folders, recordings, JSON Lines or benchmark artifacts.

    Metrics, shares of blame and ceilings, with what is better and what is noise.
    """

    from replay.metrics.compare import compare as compare_runs
    from replay.metrics.compare_text import render_text

    comparison = compare_runs(a, b, lambda line: click.echo(line, err=True))
    if as_json:
        print_json(comparison)
    else:
        print_text(render_text(comparison))
    if fail_on_worse and (comparison.other_work or comparison.noise == "unknown"):
        why = "they did not do the same work" if comparison.other_work else "the noise is not known"
        click.echo(f"headgate: --fail-on-worse found nothing: {why}.", err=True)
    return exit_codes.FINDINGS if fail_on_worse and comparison.worse else exit_codes.OK
