"""`headgate why`."""

from __future__ import annotations

import click
import msgspec


@click.command()
@click.argument("recording")
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
def why(recording: str, as_json: bool) -> None:
    """Say why RECORDING stood still: shares of blame, verdicts, and the events that prove them."""
    from console.cli.show import read_all
    from replay.diagnosis.report import build_report, render_text
    from replay.session import Session

    session = Session.open(recording, growing=False)
    try:
        read_all(session)
        report = build_report(session.reader)
    finally:
        session.close()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        click.echo(render_text(report))
