"""The `why` report as Markdown: headings, tables and lists of plain CommonMark with tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replay.diagnosis.report.schema import BlameLine, ColumnBlame, PartBlame, VerdictLine, WhyReport
from replay.diagnosis.report.text import (
    LINES_SHOWN,
    VERDICTS_SHOWN,
    error_words_of,
    facts_of,
    headline,
    kept_by,
    mostly,
    spending_words_of,
    steps_shown,
    story_head,
    window_of,
)
from replay.diagnosis.verdicts import MIN_SHARE_SHOWN, clock, phrase

PARTS_SHOWN = 20
_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|#~"})


def render_markdown(
    report: WhyReport, *, advice: bool = False, verdicts_shown: int = VERDICTS_SHOWN
) -> str:
    """The report as one Markdown document.

    Args:
        report: What is rendered.
        advice: Add what can be changed to each line of blame.
        verdicts_shown: Verdicts beyond the longest so many are only counted.
    """
    about = window_of(report)
    lines = [f"# Why: {escape(report.run.name)}", "", escape(headline(report)), ""]
    lines += [escape(about), ""] if about else []
    lines += [f"**{escape(report.answer)}**", ""]
    if report.errors:
        lines += ["## Errors", ""]
        lines += [f"- {escape(error_words_of(line))}" for line in report.errors[:PARTS_SHOWN]]
        lines.append("")
    if report.spending:
        lines += ["## Tokens and money", ""]
        lines += [f"- {escape(spending_words_of(line))}" for line in report.spending[:PARTS_SHOWN]]
        lines.append("")
    lines += _blame("Run: where the request slots in demand went", report.run_blame, advice)
    lines += _blame("Cells: where their time went, from ready to done", report.cell_blame, advice)
    lines += _parts(
        "Cells by column", [(column.column, column) for column in report.cell_blame_by_column]
    )
    lines += _parts("Cells by provider", _named(report.cell_blame_by_provider))
    lines += _parts("Cells by row group", _named(report.cell_blame_by_row_group))
    lines += _parts("Run by provider", _named(report.run_blame_by_provider))
    if report.task is not None:
        lines += [f"## {escape(story_head(report, report.task))}", ""]
        lines += ["| from | for | what | kept by |", "|---:|---:|---|---|"]
        for step, length in steps_shown(report.task):
            what = escape(f"{step.what} {step.resource or ''}".strip())
            lines.append(f"| {clock(step.start)} | {length} | {what} | {escape(kept_by(step))} |")
        lines.append("")
    lines += ["## Verdicts", ""]
    if not report.verdicts:
        lines += ["None. Nothing stood still for longer than it normally does.", ""]
    for verdict in report.verdicts[:verdicts_shown]:
        lines += _verdict(verdict)
    more = len(report.verdicts) - verdicts_shown
    if more > 0:
        lines += [f"And {more} more.", ""]
    if report.not_provable:
        names = ", ".join(phrase(verdict) for verdict in report.not_provable)
        lines += [f"Not provable from this stream: {escape(names)}.", ""]
    if report.lacks:
        lines.append(f"This stream does not carry: {escape(', '.join(report.lacks))}.")
    return "\n".join(lines).rstrip() + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> list[str]:
    """The lines of a table; `align` has `>` for each column of numbers, else `<`."""
    rules = {"<": "---", ">": "---:"}
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join(rules[side] for side in align or '<' * len(head))}|",
        *(f"| {' | '.join(map(escape, row))} |" for row in rows),
    ]


def _blame(title: str, blame: Sequence[BlameLine], advice: bool) -> list[str]:
    lines = [f"## {title}", ""]
    shown = [line for line in blame if line.fraction >= MIN_SHARE_SHOWN][:LINES_SHOWN]
    if not shown:
        return [*lines, "Nothing to account for.", ""]
    head, align = ("share", "what", "where"), "><<"
    rows = [(f"{100 * line.fraction:.1f} %", line.phrase, line.resource or "") for line in shown]
    if not advice:
        return [*lines, *table(head, rows, align), ""]
    advised = [(*row, line.advice) for row, line in zip(rows, shown, strict=True)]
    return [*lines, *table((*head, "what can be changed"), advised, align + "<"), ""]


def _named(parts: Sequence[PartBlame]) -> list[tuple[str, ColumnBlame | PartBlame]]:
    return [(part.part, part) for part in parts]


def _parts(title: str, parts: Sequence[tuple[str, ColumnBlame | PartBlame]]) -> list[str]:
    """Each part's share of all, and what it went to; the largest where there are too many."""
    if len(parts) < 2:
        return []
    total = sum(part.seconds for _, part in parts)
    least = sorted((part.seconds for _, part in parts), reverse=True)[:PARTS_SHOWN][-1]
    shown = [(name, part) for name, part in parts if part.seconds >= least][:PARTS_SHOWN]
    lines = [f"## {title}", "", "| | share | what it went to |", "|---|---:|---|"]
    for name, part in shown:
        share = f"{100 * part.seconds / total:.1f} %" if total > 0 else ""
        lines.append(f"| {escape(name)} | {share} | {escape(mostly(part.blame))} |")
    if len(shown) < len(parts):
        lines.append(f"| {len(parts) - len(shown)} more | | |")
    return [*lines, ""]


def _verdict(verdict: VerdictLine) -> list[str]:
    span = f"{clock(verdict.start)} to {clock(verdict.end)}"
    where = f" {escape(verdict.resource)}" if verdict.resource else ""
    lines = [f"### {span} `{verdict.verdict}`{where}", "", escape(verdict.sentence), ""]
    return [*lines, *(f"- {escape(fact)}" for fact in facts_of(verdict)), ""]


def escape(text: str) -> str:
    """On one line, and nothing in it is markup."""
    return " ".join(text.split()).translate(_SPECIAL)
