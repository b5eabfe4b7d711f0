"""`headgate why`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.stdout import print_json, print_text

if TYPE_CHECKING:
    from replay.diagnosis.report.schema import VerdictLine


@click.command()
@click.argument("recording", type=RUN, required=False)
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The report as Markdown.")
@click.option("--schema", is_flag=True, help="The JSON Schema of the report, without a recording.")
@click.option("--at", metavar="T", help="Only what held at one time: 83.5, 1:23.5, 1:02:03.")
@click.option("--between", nargs=2, metavar="A B", help="Only what lies between two times.")
@click.option("--where", metavar="FILTER", help="Only stalls that match: provider:beta wait>2s.")
@click.option("--task", metavar="ID", help="With the life of one task: each wait and what kept it.")
@click.option(
    "--fail-on",
    "fail_on",
    multiple=True,
    metavar="VERDICT",
    help="Exit with 1 where this verdict, or any of this tier (A to F), is among those shown. "
    "May be given several times.",
)
def why(
    recording: str | None,
    as_json: bool,
    as_markdown: bool,
    schema: bool,
    at: str | None,
    between: tuple[str, str] | None,
    where: str | None,
    task: str | None,
    fail_on: tuple[str, ...],
) -> int:
    """Say why RECORDING stood still: shares of blame, verdicts, and the events that prove them.

    Times are run time, as the report writes them: 0:00.0 is the first event.
    """
    import msgspec

    from console.cli.presenter import read_all
    from console.cli.where import predicate
    from engine.errors import UserError
    from replay.diagnosis.report.build import build_report, render_markdown, render_text
    from replay.diagnosis.report.schema import schema as report_schema
    from replay.diagnosis.verdicts import clock
    from replay.playback.session import Session
    from replay.recording.filters import STALLS
    from replay.recording.rediagnose import up_to_date

    if schema:
        print_json(report_schema())
        return exit_codes.OK
    if recording is None:
        raise click.UsageError("Missing argument 'RECORDING'.")
    if at is not None and between is not None:
        raise click.UsageError("Give either --at or --between.")
    if as_json and as_markdown:
        raise click.UsageError("Give --json or --markdown, not both.")
    _check_names(fail_on)
    matches = None if where is None else predicate(STALLS, where)
    times = [_seconds(text) for text in (between or ([at] * 2 if at is not None else []))]
    if times and times[1] < times[0]:
        raise click.UsageError(f"--between: {times[1]:g} s is before {times[0]:g} s.")
    session = Session.open(recording, growing=False)
    try:
        read_all(session)
        reader = up_to_date(session.reader)
        t0, t1 = reader.bounds().t0, reader.bounds().t1
        if times and times[0] > t1 - t0 and clock(times[0]) != clock(t1 - t0):
            ends = f"{recording} ends at {clock(t1 - t0)}"
            raise UserError(f"{ends}: nothing is known of {clock(times[0])}")
        window = None
        if times:
            window = (min(t0 + times[0], t1), t0 + times[1] if times[1] < t1 - t0 else t1)
        report = build_report(reader, window, task)
    except LookupError:
        if task is None:
            raise
        raise UserError(
            f"{recording} has no task {task}; ids look like question/17, and "
            f'headgate sql {recording} "SELECT task_id FROM tasks" lists them'
        ) from None
    finally:
        session.close()
    if matches is not None:
        chosen = tuple(line for line in report.verdicts if matches(_view_row(line)))
        report = msgspec.structs.replace(report, verdicts=chosen)
    if as_json:
        print_json(report)
    elif as_markdown:
        print_text(render_markdown(report).rstrip("\n"))
    else:
        print_text(render_text(report))
    names = {name for row in report.verdicts for name in (row.verdict, row.tier)}
    return exit_codes.FINDINGS if names.intersection(fail_on) else exit_codes.OK


def _view_row(line: VerdictLine) -> dict[str, object]:
    """The row of the view `stalls`."""
    return {
        "verdict": line.verdict,
        "tier": line.tier,
        "resource": line.resource,
        "sentence": line.sentence,
        "seconds": line.seconds,
        "started_at": line.start,
        "ended_at": line.end,
    }


def _check_names(names: tuple[str, ...]) -> None:
    from replay.diagnosis.verdicts import BY_NAME, TIERS, WORKING

    known = BY_NAME.keys() - {WORKING}
    for name in names:
        if name not in known and name not in TIERS:
            listed = ", ".join(sorted(known))
            raise click.UsageError(f"There is no verdict {name}. Tiers A to F, or: {listed}.")


def _seconds(text: str) -> float:
    from console.formatting import run_time

    seconds = run_time(text)
    if seconds is None:
        raise click.UsageError(f"{text} is no time; write 83.5, 1:23.5 or 1:02:03.")
    return seconds
