"""`headgate init`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from console.cli import exit_codes
from engine.errors import UserError


@click.command()
@click.argument("name", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to write it into, which must not exist. Default: ./NAME.",
)
@click.option(
    "--scripted", is_flag=True, help="With scripted providers in place of real ones: no key needed."
)
def init(name: str | None, out: Path | None, scripted: bool) -> int:
    """Write the example workflow NAME into a new folder; without NAME, list them."""
    from engine.workflow.examples import EXAMPLES, example_files

    if name is None:
        for known, meaning in EXAMPLES.items():
            click.echo(f"{known:<26}{meaning}")
        return exit_codes.OK
    if name not in EXAMPLES:
        raise UserError(f'there is no example "{name}"; there are {", ".join(EXAMPLES)}')
    folder = out or Path(name)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError(
            f"{folder} exists already, and nothing in it is overwritten: name another folder with "
            "--out"
        ) from None
    except OSError as error:
        raise UserError(f"can't make {folder}: {error.strerror}") from None
    try:
        for file_name, text in example_files(name, scripted=scripted).items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(folder / file_name, flags, 0o666), "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise UserError(f"can't write into {folder}: {error.strerror}") from None
    workflow = folder / "workflow.yaml"
    click.echo(f"Wrote {workflow}. Look at what it would do: headgate plan {workflow}")
    click.echo(f"Make a few rows: headgate preview {workflow}")
    return exit_codes.OK
