"""A frame as plain text, for output that is no terminal; needs no Textual."""

from __future__ import annotations

import textwrap
from typing import Any

from console.blame import SEEN, by_verdict
from console.formatting import (
    at_end,
    ceiling_facts,
    cooldown_left,
    count,
    duration,
    failure_line,
    percent,
    short,
)
from replay.diagnosis.verdicts import clock, phrase
from replay.playback.frame import Frame
from replay.sources.sanitize import printable
from replay.state.payload import count as count_of
from replay.state.payload import mapping
from replay.state.spending import money_words, spending_words

LAG_SHOWN_SECONDS = 2.0
"""A line that is older than this says so."""


def status_line(frame: Frame, lag_seconds: float = 0.0) -> str:
    """One line: state, run time, progress, what waits, the bottleneck.

    Args:
        frame: What is true as far as the run was read.
        lag_seconds: How long ago that was, while more waits to be read.
    """
    state = f"{clock(frame.at - frame.t0)} {_state(frame)}"
    if lag_seconds >= LAG_SHOWN_SECONDS:
        state = f"{state}, {duration(lag_seconds)} behind"
    parts = [state, _progress(frame)]
    queued = sum(group.queued for group in frame.groups)
    running = sum(group.running for group in frame.groups)
    parts.append(f"queued {queued}, running {running}")
    for row in frame.ceilings:
        ceiling = row.ceiling
        if ceiling.limit < ceiling.effective_max or ceiling.waiters:
            facts = [words for what, words in ceiling_facts(ceiling, frame) if what != "reason"]
            parts.append(f"{ceiling.resource}: {', '.join(facts)}")
    if frame.lost_events:
        parts.append(f"{count(frame.lost_events)} events lost")
    if frame.bottleneck is not None:
        parts.append(frame.bottleneck.sentence)
    elif frame.awaited:
        parts.append(frame.awaited)
    return printable(" | ".join(parts))


def summary(frame: Frame) -> str:
    """Several lines: the result of the run."""
    when = f"{clock(frame.at - frame.t0)}"
    lines = [
        f"{frame.run.name}: at {when} of {clock(frame.t1 - frame.t0)}"
        if not at_end(frame) and not frame.following
        else f"{frame.run.name}: {_state(frame)} after {when}",
        f"  rows      {_progress(frame)}",
    ]
    progress = frame.progress
    has_requests = not any(lack.startswith("request stream") for lack in frame.run.lacks)
    requests = (
        f"{count(progress.requests_completed)} completed, "
        f"{count(progress.rate_limited)} rate-limited"
        if has_requests
        else "not in this stream"
    )
    lines.append(f"  requests  {requests}, {count(progress.retries)} task retries")
    spent = spending_words(progress, frame.run, ended=frame.outcome is not None)
    if spent:
        lines.append(f"  tokens    {spent}")
    for failure in frame.errors:
        lines.append(f"  error     {failure_line(failure, frame.t0)}")
    if not frame.errors:
        for kind, times in sorted(progress.errors.items()):
            lines.append(f"  error     {kind}: {count(times)}")
    for index, row in enumerate(frame.ceilings):
        head = "ceilings" if index == 0 else ""
        ceiling = row.ceiling
        facts = ", ".join(text for _, text in ceiling_facts(ceiling, frame))
        refused = f", {count(ceiling.rate_limited)} rate-limited" if has_requests else ""
        lines.append(f"  {head:<9} {ceiling.resource}: {facts}{refused}")
    peaks = [f"{name} {most} of {limit}" for name, most, limit in capacity_peaks(frame)]
    if peaks:
        lines.append(f"  capacity  {', '.join(peaks)} in use at most")
    named = [share for share in by_verdict(frame.blame) if share.fraction >= SEEN]
    for index, share in enumerate(named):
        head = "blame" if index == 0 else ""
        where = f" ({share.resource})" if share.resource else ""
        lines.append(f"  {head:<9} {percent(share.fraction):>4} {phrase(share.verdict)}{where}")
    if frame.answer is not None and frame.answer.text:
        lines.append(f"  limited   {frame.answer.text}")
    elif frame.bottleneck is not None:
        lines.append(f"  limited   {frame.bottleneck.sentence}")
    lost = f", {count(frame.lost_events)} lost" if frame.lost_events else ""
    lines.append(f"  events    {count(frame.last_ordinal)}{lost}")
    if frame.awaited:
        lines.append(f"  waiting   {frame.awaited}")
    lines.extend(f"  note      {note}" for note in frame.notes)
    return "\n".join(part for line in lines for part in _folded(printable(line)))


def _folded(line: str) -> list[str]:
    """`line` wrapped at 80 columns; a longer word stays whole."""
    return textwrap.wrap(
        line, 80, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False
    )


def capacity_peaks(frame: Frame) -> list[tuple[str, int, int]]:
    """Largest number in use at once, where the producer reported it and the limit.

    Returns:
        Tuples of scheduler resource or provider/model, largest number in use, limit.
    """
    observed = mapping(frame.capacity.get("observed_maxima"))
    configured = mapping(frame.capacity.get("configured"))
    limits = _value(configured, "task_resource_limits")
    caps = _value(configured, "provider_model_static_caps")
    known = [
        (name, count_of(most), count_of(limits.get(name)))
        for name, most in _value(observed, "leases_by_resource").items()
    ]
    known += [
        (name, count_of(most), count_of(mapping(caps.get(name)).get("cap")))
        for name, most in _value(observed, "aggregate_in_flight").items()
    ]
    return [(name, most, limit) for name, most, limit in known if most is not None and limit]


def _value(part: dict[str, Any], field: str) -> dict[str, Any]:
    return mapping(mapping(part.get(field)).get("value"))


def _state(frame: Frame) -> str:
    if frame.liveness == "ended":
        return frame.ending.words if frame.ending is not None else "ended"
    if frame.liveness == "lost":
        return "LOST"
    return frame.liveness


def _progress(frame: Frame) -> str:
    done = count(frame.progress.rows_done)
    parts = [f"{done}/{count(frame.rows_total)} rows" if frame.rows_total else f"{done} rows"]
    if frame.progress.rows_dropped:
        parts.append(f"{count(frame.progress.rows_dropped)} dropped")
    if frame.quiet_seconds is not None and (frame.liveness == "live" or not at_end(frame)):
        parts.append(f"no cell done for {duration(frame.quiet_seconds)}")
    if frame.rows_per_second is not None:
        parts.append(f"{short(frame.rows_per_second)} rows/s")
    if frame.tokens_per_second:
        parts.append(f"{short(frame.tokens_per_second)} tokens/s")
    if frame.progress.priced_calls:
        ended = frame.outcome is not None
        parts.append(money_words(frame.progress, frame.run, ended=ended))
    if frame.eta_seconds is not None and frame.liveness == "live":
        parts.append(f"{duration(frame.eta_seconds)} left")
    cooling = [row for row in frame.ceilings if cooldown_left(row.ceiling, frame.at) > 0]
    if cooling:
        parts.append(f"{len(cooling)} cooling")
    return ", ".join(parts)
