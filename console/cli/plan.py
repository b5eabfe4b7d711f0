"""`headgate plan`."""

from __future__ import annotations

from pathlib import Path

import click

from console.cli import exit_codes
from console.cli.stdout import print_json, print_text


@click.command()
@click.argument("workflow", type=click.Path(path_type=Path))
@click.option("--records", type=click.IntRange(1), help="How many records, over the workflow's.")
@click.option("--seed", type=int, help="Seed of everything random, over the workflow's.")
@click.option("--json", "as_json", is_flag=True, help="The whole plan as JSON.")
def plan(workflow: Path, records: int | None, seed: int | None, as_json: bool) -> int:
    """Say what a run of WORKFLOW would do, without a call: columns, tasks, expected requests and
    tokens, the prompts of the first row, capacity, and what is probably not meant.

    Functions of the workflow are not called, and no key is needed. Exits with 1 where something is
    probably not meant.
    """
    import asyncio

    from console.cli.plan_text import plan_text
    from engine.run.dry_run import dry_run
    from engine.run.plan import plan_run
    from engine.workflow.load import load_workflow

    loaded = load_workflow(workflow).override(records=records, seed=seed)
    planned = asyncio.run(dry_run(plan_run(loaded)))
    if as_json:
        print_json(planned)
    else:
        print_text(plan_text(planned))
    return exit_codes.FINDINGS if planned.findings else exit_codes.OK
