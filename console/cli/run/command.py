"""`headgate run` and `headgate demo`."""

from __future__ import annotations

from pathlib import Path

import click

from console.cli.exit_codes import FINDINGS, OK
from console.cli.terminal import is_interactive, require_size

_options = [
    click.option(
        "--records", type=click.IntRange(1), help="How many records to make, over the workflow's."
    ),
    click.option("--seed", type=int, help="Seed of everything random, over the workflow's."),
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the run, new or empty. Default: ./headgate-runs/<utc>-<name>-<id>.",
    ),
    click.option("--headless", is_flag=True, help="No console: a line now and then, a summary."),
    click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only."),
]


def run_options(command: click.decorators.FC) -> click.decorators.FC:
    """The options that `run` and `demo` share."""
    for option in reversed(_options):
        command = option(command)
    return command


@click.command()
@run_options
def demo(
    records: int | None, seed: int | None, out: Path | None, headless: bool, ascii_only: bool
) -> int:
    """A live run on two scripted providers, one of which goes through a 429 storm."""
    return start(None, records, seed, out, headless, ascii_only)


@click.command()
@click.argument("workflow", type=click.Path(path_type=Path))
@run_options
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for a provider's quota that is used up, however long; else the run stops.",
)
@click.option(
    "--format",
    "row_format",
    type=click.Choice(["parquet", "jsonl", "csv"]),
    default="parquet",
    help="Write all rows into one file of this format as well, at the end.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    help="Stop, resumably, once so many tokens were used, in and out, over all parts of the run.",
)
@click.option(
    "--max-cost",
    type=click.FloatRange(0, min_open=True),
    metavar="USD",
    help="Stop, resumably, once the calls have cost so many US dollars.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Go on with the run in this folder: what it has made is kept, and not paid for again.",
)
@click.option(
    "--retry-dropped",
    is_flag=True,
    help="With --resume: make the rows that were dropped again.",
)
def run(
    workflow: Path,
    records: int | None,
    seed: int | None,
    out: Path | None,
    headless: bool,
    ascii_only: bool,
    wait: bool,
    row_format: str,
    max_tokens: int | None,
    max_cost: float | None,
    resume: Path | None,
    retry_dropped: bool,
) -> int:
    """Run WORKFLOW (a Python file that exports `workflow`, or YAML) and watch it."""
    if resume is not None and out is not None:
        raise click.UsageError("--resume goes on in the folder of the run: leave --out away.")
    if retry_dropped and resume is None:
        raise click.UsageError("--retry-dropped needs --resume DIR, the run whose rows to retry.")
    return start(
        workflow,
        records,
        seed,
        out,
        headless,
        ascii_only,
        wait_for_quotas=wait,
        resume=resume,
        retry_dropped=retry_dropped,
        max_tokens=max_tokens,
        max_cost=max_cost,
        row_format=row_format,
    )


def start(
    workflow: Path | None,
    records: int | None,
    seed: int | None,
    out: Path | None,
    headless: bool,
    ascii_only: bool,
    *,
    wait_for_quotas: bool = False,
    resume: Path | None = None,
    retry_dropped: bool = False,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    row_format: str = "parquet",
) -> int:
    """Check everything that a user can get wrong, then start the run and show it."""
    from console.cli.run.engine_process import load
    from console.cli.run.launch import RunSpec, StartInterrupted, launch, relaunch
    from console.cli.run.presenter import show_console, show_headless, tell
    from console.cli.run.reopened_folder import ReopenedFolder
    from console.cli.stop_requests import StopRequests
    from engine.models.reach import check_reachable
    from engine.run.warnings import start_warnings

    interactive = is_interactive() and not headless
    if interactive:
        require_size()
    loaded = load(workflow, None, None)
    reopened = None
    if resume is None:
        loaded = loaded.override(records=records, seed=seed)
    else:
        reopened = ReopenedFolder(resume)
        loaded = reopened.workflow(loaded, records, seed)
        if reopened.is_complete(loaded, retry_dropped):
            tell(f"The run in {resume} is complete: nothing is left to be made.")
            return FINDINGS if reopened.record.rows_dropped else OK
        records, seed = loaded.workflow.records, loaded.workflow.seed
    for name, provider in loaded.workflow.providers.items():
        check_reachable(name, provider)
    for _, warning in start_warnings(loaded):
        tell(f"Warning: {warning}.")
    spec = RunSpec(
        loaded.workflow.name,
        workflow,
        records,
        seed,
        wait_for_quotas,
        reopened is not None,
        retry_dropped,
        max_tokens,
        max_cost,
        row_format,
    )
    with StopRequests() as requests:
        try:
            if reopened is None:
                launched = launch(spec, out, requests)
            else:
                reopened.prepare()
                launched = relaunch(spec, reopened, requests)
        except StartInterrupted:
            left = "no process and no file is left of it"
            if reopened is not None:
                left = "it stays as it was"
            tell(f"Stopped before the run began: {left}.")
            return requests.exit_code
        if reopened is None:
            tell(f"The run is live in {launched.folder.path}")
        else:
            rows = f"{reopened.record.rows_done:,} of {records:,} rows"
            tell(f"The run goes on in {launched.folder.path}, with {rows}")
        if interactive:
            return show_console(launched, requests, ascii_only=ascii_only)
        return show_headless(launched, requests)
