"""The report of `headgate verify`: structs, and the text that people read."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.events import RunInfo
from replay.diagnosis.report.text_layout import wrap
from replay.diagnosis.verdicts import clock, count_text
from replay.verify.rules import RULES, Deviation, DeviationExample, RuleBook, Status

REPORT_VERSION = 1
KINDS_SHOWN = 6
EXAMPLES_SHOWN = 2

Verdict = Literal["fine", "found", "damaged"]
_ENDS = {
    "lost": "its producer was lost",
    "live": "still running",
    "unknown": "without an end, and whether it goes on can't be told",
}
_MARKS: dict[Status, str] = {"ok": "ok", "found": "FOUND", "noted": "note", "not_checked": "-"}


class CheckResult(msgspec.Struct, frozen=True):
    """What became of one rule."""

    rule: str
    statement: str
    status: Status
    looked_at: int
    """How many facts of the recording the rule was held against."""
    not_checked: tuple[str, ...]
    """Why the rule, or a part of it, could not be checked."""
    deviations: tuple[Deviation, ...] = msgspec.field(name="found")


class VerifyReport(msgspec.Struct, frozen=True):
    """Which recording was checked, the result of every rule, and the verdict on the whole."""

    version: int
    verdict: Verdict
    """`found`: a rule is broken. `damaged`: the recording could not all be read."""
    source: str
    run_id: str
    name: str
    producer: str
    producer_version: str
    state: str
    """`ended`, `lost` (the producer died without an end) or `live` (it goes on)."""
    outcome: str | None
    monotonic_start: float
    events: int
    hidden_waiters: int
    """Spawns without their lease, and waits for a scheduler resource after a spawn."""
    broken_lines: int
    damage: tuple[str, ...]
    checks: tuple[CheckResult, ...]
    lacks: tuple[str, ...]
    """What the producer's stream does not carry."""


def results(book: RuleBook) -> tuple[CheckResult, ...]:
    """The result of every rule, in the order of `RULES`."""
    return tuple(
        CheckResult(
            rule.name,
            rule.statement,
            book.status(rule.name),
            book.looked_at[rule.name],
            tuple(book.unchecked[rule.name]) or _nothing_recorded(book, rule.name),
            tuple(book.deviations[rule.name].values()),
        )
        for rule in RULES
    )


def _nothing_recorded(book: RuleBook, rule: str) -> tuple[str, ...]:
    if book.looked_at[rule] or book.deviations[rule]:
        return ()
    return ("the recording holds nothing of that kind",)


def render_text(report: VerifyReport, width: int = 80) -> str:
    """The verdict, then each rule: what was looked at, what was found, what could not be told."""
    width = max(width, 40)
    lines = [*_head(report, width), ""]
    for check in report.checks:
        lines += _check(check, report, width)
    if report.lacks:
        lines += [""]
        lines += wrap(f"This stream does not carry: {', '.join(report.lacks)}.", width)
    return "\n".join(lines).rstrip()


def _head(report: VerifyReport, width: int) -> list[str]:
    broken = sum(check.status == "found" for check in report.checks)
    sound = sum(check.status in ("ok", "noted") for check in report.checks)
    unchecked = sum(check.status == "not_checked" for check in report.checks)
    summary = {
        "fine": f"fine, {count_text(sound, 'rule', grouped=True)} hold",
        "found": f"{count_text(broken, 'rule', grouped=True)} broken",
        "damaged": "damaged, and not all of it could be read",
    }[report.verdict]
    if unchecked:
        summary += f", {unchecked} could not be checked"
    end = _ENDS.get(report.state, f"ended {report.outcome or 'without an outcome'}")
    events = count_text(report.events, "event", grouped=True)
    lines = wrap(
        f"{report.name}: {summary}. {events} of {report.producer}, {end}.",
        width,
    )
    for sentence in report.damage:
        lines += wrap(sentence, width, "  ")
    return lines


def _check(check: CheckResult, report: VerifyReport, width: int) -> list[str]:
    indent = " " * 7
    lines = wrap(f"{_MARKS[check.status]:<6} {check.rule}: {check.statement}", width, rest=indent)
    for deviation in check.deviations[:KINDS_SHOWN]:
        mark = "!" if deviation.severity == "finding" else "note:"
        times = f" ({deviation.count:,} times)" if deviation.count > 1 else ""
        lines += _wrapped(f"{mark} {deviation.what}{times}", indent, width)
        for example in deviation.examples[:EXAMPLES_SHOWN]:
            lines += _wrapped(_example(example, report), indent + "  ", width)
    if len(check.deviations) > KINDS_SHOWN:
        lines += _wrapped(f"and {len(check.deviations) - KINDS_SHOWN} more kinds", indent, width)
    for reason in check.not_checked:
        lines += _wrapped(f"not checked: {reason}", indent, width)
    return lines


def _example(example: DeviationExample, report: VerifyReport) -> str:
    if example.ordinal is None:
        return example.sentence
    at = "" if example.at is None else f" at {clock(example.at - report.monotonic_start)}"
    return f"event {example.ordinal}{at}: {example.sentence}"


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    return wrap(text, width, indent, indent + "  ")


def head_of(run: RunInfo | None, source: str) -> tuple[str, str, str, str, float]:
    """Run id, name, producer and its version, start of the run."""
    if run is None:
        return "", source, "unknown", "", 0.0
    return run.run_id, run.name, run.producer, run.producer_version, run.monotonic_start
