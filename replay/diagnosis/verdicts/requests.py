"""Verdicts of calls: cooldowns, ceilings and caps of request resources, and slow providers."""

from __future__ import annotations

from typing import Annotated

from replay.diagnosis.verdicts.base import Context, Display, Shortage, Verdict, fact
from replay.diagnosis.verdicts.words import clock, count_text, duration_text, model_of, provider_of


class RequestVerdict(Verdict):
    """About a request resource: its ceiling and what is free below it."""

    explains = frozenset({"call"})

    needed: Annotated[int | None, fact("Places that a call takes: 1")] = None
    limit: Annotated[
        int | None, fact("Calls that may go out at once: the ceiling, or the cap that is full")
    ] = None
    effective_max: Annotated[int | None, fact("Most that the ceiling can become")] = None
    free: Annotated[int | None, fact("Places below the limit that no call has")] = None

    def shortage(self) -> Shortage | None:
        if self.needed is None or self.free is None:
            return None
        return Shortage(self.needed, self.free, self.limit)


class RequestCooldown(RequestVerdict, tag="request_cooldown"):
    tier = "D"
    phrase = "cooldown after 429s"
    proof = "waiting and now < blocked-until"
    display = Display("C", "failure", "shade")
    rank = 1
    explains = frozenset({"call", "queue_last"})
    what_to_do = (
        "Lower max_parallel_requests of this model, or set startup_ramp_seconds, to stay below the"
        " provider's rate; cooldown_seconds applies where the provider names no wait."
    )

    rate_limited: Annotated[
        int | None, fact("Answers with 429; 0 where the stream tells of cooldowns only")
    ] = None
    held_seconds: Annotated[
        float | None, fact("Time in which calls waited and none could go out", "s")
    ] = None
    limited_seconds: Annotated[float | None, fact("From the first 429 to the last", "s")] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        limited = self.rate_limited or 0
        held = seconds if self.held_seconds is None else self.held_seconds
        times = f", {limited} times" if limited > 1 else ""
        asked = f"Provider {provider_of(resource)} asked to slow down (429{times})"
        calls = f"{asked}: calls to {model_of(resource)} were held back for {duration_text(held)}"
        if seconds - held > 0.05 * seconds:
            return f"{calls} of {duration_text(seconds)}."
        return f"{calls}."

    def facts(self, start: float) -> list[str]:
        if self.limited_seconds is None:
            return []
        first, last = clock(start), clock(start + self.limited_seconds)
        return [f"429s: from {first} to {last}" if last != first else f"429s: at {first}"]


class RequestDomainLimit(RequestVerdict, tag="request_domain_limit"):
    tier = "D"
    phrase = "ceiling below its maximum"
    proof = "in flight has reached the limit, which is below the effective maximum"
    display = Display("L", "ceiling", "dashes")
    what_to_do = (
        "The ceiling rises again by itself with successes. If 429s keep cutting it, lower"
        " max_parallel_requests of this model."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"After 429s only {count_text(self.limit or 0, 'call')} at a time may go to"
            f" {model_of(resource)} (of {self.effective_max or 0}), and all were in use for"
            f" {duration_text(seconds)}."
        )


class RequestAggregateCap(RequestVerdict, tag="request_aggregate_cap"):
    tier = "D"
    phrase = "model's request cap full"
    proof = "in flight has reached the effective maximum, or of all domains the static cap"
    display = Display("A", "cap", "slash")
    what_to_do = "Raise max_parallel_requests of this model, if its provider can take more."

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        most = context.holders[0].group if context.holders else ""
        holder = ""
        if most.startswith(model_of(resource) + "/") and most != resource:
            holder = f" Most of them are held by {most.rpartition('/')[2]} calls."
        return (
            f"All {self.limit or 0} calls that {model_of(resource)} allows at once were in use for"
            f" {duration_text(seconds)}, so {resource.rpartition('/')[2]} calls waited.{holder}"
        )


class RequestWaitersAhead(RequestVerdict, tag="request_waiters_ahead"):
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
            f" although {self.free or 0} of {self.limit or 0} places were free."
        )


class RequestRamp(RequestVerdict, tag="request_ramp"):
    tier = "D"
    phrase = "start-up ramp"
    proof = "as `request_domain_limit`, before any 429: the ramp holds the limit down"
    display = Display("M", "turn", "plus")
    proved_from = "changes of wait reasons"
    what_to_do = "Shorten startup_ramp_seconds."

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"{model_of(resource)} is still being started up gently: for {duration_text(seconds)}"
            f" no more than {count_text(self.limit or 0, 'call')} at a time could go out."
        )


class ProviderLatency(Verdict, tag="provider_latency"):
    tier = "E"
    phrase = "provider slower than usual"
    proof = "a call older than 3 × the p95 of the last 256 of its resource, from 20 on"
    display = Display("P", "slow", "backslash")
    proved_from = "request stream"
    what_to_do = (
        "Look at the endpoint; a shorter time-out of the model turns a hung call into a retry."
    )

    calls: Annotated[int | None, fact("Most calls that were slow at once")] = None
    p95: Annotated[
        float | None, fact("95th percentile of the times of earlier calls of the resource", "s")
    ] = None
    oldest_age: Annotated[float | None, fact("Age of the oldest slow call at the end", "s")] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        usual = duration_text(self.p95 or 0.0)
        oldest = duration_text(seconds if self.oldest_age is None else self.oldest_age)
        if self.calls in (None, 1):
            what = f"A call to {model_of(resource)} took {oldest}"
        else:
            what = (
                f"{self.calls} calls to {model_of(resource)} were slow at once, the oldest took"
                f" {oldest}"
            )
        return f"{what}, where 95 % take at most {usual}: the provider was slow."


REQUESTS = (
    RequestCooldown,
    RequestDomainLimit,
    RequestAggregateCap,
    RequestWaitersAhead,
    RequestRamp,
    ProviderLatency,
)
