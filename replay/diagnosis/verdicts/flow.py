"""Verdicts of the work itself: what is upstream, what is to be tried again, what is being written.

`Working` is here too: the part of a resource, or of a cell's life, that no verdict takes.
"""

from __future__ import annotations

from typing import Annotated

from replay.diagnosis.verdicts.base import Context, Display, Verdict, fact
from replay.diagnosis.verdicts.words import count_text, duration_text, enumeration, model_of


class Working(Verdict, tag="working", kw_only=True):
    """Slots in use, and cells that are made or called for."""

    tier = ""
    phrase = "working"
    proof = "a slot in use, a task or call under way; no verdict"
    display = Display("W", "work", "plain")
    is_stall = False


class UpstreamVerdict(Verdict, kw_only=True):
    """Nothing is ready to start: what is at work, and what needs it."""

    about_run = True

    in_flight: Annotated[dict[str, int], fact("Tasks under way by column, the most first")]
    critical_path: Annotated[
        list[str],
        fact("Longest chain of columns that starts with one at work, each needing the one before"),
    ]
    columns_waiting: Annotated[
        list[str], fact("Columns that need, directly or not, what is at work")
    ]
    row_groups_in_flight: Annotated[int | None, fact("Row groups under way")] = None
    row_group_target: Annotated[int | None, fact("Row groups that may be under way")] = None
    row_groups_left: Annotated[
        int | None, fact("Row groups that were not let in yet; null where not told")
    ] = None

    def facts(self, start: float) -> list[str]:
        path = self.critical_path
        return ["critical path: " + " > ".join(path)] if len(path) > 1 else []


class RowGroupHorizon(UpstreamVerdict, tag="row_group_horizon", kw_only=True):
    """No work is ready because no more row groups may be open at once."""

    tier = "C"
    phrase = "no more row groups let in"
    proof = "as `dependency`, while row-group admission is blocked and row groups are left"
    display = Display("H", "cap", "double")
    what_to_do = (
        "Raise max_concurrent_row_groups (or buffer_size), so that more rows are open at once."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        target = self.row_group_target
        limit = f" ({target} at a time)" if target else ""
        return (
            f"Nothing was ready to start for {duration_text(seconds)}, and no further row group"
            f" was let in{limit}."
        )


class Dependency(UpstreamVerdict, tag="dependency", kw_only=True):
    """No work is ready because upstream columns are not."""

    tier = "C"
    phrase = "waiting for upstream columns"
    proof = "frontier and queue empty with work upstream"
    display = Display("D", "order", "dots")

    def advice_here(self, resource: str) -> str:
        if self.row_groups_left:
            return (
                "Raise max_concurrent_row_groups or buffer_size, so that other rows fill the gap."
            )
        if self.row_groups_left == 0:
            return (
                "All rows are under way already, so no limit would help: only the column at work"
                " can become faster, or depend on less."
            )
        return "Make the column at work faster, or have what waits depend on less."

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        if not self.in_flight:
            return f"No task was ready to start for {duration_text(seconds)}."
        column, number = next(iter(self.in_flight.items()))
        waiting = self.columns_waiting
        need = "needs" if len(waiting) == 1 else "need"
        after = f", which {enumeration(waiting)} {need}" if waiting else ""
        return (
            f"No other task was ready to start for {duration_text(seconds)}:"
            f" {count_text(number, 'task')} of {column} {'was' if number == 1 else 'were'} still"
            f" at work{after}."
        )


class AwaitsSlowCall(Verdict, tag="awaits_slow_call", kw_only=True):
    """No work is ready because all of it waits for calls that are slower than usual."""

    tier = "E"
    phrase = "waiting for slow calls"
    proof = (
        "as `dependency`, while every task under way waits for a call that is slower than usual"
        " (`provider_latency`)"
    )
    display = Display("6", "slow", "slash")
    about_run = True
    what_to_do = (
        "Look at the endpoint; a shorter time-out of the model turns a hung call into a retry."
    )

    slow_resource: Annotated[str, fact("Request resource of the slow calls")]
    calls: Annotated[int, fact("Slow calls that everything waited for")]
    columns: Annotated[list[str], fact("Their columns")]
    oldest_age: Annotated[float, fact("Age of the oldest when the stall was proved", "s")]

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        columns = f" of column {enumeration(self.columns)}" if self.columns else ""
        calls = f"{count_text(self.calls, 'call')}{columns} to {model_of(self.slow_resource)}"
        hung = "hung" if self.calls == 1 else "were slow"
        return (
            f"Everything waited for {duration_text(seconds)}: {calls} {hung}, and no other task was"
            " ready to start."
        )


class RetryBackoff(Verdict, tag="retry_backoff", kw_only=True):
    """Only tasks are left that wait until they are tried again."""

    tier = "E"
    phrase = "waiting to retry an error"
    proof = "only deferred tasks are left"
    display = Display("R", "failure", "cross")
    explains = frozenset({"retry"})
    what_to_do = "Fix what causes this class of error."

    deferred: Annotated[int, fact("Tasks that wait to be tried again")]
    errors: Annotated[dict[str, int], fact("Their number by error type, as far as that is known")]

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        errors = self.errors
        kind = max(errors, key=lambda name: (errors[name], name), default="")
        if kind:
            what = f" ({kind})"
        elif any(lack.startswith("error types") for lack in self.missing):
            what = " (this stream does not say how)"
        else:
            what = ""
        where = f" for {model_of(resource)}" if resource else ""
        return (
            f"{count_text(self.deferred, 'task')} had failed{what} and waited to be tried"
            f" again: nothing else was ready{where} for {duration_text(seconds)}."
        )


class DownstreamCompletion(Verdict, tag="downstream_completion", kw_only=True):
    """All cells are made; their rows are being written."""

    tier = "F"
    phrase = "rows being written"
    proof = "only row groups that are not checkpointed are left"
    display = Display("S", "slots", "double")
    about_run = True

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"All cells were made, and the run waited {duration_text(seconds)} for rows to be"
            " written or worked on further."
        )


FLOW = (Working, RowGroupHorizon, Dependency, AwaitsSlowCall, RetryBackoff, DownstreamCompletion)
