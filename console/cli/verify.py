"""`headgate verify`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.stdout import print_json, print_text


@click.command()
@click.argument("recording", type=RUN)
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
@click.option(
    "--canary",
    "canaries",
    multiple=True,
    metavar="TEXT",
    help="Text that must stand nowhere in the recording; @FILE reads one from each line of a "
    "file, env:NAME from a variable. May be canary several times.",
)
def verify(recording: str, as_json: bool, canaries: tuple[str, ...]) -> int:
    """Check RECORDING: leases, order, limits, gaps, the end, and what must never be in it.

    Exits with 0 where all holds that can be checked, 1 where a rule is broken, 4 where the
    recording can't be read whole.
    """

    from engine.errors import UserError
    from replay.verify.report import render_text
    from replay.verify.verify import verify_recording

    texts = [text for canary in canaries for text in _canary_texts(canary)]
    try:
        report = verify_recording(recording, texts)
    except ValueError as error:
        raise UserError(str(error)) from error
    if as_json:
        print_json(report)
    else:
        print_text(render_text(report))
    return {"fine": exit_codes.OK, "found": exit_codes.FINDINGS, "damaged": exit_codes.DAMAGED}[
        report.verdict
    ]


def _canary_texts(canary: str) -> list[str]:
    from engine.errors import UserError

    if canary.startswith("@"):
        try:
            lines = Path(canary[1:]).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the canary file {canary[1:]} can't be read: {error}") from None
        texts = [line for line in lines if line.strip()]
        if not texts:
            raise UserError(f"the canary file {canary[1:]} is empty")
        return texts
    if canary.startswith("env:"):
        value = os.environ.get(canary[4:])
        if not value:
            raise UserError(f"the variable {canary[4:]} of --canary is not set")
        return [value]
    return [canary]
