"""Verdicts of calls that wait until their provider takes more, or answers at all."""

from __future__ import annotations

from typing import Annotated

from replay.diagnosis.verdicts.base import Context, Display, fact
from replay.diagnosis.verdicts.requests import RequestVerdict
from replay.diagnosis.verdicts.words import clock, duration_text, model_of, provider_of

LONG_COOLDOWN_SECONDS = 20.0
"""Calls held back for so long, and none has succeeded: it may be no matter of their rate."""


class CooldownVerdict(RequestVerdict, kw_only=True):
    """Calls wait because the provider refuses more of them for a while."""

    tier = "D"
    rank = 1
    explains = frozenset({"call", "queue_last"})
    needs_live_loop = False

    held_seconds: Annotated[float, fact("Time in which calls waited and none could go out", "s")]
    limited_seconds: Annotated[
        float | None, fact("From the first such refusal to the last", "s")
    ] = None
    limit: Annotated[int | None, fact("Calls that may go out at once after it")] = None
    effective_max: Annotated[int | None, fact("Most that the ceiling can become")] = None
    unanswered: Annotated[
        bool, fact("No call that went out after the last refusal had succeeded when it was told")
    ] = False

    def _held(self, resource: str, seconds: float) -> str:
        held = duration_text(self.held_seconds)
        calls = f"calls to {model_of(resource)} were held back for {held}"
        if seconds - self.held_seconds > 0.05 * seconds:
            return f"{calls} of {duration_text(seconds)}."
        return f"{calls}."

    def _refusals(self, what: str, start: float) -> list[str]:
        if self.limited_seconds is None:
            return []
        first, last = clock(start), clock(start + self.limited_seconds)
        return [f"{what}: from {first} to {last}" if last != first else f"{what}: at {first}"]


class RequestCooldown(CooldownVerdict, tag="request_cooldown", kw_only=True):
    """Calls wait for the end of a pause that refusals of the provider have caused."""

    phrase = "cooldown after 429s"
    proof = "waiting and now < blocked-until"
    display = Display("C", "failure", "shade")
    what_to_do = (
        "Lower max_parallel_requests of this model, or set startup_ramp_seconds, to stay below the"
        " provider's rate; cooldown_seconds applies where the provider names no wait."
    )

    rate_limited: Annotated[
        int, fact("Answers with 429; 0 where the stream tells of cooldowns only")
    ]

    def advice_here(self, resource: str) -> str:
        if self.unanswered and self.held_seconds >= LONG_COOLDOWN_SECONDS:
            return (
                f"Nothing succeeded since. An account whose quota is spent is answered 429 as well:"
                f" look at quota and billing at {provider_of(resource)} first. {self.what_to_do}"
            )
        return self.what_to_do

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        times = f", {self.rate_limited} times" if self.rate_limited > 1 else ""
        subject = f"Provider {provider_of(resource)} asked to slow down (429{times})"
        return f"{subject}: {self._held(resource, seconds)}"

    def facts(self, start: float) -> list[str]:
        return self._refusals("429s", start)


class RequestOverload(CooldownVerdict, tag="request_overload", kw_only=True):
    """The same pause, after answers that told of overload and not of a rate limit."""

    phrase = "provider overloaded"
    proof = "as `request_cooldown`, where the last refusal told of overload (529, 503) and no limit"
    display = Display("9", "turn", "hash")
    what_to_do = (
        "The provider is short of capacity: the run waits and goes on by itself. If it happens"
        " often, lower max_parallel_requests of this model or use another deployment."
    )

    overloaded: Annotated[int, fact("Answers that told of overload")]

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        times = f" {self.overloaded} times" if self.overloaded > 1 else ""
        subject = f"Provider {provider_of(resource)} answered{times} that it is overloaded"
        return f"{subject}: {self._held(resource, seconds)}"

    def facts(self, start: float) -> list[str]:
        return self._refusals("such answers", start)


class RequestOutage(RequestVerdict, tag="request_outage", kw_only=True):
    """Calls wait because their provider answers nobody."""

    tier = "D"
    phrase = "provider out"
    proof = "waiting after the engine found that the resource answers nobody, until it is back"
    display = Display("4", "turn", "plain")
    rank = 1
    explains = frozenset({"call", "queue_last"})
    needs_live_loop = False
    what_to_do = (
        "Look at the provider's status. Nothing is lost: the run asks from time to time whether it"
        " is back, and goes on by itself; after run.outage_stop_seconds it stops."
    )

    because: Annotated[str, fact("What the provider answered, in its own words")] = ""
    suspended: Annotated[bool, fact("It answers nobody until a person acts")] = False
    out_seconds: Annotated[
        float | None, fact("Time in which it was out, where refusals came before", "s")
    ] = None
    limit: Annotated[int | None, fact("Calls that may go out at once after it")] = None
    effective_max: Annotated[int | None, fact("Most that the ceiling can become")] = None

    def advice_here(self, resource: str) -> str:
        if self.suspended:
            return (
                f"Nothing goes on at {provider_of(resource)} until a person mends what it says;"
                " then resume the run."
            )
        return self.what_to_do

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        answer = self.because.removeprefix("the provider ")
        why = f": {answer}" if answer else ""
        if answer and answer != self.because:
            why = f": it {answer}"
        out = duration_text(self.out_seconds or seconds)
        return (
            f"Provider {provider_of(resource)} was out for {out}{why};"
            f" calls to {model_of(resource)} waited meanwhile."
        )


COOLDOWNS = (RequestCooldown, RequestOverload, RequestOutage)
