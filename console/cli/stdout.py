"""Reports on stdout, without characters that would control a terminal."""

from __future__ import annotations

import click


def print_text(text: str) -> None:
    """Print text of any number of lines."""
    from replay.sources.sanitize import clean_lines

    click.echo(clean_lines(text))


def print_json(report: object) -> None:
    """Print a struct, or what structs consist of, as indented JSON."""
    import msgspec

    from replay.sources.sanitize import harmless_json

    click.echo(harmless_json(msgspec.json.format(msgspec.json.encode(report))).decode())
