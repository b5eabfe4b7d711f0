"""The engine's process entry: one run, its signals, its exit code. Loads no terminal code."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from console.cli import exits
from engine.errors import UserError
from engine.events.run_folder import RunFolder
from engine.run import RunControl, record_run
from engine.workflow.demo import demo_workflow
from engine.workflow.load import LoadedWorkflow, load_workflow


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="headgate engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--workflow", type=Path)
    parser.add_argument("--records", type=int)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    try:
        loaded = load(options.workflow, options.records, options.seed)
        return asyncio.run(run(loaded, RunFolder(options.folder), options.run_id))
    except UserError as error:
        print(f"headgate: {error}", file=sys.stderr)  # noqa: T201
        return exits.MISUSE


def load(workflow: Path | None, records: int | None, seed: int | None) -> LoadedWorkflow:
    """The named workflow, or the embedded demo, with what the command line overrides."""
    if workflow is None:
        loaded = LoadedWorkflow(demo_workflow(), path=None, functions={})
    else:
        loaded = load_workflow(workflow)
    return loaded.override(records=records, seed=seed)


async def run(loaded: LoadedWorkflow, folder: RunFolder, run_id: str) -> int:
    control = RunControl()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, control.stop)
    result = await record_run(loaded, folder, run_id, control)
    if result.outcome == "success":
        return exits.FOUND if result.rows_dropped else exits.OK
    return exits.INTERRUPTED if result.outcome == "cancelled" else exits.RUN_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
