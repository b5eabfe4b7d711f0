"""The `why` report as Markdown: headings, tables and lists of plain CommonMark with tables."""

from __future__ import annotations

from collections.abc import Sequence

from replay.diagnosis.report_text import (
    LEAST_SHOWN,
    LINES_SHOWN,
    VERDICTS_SHOWN,
    facts_of,
    headline,
    kept_by,
    mostly,
    steps_shown,
    story_head,
    window_of,
)
from replay.diagnosis.verdicts import clock, phrase
from replay.diagnosis.why import BlameLine, ColumnBlame, PartBlame, VerdictLine, WhyReport

PARTS_SHOWN = 20
_SPECIAL = str.maketrans({one: f"\\{one}" for one in "\\`*_[]<>|#~"})


def render_markdown(report: WhyReport) -> str:
    about = window_of(report)
    lines = [f"# Why: {_safe(report.run.name)}", "", _safe(headline(report)), ""]
    lines += [_safe(about), ""] if about else []
    lines += [f"**{_safe(report.answer)}**", ""]
    lines += _table("Run: where the request slots in demand went", report.run_blame)
    lines += _table("Cells: where their time went, from ready to done", report.cell_blame)
    lines += _parts("Cells by column", [(one.column, one) for one in report.cell_blame_by_column])
    lines += _parts("Cells by provider", _named(report.cell_blame_by_provider))
    lines += _parts("Cells by row group", _named(report.cell_blame_by_row_group))
    lines += _parts("Run by provider", _named(report.run_blame_by_provider))
    if report.task is not None:
        lines += [f"## {_safe(story_head(report, report.task))}", ""]
        lines += ["| from | for | what | kept by |", "|---:|---:|---|---|"]
        for step, length in steps_shown(report.task):
            what = _safe(f"{step.what} {step.resource or ''}".strip())
            lines.append(f"| {clock(step.start)} | {length} | {what} | {_safe(kept_by(step))} |")
        lines.append("")
    lines += ["## Verdicts", ""]
    if not report.verdicts:
        lines += ["None. Nothing stood still for longer than it normally does.", ""]
    for verdict in report.verdicts[:VERDICTS_SHOWN]:
        lines += _verdict(verdict)
    more = len(report.verdicts) - VERDICTS_SHOWN
    if more > 0:
        lines += [f"And {more} more.", ""]
    if report.not_provable:
        names = ", ".join(phrase(verdict) for verdict in report.not_provable)
        lines += [f"Not provable from this stream: {_safe(names)}.", ""]
    if report.lacks:
        lines.append(f"This stream does not carry: {_safe(', '.join(report.lacks))}.")
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, blame: Sequence[BlameLine]) -> list[str]:
    lines = [f"## {title}", ""]
    shown = [line for line in blame if line.fraction >= LEAST_SHOWN][:LINES_SHOWN]
    if not shown:
        return [*lines, "Nothing to account for.", ""]
    lines += ["| share | what | where |", "|---:|---|---|"]
    for line in shown:
        share = f"{100 * line.fraction:.1f} %"
        lines.append(f"| {share} | {_safe(line.phrase)} | {_safe(line.resource or '')} |")
    return [*lines, ""]


def _named(parts: Sequence[PartBlame]) -> list[tuple[str, ColumnBlame | PartBlame]]:
    return [(one.part, one) for one in parts]


def _parts(title: str, parts: Sequence[tuple[str, ColumnBlame | PartBlame]]) -> list[str]:
    """Each part's share of all, and what it went to; the largest where there are too many."""
    if len(parts) < 2:
        return []
    total = sum(one.seconds for _, one in parts)
    least = sorted((one.seconds for _, one in parts), reverse=True)[:PARTS_SHOWN][-1]
    shown = [(name, one) for name, one in parts if one.seconds >= least][:PARTS_SHOWN]
    lines = [f"## {title}", "", "| | share | what it went to |", "|---|---:|---|"]
    for name, one in shown:
        share = f"{100 * one.seconds / total:.1f} %" if total > 0 else ""
        lines.append(f"| {_safe(name)} | {share} | {_safe(mostly(one.blame))} |")
    if len(shown) < len(parts):
        lines.append(f"| {len(parts) - len(shown)} more | | |")
    return [*lines, ""]


def _verdict(verdict: VerdictLine) -> list[str]:
    span = f"{clock(verdict.start)} to {clock(verdict.end)}"
    where = f" {_safe(verdict.resource)}" if verdict.resource else ""
    lines = [f"### {span} `{verdict.verdict}`{where}", "", _safe(verdict.sentence), ""]
    return [*lines, *(f"- {_safe(fact)}" for fact in facts_of(verdict)), ""]


def _safe(text: str) -> str:
    """On one line, and nothing in it is markup."""
    return " ".join(text.split()).translate(_SPECIAL)
