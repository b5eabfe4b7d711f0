"""`--where`: a filter on the command line, its mistakes told with a caret under them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from replay.recording.filters import Subject
    from replay.recording.filters.subjects import Predicate

T = TypeVar("T")


def predicate(subject: Subject, text: str) -> Predicate:
    """Raises `click.UsageError` where it is no filter."""
    return _compiled(subject.predicate, text)


def condition(subject: Subject, text: str) -> str:
    """The filter in SQL. Raises `click.UsageError` where it is none."""
    return _compiled(subject.where, text)


def _compiled(compile_filter: Callable[[str], T], text: str) -> T:
    from replay.recording.filters import FilterError

    try:
        return compile_filter(text)
    except FilterError as error:
        click.echo(error.under(text), err=True)
        raise click.UsageError(f"--where: {error.sentence}.") from None
