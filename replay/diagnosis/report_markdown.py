"""The `why` report as Markdown: headings, tables and lists of plain CommonMark with tables."""

from __future__ import annotations

from collections.abc import Sequence

from replay.diagnosis.report_text import (
    LEAST_SHOWN,
    LINES_SHOWN,
    VERDICTS_SHOWN,
    clock,
    facts_of,
    headline,
    kept_by,
    steps_shown,
    story_head,
)
from replay.diagnosis.verdicts import phrase
from replay.diagnosis.why import BlameLine, VerdictLine, WhyReport

_SPECIAL = str.maketrans({one: f"\\{one}" for one in "\\`*_[]<>|#~"})


def render_markdown(report: WhyReport) -> str:
    lines = [f"# Why: {_safe(report.run.name)}", "", _safe(headline(report)), ""]
    lines += [f"**{_safe(report.answer)}**", ""]
    lines += _table("Run: where the request slots in demand went", report.run_blame)
    lines += _table("Cells: where their time went, from ready to done", report.cell_blame)
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
        lines.append(f"Not provable from this stream: {_safe(names)}.")
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


def _verdict(verdict: VerdictLine) -> list[str]:
    span = f"{clock(verdict.start)} to {clock(verdict.end)}"
    where = f" {_safe(verdict.resource)}" if verdict.resource else ""
    lines = [f"### {span} `{verdict.verdict}`{where}", "", _safe(verdict.sentence), ""]
    return [*lines, *(f"- {_safe(fact)}" for fact in facts_of(verdict)), ""]


def _safe(text: str) -> str:
    """On one line, and nothing in it is markup."""
    return " ".join(text.split()).translate(_SPECIAL)
