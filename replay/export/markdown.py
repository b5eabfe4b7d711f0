"""A report of a run as Markdown, with pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from replay.diagnosis.report import build_report
from replay.diagnosis.verdicts import duration_text
from replay.diagnosis.why import BlameLine, WhyReport
from replay.recording.query import RecordingQuery
from replay.recording.reader import RecordingReader
from replay.sources.text import clean_text

LINES_SHOWN = 12
STALLS_SHOWN = 20
LEAST_SHOWN = 0.0005

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


def render_markdown(
    reader: RecordingReader, asked: RecordingQuery, pictures: Mapping[str, str]
) -> str:
    """`pictures`: name (as in `replay.export.charts`) -> path of its file, relative to this one."""
    report = build_report(reader)
    parts = [f"# {_text(report.run.name)}", _facts(report), f"**{_text(report.answer)}**"]
    parts += _picture(pictures, "blame", "Where the request slots in demand went")
    parts += ["## Blame", "Of the request slots in demand:", _blame(report.run_blame)]
    parts += ["Of the life of every cell, from ready to done:", _blame(report.cell_blame)]
    parts += ["## Stalls", *_stalls(report)]
    parts += ["## Ceilings", *_picture(pictures, "ceilings", "Limit, in flight and waiting")]
    parts.append(
        _table(
            (
                "resource",
                "limit at the end",
                "lowest",
                "maximum",
                "most in flight",
                "most waiting",
                "cooling",
                "completed",
                "429",
            ),
            (
                (row[0], *map(_number, row[1:6]), _seconds(row[6]), *map(_number, row[7:]))
                for row in asked.run(_CEILINGS)[1]
            ),
        )
    )
    parts += ["## Queue", *_picture(pictures, "queue", "Queue depth by group")]
    parts += ["## Columns"]
    parts.append(
        _table(
            (
                "column",
                "tasks",
                "completed",
                "retries",
                "ready to done p50",
                "p95",
                "request wait p95",
                "provider time p50",
            ),
            (
                (row[0], *map(_number, row[1:4]), *map(_seconds, row[4:]))
                for row in asked.run(_COLUMNS)[1]
            ),
        )
    )
    if report.lacks:
        parts.append(f"This stream does not carry: {_text(', '.join(report.lacks))}.")
    return "\n\n".join(parts) + "\n"


def _facts(report: WhyReport) -> str:
    run = report.run
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
    return _table(("", ""), facts)


def _blame(lines: Sequence[BlameLine]) -> str:
    shown = [line for line in lines[:LINES_SHOWN] if line.fraction >= LEAST_SHOWN]
    return _table(
        ("share", "", "of", "what can be changed"),
        (
            (f"{100 * line.fraction:.1f} %", line.phrase, line.resource or "", line.advice)
            for line in shown
        ),
    )


def _stalls(report: WhyReport) -> list[str]:
    if not report.verdicts:
        return ["None was found."]
    shown = report.verdicts[:STALLS_SHOWN]
    rows = (
        (
            one.tier,
            f"{one.start:.1f} s",
            duration_text(one.seconds),
            one.sentence,
            ", ".join(map(str, one.evidence[:8])) + (", …" if len(one.evidence) > 8 else ""),
        )
        for one in shown
    )
    parts = [_table(("tier", "from", "for", "", "evidence (ordinals)"), rows)]
    if len(report.verdicts) > len(shown):
        parts.append(f"And {len(report.verdicts) - len(shown):,} more.")
    return parts


def _picture(pictures: Mapping[str, str], name: str, words: str) -> list[str]:
    return [f"![{words}](<{pictures[name]}>)"] if name in pictures else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(_text(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _seconds(value: Any) -> str:
    return "–" if value is None else duration_text(value)


def _text(words: str) -> str:
    """Nothing of it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", clean_text(words or ""))
