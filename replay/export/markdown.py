"""A report of a run as Markdown: that of `why`, with pictures and tables beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from replay.diagnosis.report.build import build_report, render_markdown
from replay.diagnosis.report.markdown import table
from replay.diagnosis.report.schema import RunFacts
from replay.diagnosis.verdicts import duration_text
from replay.recording.query import RecordingQuery
from replay.recording.reader import RecordingReader
from replay.sources.sanitize import clean_lines

VERDICTS_SHOWN = 20

_COLUMNS = """
    SELECT task_column, count(*), count(*) FILTER (result = 'completed'),
        sum(greatest(leases - 1, 0)), quantile_cont(ready_to_done, 0.5),
        quantile_cont(ready_to_done, 0.95),
        quantile_cont(request_wait, 0.95) FILTER (requests > 0),
        quantile_cont(provider_time, 0.5) FILTER (requests > 0)
    FROM tasks GROUP BY 1 ORDER BY min(first_ordinal)
"""
_CEILINGS = """
    SELECT resource, arg_max(ceiling, t), min(ceiling), max(effective_max), max(in_flight_peak),
        max(waiters_peak), sum(cooling), sum(completed), sum(rate_limited)
    FROM ceilings GROUP BY 1 ORDER BY 1
"""


def render_report(
    reader: RecordingReader, query: RecordingQuery, pictures: Mapping[str, str]
) -> str:
    """`pictures`: name (as in `replay.export.charts`) -> path of its file, relative to this one."""
    report = build_report(reader)
    lines = [render_markdown(report, advice=True, verdicts_shown=VERDICTS_SHOWN)]
    lines += ["## Shares over the run", ""]
    lines += _picture(pictures, "blame", "Where the request slots in demand went")
    lines += ["## Ceilings", "", *_picture(pictures, "ceilings", "Limit, in flight and waiting")]
    head = "resource,limit at the end,lowest,maximum,most in flight,most waiting,cooling"
    rows: list[Sequence[str]] = [
        (row[0], *map(_number, row[1:6]), _seconds(row[6]), *map(_number, row[7:]))
        for row in query.run(_CEILINGS)[1]
    ]
    lines += [*table([*head.split(","), "completed", "429"], rows, "<" + ">" * 8), ""]
    lines += ["## Queue", "", *_picture(pictures, "queue", "Queue depth by group")]
    head = "column,tasks,completed,retries,ready to done p50,p95,request wait p95,provider time p50"
    rows = [
        (row[0], *map(_number, row[1:4]), *map(_seconds, row[4:])) for row in query.run(_COLUMNS)[1]
    ]
    lines += ["## Columns", "", *table(head.split(","), rows, "<" + ">" * 7), ""]
    lines += ["## Run", "", *table(("", ""), _run_facts(report.run))]
    return clean_lines("\n".join(lines) + "\n")


def _run_facts(run: RunFacts) -> list[tuple[str, str]]:
    end = "its producer is gone without an end" if run.producer_lost else run.outcome
    facts = [
        ("run", f"{run.run_id} ({run.producer} {run.producer_version})".replace(" )", ")")),
        ("ended", end or "not yet"),
        ("length", duration_text(run.seconds)),
        ("records", "not told" if run.records is None else f"{run.records:,}"),
        ("events", f"{run.events:,}"),
    ]
    if run.lost_events:
        facts.append(("events lost", f"{run.lost_events:,}"))
    if run.broken_lines:
        facts.append(("lines that could not be read", f"{run.broken_lines:,}"))
    return facts


def _picture(pictures: Mapping[str, str], name: str, words: str) -> list[str]:
    return [f"![{words}](<{pictures[name]}>)", ""] if name in pictures else []


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _seconds(value: Any) -> str:
    return "–" if value is None else duration_text(value)
