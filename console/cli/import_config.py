"""`headgate import-config`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from console.cli import exit_codes
from console.cli.stdout import print_text
from engine.errors import UserError


@click.command(name="import-config")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write the workflow into, which must not exist. Default: stdout.",
)
@click.option("--records", type=click.IntRange(1), default=100, show_default=True)
def import_config(file: Path, out: Path | None, records: int) -> int:
    """Write the workflow that does the same as FILE, a configuration that NVIDIA NeMo Data Designer
    has written (YAML or JSON).

    What has no equivalent is listed on stderr, and exits with 1.
    """
    from engine.workflow.imports.data_designer import import_data_designer, read_config
    from engine.workflow.imports.yaml_text import workflow_yaml

    imported = import_data_designer(read_config(file), records)
    text = workflow_yaml(imported.workflow)
    if out is None:
        print_text(text.rstrip("\n"))
    else:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(out, flags, 0o666), "w", encoding="utf-8") as target:
                target.write(text)
        except FileExistsError:
            raise UserError(f"{out} exists already, and is not overwritten") from None
        except OSError as error:
            raise UserError(f"can't write {out}: {error.strerror}") from None
    for note in imported.notes:
        click.echo(f"headgate: {note}.", err=True)
    return exit_codes.FINDINGS if imported.notes else exit_codes.OK
