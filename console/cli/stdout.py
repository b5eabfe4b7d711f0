"""Reports on stdout. What they quote comes from outside: nothing of it may steer a terminal."""

from __future__ import annotations

import click


def say(text: str) -> None:
    """Text of several lines."""
    from replay.sources.sanitize import clean_lines

    click.echo(clean_lines(text))


def say_json(report: object) -> None:
    """A struct, or what structs are made of, as indented JSON."""
    import msgspec

    from replay.sources.sanitize import harmless_json

    click.echo(harmless_json(msgspec.json.format(msgspec.json.encode(report))).decode())
