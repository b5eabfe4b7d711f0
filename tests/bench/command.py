"""How a benchmark tool is run: with the outcomes and exit codes of `headgate`'s own commands."""

from __future__ import annotations

from collections.abc import Sequence

import click

from console.cli import exit_codes
from console.cli.main import tell


def run_command(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run it with these arguments, or those of the process. Returns the exit code."""
    try:
        code = command.main(arguments, standalone_mode=False)
    except click.Abort:
        return exit_codes.INTERRUPTED
    except Exception as error:
        return tell(error)
    return code if isinstance(code, int) else exit_codes.OK
