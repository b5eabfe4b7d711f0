"""What a run has spent, in tokens and money, and what it will have spent at its end."""

from __future__ import annotations

import msgspec

from engine.events import RunInfo
from replay.state.model import Progress


class SpendingRow(msgspec.Struct, frozen=True):
    """Answered calls of one column to one model."""

    column: str | None
    """None for checks of a provider's health."""
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost: float | None
    """In US dollars, of the calls whose cost is known; None where that is none."""
    unpriced_calls: int
    wasted_tokens: int
    """Of answers that were rejected, executions that did not complete, and dropped rows."""
    wasted_cost: float | None


def share_done(progress: Progress, run: RunInfo) -> float | None:
    """Share of the calling columns' tasks that are completed; None where the total is not known."""
    if not run.records:
        return None
    calling = [column.name for column in run.columns if column.request_resource is not None]
    if not calling:
        return None
    done = sum(min(progress.completed_by_column.get(name, 0), run.records) for name in calling)
    return done / (run.records * len(calling))


def spending_words(progress: Progress, run: RunInfo, *, ended: bool) -> str:
    """Tokens and money so far, and by the end; empty where no call told of any."""
    if not (progress.prompt_tokens or progress.completion_tokens or progress.priced_calls):
        return ""
    cached = f" ({progress.cached_tokens:,} cached)" if progress.cached_tokens else ""
    reasoning = f" ({progress.reasoning_tokens:,} reasoning)" if progress.reasoning_tokens else ""
    words = f"{progress.prompt_tokens:,} in{cached}, {progress.completion_tokens:,} out{reasoning}"
    done = share_done(progress, run)
    grows = None if ended or done is None or not 0 < done < 1 else 1 / done
    if progress.priced_calls:
        words += f", {dollars(progress.cost)}"
        unpriced = progress.answered_calls - progress.priced_calls
        if unpriced > 0:
            words += f" and {unpriced:,} calls of unknown cost"
    if grows is None:
        return words
    tokens = round((progress.prompt_tokens + progress.completion_tokens) * grows)
    by_the_end = f"about {tokens:,} tokens"
    if progress.priced_calls:
        by_the_end += f", {dollars(progress.cost * grows)}"
    return f"{words}; {by_the_end} by the end"


def money_words(progress: Progress, run: RunInfo, *, ended: bool) -> str:
    """Money so far, and about how much it will be at the end."""
    done = share_done(progress, run)
    if ended or done is None or not 0 < done < 1:
        return dollars(progress.cost)
    return f"{dollars(progress.cost)} of about {dollars(progress.cost / done)}"


def dollars(amount: float) -> str:
    """To the cent, smaller amounts to the first digits that are not 0."""
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.2g}" if amount >= 0.0001 else f"${amount:.1e}"
