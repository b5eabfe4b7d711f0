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
