"""The `why` report as plain text: no colour, nothing wider than it is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from replay.diagnosis.report.schema import (
    BlameLine,
    ErrorLine,
    HistorySpan,
    SpendingLine,
    TaskHistory,
    VerdictLine,
    WhyReport,
)
from replay.diagnosis.report.text_layout import cells, cut, left, wrap
from replay.diagnosis.verdicts import (
    MIN_SHARE_SHOWN,
    Holder,
    clock,
    count_text,
    duration_text,
    phrase,
)
from replay.state.failures import error_words
from replay.state.spending import dollars

LINES_SHOWN = 12
VERDICTS_SHOWN = 8
EVIDENCE_SHOWN = 8
LEAST_STEP = 0.001
"""Seconds; the whole life of a task is in the JSON."""
LEAST_KEPT = 0.01
"""Of a wait."""


def render_text(report: WhyReport, width: int = 80) -> str:
    """First the answer, then both tables of blame, then the verdicts with what proves them."""
    width = max(width, 40)
    lines = [*_head(report, width), "", *wrap(report.answer, width), ""]
    lines += _errors(report, width)
    lines += _spending(report, width)
    lines += _table("Run: where the request slots in demand went", report.run_blame, width)
    lines += _table("Cells: where their time went, from ready to done", report.cell_blame, width)
    lines += _columns(report, width)
    lines += _providers(report, width)
    if report.task is not None:
        lines += _story(report, report.task, width)
    lines += _verdicts(report, width)
    if report.not_provable:
        names = ", ".join(phrase(verdict) for verdict in report.not_provable)
        lines += wrap(f"Not provable from this stream: {names}.", width)
    if report.lacks:
        lines += wrap("This stream does not carry: " + ", ".join(report.lacks) + ".", width)
    return "\n".join(lines).rstrip()


def headline(report: WhyReport) -> str:
    """What ran, how it ended and how much of it is known."""
    run = report.run
    if run.producer_lost:
        end = "its producer is gone without an end"
    elif run.outcome is None:
        end = "not ended"
    elif run.outcome == "success":
        end = "ended well"
    else:
        end = run.ending or run.outcome
    parts = [f"{run.name}: {end} at {clock(run.seconds)}"]
    if run.records is not None:
        parts.append(count_text(run.records, "record"))
    parts.append(count_text(run.events, "event"))
    if run.began_at is not None:
        began = datetime.fromtimestamp(run.began_at, UTC)
        parts.append(f"0:00.0 is {began:%Y-%m-%d %H:%M:%S}.{began.microsecond // 100_000} UTC")
    if run.lost_events:
        parts.append(f"{run.lost_events} lost")
    if run.broken_lines:
        parts.append(count_text(run.broken_lines, "unreadable line"))
    if run.mended_lines:
        parts.append(
            f"{count_text(run.mended_lines, 'line')} read with NaN or broken text left out"
        )
    return ", ".join(parts)


def _head(report: WhyReport, width: int) -> list[str]:
    lines = wrap(headline(report), width)
    about = window_of(report)
    return [*lines, *wrap(about, width)] if about else lines


def window_of(report: WhyReport) -> str:
    """What part of the run is told of; empty where it is all of it."""
    start, end, whole = report.start, report.end, report.run.seconds
    if start <= 0.05 and end >= whole - 0.05:
        return ""
    text = f"from {clock(start)} to {clock(end)}" if end > start else f"at {clock(start)}"
    counted = f"{clock(report.blame_start)} to {clock(report.blame_end)}"
    return text if text == f"from {counted}" else f"{text} (shares: of {counted})"


def _table(title: str, blame: Sequence[BlameLine], width: int) -> list[str]:
    if not blame:
        return [*wrap(title, width), "  nothing to account for", ""]
    shown = [line for line in blame if line.fraction >= MIN_SHARE_SHOWN][:LINES_SHOWN]
    rest = sum(line.fraction for line in blame) - sum(line.fraction for line in shown)
    rows = [(line.phrase, line.resource or "", line.fraction) for line in shown]
    if rest >= MIN_SHARE_SHOWN:
        rows.append(("everything else", "", rest))
    bar = 12 if width >= 70 else 0
    room = width - bar - 14
    names = min(max(cells(name) for name, _, _ in rows), 30, room * 3 // 5)
    about = min(max(cells(label) for _, label, _ in rows), room - names)
    most = max(fraction for _, _, fraction in rows)
    lines = wrap(title, width)
    for name, label, fraction in rows:
        filled = "#" * round(fraction / most * bar)
        line = (
            f"  {left(cut(name, names), names)}  {left(cut(label, about), about)}"
            f" {100 * fraction:5.1f} %  {filled}"
        )
        lines.append(line.rstrip())
    lines.append("")
    return lines


def _errors(report: WhyReport, width: int) -> list[str]:
    if not report.errors:
        return []
    lines = wrap("Errors (by provider, column and class)", width)
    for line in report.errors[:LINES_SHOWN]:
        lines += wrap(error_words_of(line), width, "  ", "    ")
    more = len(report.errors) - LINES_SHOWN
    return [*lines, *([f"  and {more} more"] if more > 0 else []), ""]


def error_words_of(line: ErrorLine) -> str:
    """One line of the errors: what, whose, how often, from when to when, and what it cost."""
    where = line.resource or "no call"
    column = f", column {line.column}" if line.column else ""
    times = f"{line.times:,} time{'' if line.times == 1 else 's'}"
    span = clock(line.first)
    if clock(line.last) != span:
        span += f" to {clock(line.last)}"
    lost = count_text(line.rows_dropped, "row", grouped=True)
    cost = f", {lost} lost" if line.rows_dropped else ""
    return f"{error_words(line.error)} ({line.error_class}), {where}{column}: {times}, {span}{cost}"


def _spending(report: WhyReport, width: int) -> list[str]:
    if not report.spending:
        return []
    lines = wrap("Tokens and money (by column and model)", width)
    for line in report.spending[:LINES_SHOWN]:
        lines += wrap(spending_words_of(line), width, "  ", "    ")
    more = len(report.spending) - LINES_SHOWN
    return [*lines, *([f"  and {more} more"] if more > 0 else []), ""]


def spending_words_of(line: SpendingLine) -> str:
    """One line of what was spent: on what, how much, and how much of it for nothing."""
    cached = f" ({line.cached_tokens:,} cached)" if line.cached_tokens else ""
    reasoning = f" ({line.reasoning_tokens:,} reasoning)" if line.reasoning_tokens else ""
    parts = [
        count_text(line.calls, "call", grouped=True),
        f"{line.prompt_tokens:,} tokens in{cached}",
        f"{line.completion_tokens:,} out{reasoning}",
    ]
    if line.cost is not None:
        parts.append(dollars(line.cost))
        if line.unpriced_calls:
            parts.append(f"{count_text(line.unpriced_calls, 'call', grouped=True)} of unknown cost")
    if line.wasted_tokens:
        price = "" if line.wasted_cost is None else f", {dollars(line.wasted_cost)}"
        parts.append(f"{line.wasted_tokens:,} tokens{price} wasted on retries and dropped rows")
    return f"{line.column or 'health checks'}, {line.model}: {', '.join(parts)}"


def _columns(report: WhyReport, width: int) -> list[str]:
    if not report.cell_blame_by_column:
        return []
    total = sum(column.seconds for column in report.cell_blame_by_column)
    longest = max(cells(column.column) for column in report.cell_blame_by_column)
    name_width = min(longest, width // 4)
    lines = wrap("Cells by column (share of all cell time, and what it went to)", width)
    for column in report.cell_blame_by_column:
        share = column.seconds / total if total > 0 else 0.0
        head = f"  {left(cut(column.column, name_width), name_width)} {100 * share:5.1f} %  "
        lines += wrap(mostly(column.blame), width, head, " " * cells(head))
    lines.append("")
    return lines


def mostly(blame: Sequence[BlameLine]) -> str:
    """The four largest shares by what they went to, whatever they are about."""
    sums: dict[str, float] = {}
    for line in blame:
        sums[line.phrase] = sums.get(line.phrase, 0.0) + line.fraction
    most = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {100 * part:.0f} %" for name, part in most[:4] if part >= 0.005)


def _providers(report: WhyReport, width: int) -> list[str]:
    if len(report.run_blame_by_provider) < 2:
        return []
    longest = max(cells(part.part) for part in report.run_blame_by_provider)
    lines = wrap("Run by provider", width)
    for part in report.run_blame_by_provider:
        head = f"  {left(cut(part.part, width // 4), min(longest, width // 4))}  "
        lines += wrap(mostly(part.blame), width, head, " " * cells(head))
    lines.append("")
    return lines


def _story(report: WhyReport, story: TaskHistory, width: int) -> list[str]:
    lines = wrap(story_head(report, story), width)
    for step, length in steps_shown(story):
        head = f"  {clock(step.start):>8} {length:>11}  "
        text = f"{step.what} {step.resource or ''}".strip()
        kept = kept_by(step)
        lines += wrap(f"{text}: {kept}" if kept else text, width, head, " " * cells(head))
    lines.append("")
    return lines


def story_head(report: WhyReport, story: TaskHistory) -> str:
    """The first line of a task's history: which task, its state, its place in the line."""
    ahead = story.position
    line = "" if ahead is None else f", {ahead} before it in line at {clock(report.end)}"
    row = "" if story.row is None else f" ({story.column}, row {story.row})"
    return f"Task {story.task_id}{row}: {story.state}{line}"


def steps_shown(story: TaskHistory) -> list[tuple[HistorySpan, str]]:
    """Each step that took any time to speak of, with its length in words."""
    return [
        (step, "so far" if step.end is None else duration_text(step.end - step.start))
        for step in story.steps
        if step.end is None or step.end - step.start >= LEAST_STEP
    ]


def kept_by(step: HistorySpan) -> str:
    """A back-off needs no word beside the step that is one."""
    length = sum(step.verdicts.values())
    return ", ".join(
        f"{phrase(name)} {duration_text(seconds)}"
        for name, seconds in step.verdicts.items()
        if seconds >= LEAST_KEPT * length and name != "retry_backoff"
    )


def _verdicts(report: WhyReport, width: int) -> list[str]:
    if not report.verdicts:
        text = "Verdicts: none. Nothing stood still for longer than it normally does."
        return [*wrap(text, width), ""]
    lines = [f"Verdicts ({len(report.verdicts)}, longest first)"]
    for verdict in report.verdicts[:VERDICTS_SHOWN]:
        lines += _verdict(verdict, width)
    more = len(report.verdicts) - VERDICTS_SHOWN
    if more > 0:
        lines.append(f"  and {more} more")
    lines.append("")
    return lines


def _verdict(verdict: VerdictLine, width: int) -> list[str]:
    where = f"  {verdict.resource}" if verdict.resource else ""
    span = f"{clock(verdict.start)} to {clock(verdict.end)}"
    lines = [cut(f"  {span}  {verdict.verdict}{where}", width)]
    lines += wrap(verdict.sentence, width, "    ")
    for fact in facts_of(verdict):
        lines += wrap(fact, width, "    ", "      ")
    return lines


def facts_of(verdict: VerdictLine) -> list[str]:
    """What stands behind a verdict, one fact each."""
    facts = verdict.detail.facts(verdict.start)
    if verdict.holders:
        facts.append("held by: " + "; ".join(_holder(holder) for holder in verdict.holders[:3]))
    missing = []
    shortage = verdict.detail.shortage()
    if shortage is not None:
        limit = "?" if shortage.limit is None else shortage.limit
        missing.append(f"needs {shortage.needed} more, {shortage.free} free of {limit}")
    longest = verdict.longest_waiter
    if longest is not None:
        row = "" if longest.row is None else f" of row {longest.row}"
        waits = f"{longest.column}{row} ({duration_text(longest.age)})"
        missing.append(f"{verdict.waiting or 1} in line, longest {waits}")
    if missing:
        facts.append("; ".join(missing))
    if verdict.expected_release is not None:
        facts.append(f"frees itself: at {clock(verdict.expected_release)}")
    also = {name: share for name, share in verdict.also.items() if share >= 0.005}
    if also:
        parts = sorted(also.items(), key=lambda item: -item[1])
        facts.append("also: " + ", ".join(f"{phrase(n)} {100 * s:.0f} %" for n, s in parts))
    if verdict.evidence:
        shown = verdict.evidence[:EVIDENCE_SHOWN]
        facts.append("proved by events: " + ", ".join(str(ordinal) for ordinal in shown))
    if verdict.advice:
        facts.append("what to do: " + verdict.advice)
    return facts


def _holder(holder: Holder) -> str:
    text = f"{holder.group} {holder.leases}"
    if holder.oldest_age is None:
        return text
    return f"{text} (oldest {duration_text(holder.oldest_age)})"
