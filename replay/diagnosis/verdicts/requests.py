"""Verdicts of calls: ceilings and caps of request resources, and slow providers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from replay.diagnosis.rolling_stats import SLOW_FACTOR
from replay.diagnosis.verdicts.base import Context, Display, Shortage, Verdict, fact
from replay.diagnosis.verdicts.words import count_text, duration_text, model_of, provider_of
from replay.state.failures import error_words

REQUEST_STREAM = "request stream"
"""How `RunInfo.lacks` begins to name the events of single calls."""


class RequestVerdict(Verdict, kw_only=True):
    """About a request resource."""

    explains = frozenset({"call"})


class CeilingVerdict(RequestVerdict, kw_only=True):
    """About the ceiling of a request resource and what is free below it."""

    needed: Annotated[int, fact("Places that a call takes: 1")]
    limit: Annotated[
        int, fact("Calls that may go out at once: the ceiling, or the cap that is full")
    ]
    effective_max: Annotated[int, fact("Most that the ceiling can become")]
    free: Annotated[int, fact("Places below the limit that no call has")]

    def shortage(self) -> Shortage | None:
        return Shortage(self.needed, self.free, self.limit)


class RequestDomainLimit(CeilingVerdict, tag="request_domain_limit", kw_only=True):
    """Calls fill the adaptive ceiling of their resource, which refusals have lowered."""

    tier = "D"
    phrase = "ceiling below its maximum"
    proof = "in flight has reached the limit, which is below the effective maximum"
    display = Display("L", "ceiling", "dashes")
    what_to_do = (
        "The ceiling rises again by itself with successes. If refusals keep cutting it, lower"
        " max_parallel_requests of this model."
    )

    overloaded: Annotated[bool, fact("The provider was overloaded; it answered with no 429")] = (
        False
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        refusals = "refusals for overload" if self.overloaded else "429s"
        return (
            f"After {refusals} only {count_text(self.limit, 'call')} at a time may go to"
            f" {model_of(resource)} (of {self.effective_max}), and all were in use for"
            f" {duration_text(seconds)}."
        )


class RequestAggregateCap(CeilingVerdict, tag="request_aggregate_cap", kw_only=True):
    """Calls fill the cap that the workflow sets for their model."""

    tier = "D"
    phrase = "model's request cap full"
    proof = "in flight has reached the effective maximum, or of all domains the static cap"
    display = Display("A", "cap", "slash")
    what_to_do = "Raise max_parallel_requests of this model, if its provider can take more."

    slow: Annotated[int, fact("Calls in flight that are slower than usual")] = 0

    def advice_here(self, resource: str) -> str:
        if any(lack.startswith(REQUEST_STREAM) for lack in self.missing):
            return (
                "Whether more calls at a time would help cannot be told: this stream does not say"
                " what those calls did."
            )
        if 2 * self.slow >= self.limit:
            return "More calls would wait for the same slow endpoint: look at that."
        return self.what_to_do

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        most = context.holders[0].group if context.holders else ""
        holder = ""
        if most.startswith(model_of(resource) + "/") and most != resource:
            holder = f" Most of them are held by {most.rpartition('/')[2]} calls."
        return (
            f"All {self.limit} calls that {model_of(resource)} allows at once were in use for"
            f" {duration_text(seconds)}, so {resource.rpartition('/')[2]} calls waited.{holder}"
        )


class RequestWaitersAhead(CeilingVerdict, tag="request_waiters_ahead", kw_only=True):
    """A call waits beside a free place, as others are before it."""

    tier = "D"
    phrase = "behind other calls"
    proof = (
        "a call waits beside a free place, by the request stream. Where only snapshots tell of"
        " calls, such time is `unknown`: the call may have gone out since"
    )
    display = Display("F", "turn", "dots")

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"Calls to {model_of(resource)} waited for {duration_text(seconds)} behind others"
            f" although {self.free} of {self.limit} places were free."
        )


class RequestRamp(CeilingVerdict, tag="request_ramp", kw_only=True):
    """Calls fill the limit of the start-up ramp."""

    tier = "D"
    phrase = "start-up ramp"
    proof = "as `request_domain_limit`, before any 429: the ramp holds the limit down"
    display = Display("M", "turn", "plus")
    proved_from = "changes of wait reasons"
    what_to_do = "Shorten startup_ramp_seconds."

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"{model_of(resource)} is still being started up gently: for {duration_text(seconds)}"
            f" no more than {count_text(self.limit, 'call')} at a time could go out."
        )


class RequestPlateau(CeilingVerdict, tag="request_plateau", kw_only=True):
    """Calls fill a limit that is kept because more at once brought no more throughput."""

    tier = "D"
    phrase = "more calls would only be slower"
    proof = "as `request_domain_limit`, where the wait reason says that more calls brought no more"
    display = Display("5", "ceiling", "plus")
    proved_from = "changes of wait reasons"
    what_to_do = (
        "The provider is at its throughput: more calls at once only lengthen its line. A faster"
        " deployment, or a second one, would help; max_parallel_requests can be lowered to the"
        " limit."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"{model_of(resource)} gives no more answers with more than"
            f" {count_text(self.limit, 'call')} at a time (of {self.effective_max}), and all were"
            f" in use for {duration_text(seconds)}."
        )


class RequestRateBudget(CeilingVerdict, tag="request_rate_budget", kw_only=True):
    """Calls wait for the requests or tokens per minute that they may use."""

    tier = "D"
    phrase = "budget per minute used up"
    proof = "waiting beside a free place, where the wait reason names a budget"
    display = Display("7", "ceiling", "cross")
    proved_from = "changes of wait reasons"
    what_to_do = (
        "Ask the provider for a higher rate, or use fewer tokens a row; where the workflow sets"
        " requests_per_minute or tokens_per_minute, raise it if the account allows more."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"Calls to {model_of(resource)} waited for {duration_text(seconds)} for its budget of"
            f" requests or tokens a minute, with {self.free} of {self.limit} places free."
        )


class ProviderLatency(Verdict, tag="provider_latency", kw_only=True):
    """Calls take much longer than those of the same column usually do."""

    tier = "E"
    phrase = "provider slower than usual"
    proof = (
        "a call older than 3 × the p95 of the last 256 of its column that were not slow, from 20"
        " on (4 × the longest of 8 to 19), while the event loop ran and beyond what it may have"
        " been late by (0.2 s where it waited for a core); over when no call is that old"
        " and one that began later came back in the usual time. From the begin of the first one."
        " Once 7 of the last 8 took 3 × the median, a call is slow that is older than that, and the"
        " seven were as well; and the first calls were slow where those after them show it"
    )
    display = Display("P", "slow", "backslash")
    is_stall = False
    proved_from = REQUEST_STREAM
    what_to_do = (
        "Look at the endpoint; a shorter time-out of the model turns a hung call into a retry."
    )

    calls: Annotated[int, fact("Calls that were slow")]
    p95: Annotated[
        float, fact("95th percentile of the times of earlier calls that were not slow", "s")
    ]
    oldest_age: Annotated[float, fact("Longest time that one of them took", "s")]
    at_once: Annotated[int | None, fact("Most of them at once; null where not told")] = None
    usual: Annotated[float | None, fact("Median time of the same earlier calls", "s")] = None
    median: Annotated[
        float | None, fact("Median time of those that came back; null where none did", "s")
    ] = None
    by_later: Annotated[
        bool, fact("None was usual before; what is usual was seen in the calls after it")
    ] = False

    def without_time(self, seconds: float) -> Verdict | None:
        """The same without so many seconds of a standstill; None where nothing was slow."""
        age = self.oldest_age - seconds
        if age <= SLOW_FACTOR * self.p95:
            return None
        return msgspec.structs.replace(self, oldest_age=age)

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        usual = duration_text(self.p95)
        oldest = duration_text(self.oldest_age)
        if self.calls == 1:
            what = f"A call to {model_of(resource)} took {oldest}"
            return f"{what}, where 95 % take at most {usual}: it hung at the provider."
        at_once = "" if self.at_once is None else f", {self.at_once} at once"
        if self.median is not None and self.usual and self.median > 2 * self.usual:
            when = "after that" if self.by_later else "before"
            return (
                f"Calls to {model_of(resource)} took {self.median / self.usual:.1f} times as long"
                f" as {when} ({duration_text(self.median)} instead of {duration_text(self.usual)})"
                f" for {duration_text(seconds)}: {self.calls} were slow{at_once}, and the longest"
                f" took {oldest}."
            )
        return (
            f"{self.calls} calls to {model_of(resource)} were slow{at_once}; the longest took"
            f" {oldest}, where 95 % take at most {usual}: the provider was slow."
        )


class SlowTasks(Verdict, tag="slow_tasks", kw_only=True):
    """Tasks take much longer than usual, where the stream does not tell of calls."""

    tier = "E"
    phrase = "tasks slower than usual"
    proof = (
        "as `provider_latency`, of tasks, where no event tells of calls, while tasks of other"
        " columns took their usual time and nothing waited for its turn to call"
    )
    display = Display("8", "slow", "colon")
    is_stall = False
    what_to_do = (
        "Look at the endpoint; a shorter time-out of the model turns a hung call into a retry."
        " `headgate exec` would record the calls."
    )

    column: Annotated[str, fact("Column of the first of them")]
    tasks: Annotated[int, fact("Tasks that were slow")]
    others: Annotated[int, fact("Tasks of other columns that took their usual time meanwhile")]
    p95: Annotated[
        float, fact("95th percentile of the times of earlier tasks that were not slow", "s")
    ]
    usual: Annotated[float, fact("Median time of the same earlier tasks", "s")]
    oldest_age: Annotated[float, fact("Longest time that one of them took", "s")]
    median: Annotated[
        float | None, fact("Median time of those that ended; null where none did", "s")
    ] = None

    def without_time(self, seconds: float) -> Verdict | None:
        """The same without so many seconds of a standstill; None where nothing was slow."""
        age = self.oldest_age - seconds
        if age <= SLOW_FACTOR * self.p95:
            return None
        return msgspec.structs.replace(self, oldest_age=age)

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        tasks = f"{count_text(self.tasks, 'task')} of {self.column}"
        took = f"took up to {duration_text(self.oldest_age)}"
        if self.median is not None and self.tasks > 1 and self.median > 2 * self.usual:
            took += (
                f", half of them {duration_text(self.median)} or more instead of"
                f" {duration_text(self.usual)},"
            )
        else:
            took += f", where 95 % take at most {duration_text(self.p95)},"
        return (
            f"{tasks} {took} while tasks of other columns took their usual time: calls to"
            f" {model_of(resource)} were slow, hung, or failed and were tried again; this stream"
            " does not tell which."
        )


class ClientBackoff(Verdict, tag="client_backoff", kw_only=True):
    """Tasks hold their slots while their client pauses between two tries."""

    tier = "E"
    phrase = "client pauses after failed calls"
    proof = (
        "a task whose last call failed is still at work and has no call: its client waits before"
        " it tries again, inside the task"
    )
    display = Display("I", "slow", "dots")
    rank = 4
    explains = frozenset({"queue"})

    tasks: Annotated[int, fact("Tasks that paused at once")]
    error: Annotated[str, fact("What the last of their calls ended with")]

    def advice_here(self, resource: str) -> str:
        return (
            f"More slots would meet the same errors: mend what fails at {provider_of(resource)}"
            f" ({error_words(self.error)}). The client's own retries hold the slot while they wait."
        )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        them = "it" if self.tasks == 1 else "they"
        return (
            f"{count_text(self.tasks, 'task')} of {model_of(resource)} waited inside the client for"
            f" {duration_text(seconds)} after failed calls ({error_words(self.error)}), and held"
            f" {'its slot' if self.tasks == 1 else 'their slots'} while {them} did."
        )


REQUESTS = (
    RequestDomainLimit,
    RequestAggregateCap,
    RequestWaitersAhead,
    RequestRamp,
    RequestPlateau,
    RequestRateBudget,
    ProviderLatency,
    SlowTasks,
    ClientBackoff,
)
