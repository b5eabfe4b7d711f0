"""Verdicts of the work itself: what is upstream, what is to be tried again, what is being written.

`Working` is here too: the part of a resource, or of a cell's life, that no verdict takes.
"""

from __future__ import annotations

from typing import Annotated

from replay.diagnosis.verdicts.base import Context, Display, Verdict, fact
from replay.diagnosis.verdicts.words import count_text, duration_text, enumeration, model_of


class Working(Verdict, tag="working"):
    tier = ""
    phrase = "working"
    proof = "a slot in use, a task or call under way; no verdict"
    display = Display("W", "work", "plain")
    is_stall = False


class UpstreamVerdict(Verdict):
    """Nothing is ready to start: what is at work, and what needs it."""

    about_run = True

    in_flight: Annotated[
        dict[str, int] | None, fact("Tasks under way by column, the most first")
    ] = None
    critical_path: Annotated[
        list[str] | None,
        fact("Longest chain of columns that starts with one at work, each needing the one before"),
    ] = None
    columns_waiting: Annotated[
        list[str] | None, fact("Columns that need, directly or not, what is at work")
    ] = None
    row_groups_in_flight: Annotated[int | None, fact("Row groups under way")] = None
    row_group_target: Annotated[int | None, fact("Row groups that may be under way")] = None

    def facts(self, start: float) -> list[str]:
        path = self.critical_path or []
        return ["critical path: " + " > ".join(path)] if len(path) > 1 else []


class RowGroupHorizon(UpstreamVerdict, tag="row_group_horizon"):
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


class Dependency(UpstreamVerdict, tag="dependency"):
    tier = "C"
    phrase = "waiting for upstream columns"
    proof = "frontier and queue empty with work upstream"
    display = Display("D", "order", "dots")
    what_to_do = (
        "Normal at the end of a run. Otherwise raise max_concurrent_row_groups or buffer_size, so"
        " that other rows fill the gap, or make the slow upstream column depend on less."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        if not self.in_flight:
            return f"No task was ready to start for {duration_text(seconds)}."
        column, number = next(iter(self.in_flight.items()))
        waiting = self.columns_waiting or []
        need = "needs" if len(waiting) == 1 else "need"
        after = f", which {enumeration(waiting)} {need}" if waiting else ""
        return (
            f"No other task was ready to start for {duration_text(seconds)}:"
            f" {count_text(number, 'task')} of {column} {'was' if number == 1 else 'were'} still"
            f" at work{after}."
        )


class RetryBackoff(Verdict, tag="retry_backoff"):
    tier = "E"
    phrase = "waiting to retry an error"
    proof = "only deferred tasks are left"
    display = Display("R", "failure", "cross")
    explains = frozenset({"retry"})
    what_to_do = "Fix what causes this class of error: the log of the run tells more."

    deferred: Annotated[int | None, fact("Tasks that wait to be tried again")] = None
    errors: Annotated[
        dict[str, int] | None, fact("Their number by error type, as far as that is known")
    ] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        errors = self.errors or {}
        kind = max(errors, key=lambda name: (errors[name], name), default="")
        if kind:
            what = f" ({kind})"
        elif any(lack.startswith("error types") for lack in self.missing):
            what = " (this stream does not say how)"
        else:
            what = ""
        where = f" for {model_of(resource)}" if resource else ""
        return (
            f"{count_text(self.deferred or 0, 'task')} had failed{what} and waited to be tried"
            f" again: nothing else was ready{where} for {duration_text(seconds)}."
        )


class DownstreamCompletion(Verdict, tag="downstream_completion"):
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


FLOW = (Working, RowGroupHorizon, Dependency, RetryBackoff, DownstreamCompletion)
