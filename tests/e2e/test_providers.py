"""Providers that refuse, fail or fall silent for a while or for ever: what a user sees of the run,
which rows are there, and why not the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from tests.e2e.provider_case import ODD_KINDS, Case, Ended
from tests.effort import effort
from tests.engine.run.faulty_provider import Behaviour, Call, completion, failure, reset

FINISHED = 20
OUT_SECONDS = 1.5
TOLERANCE_SECONDS = 0.05


def first_calls(answer: Callable[[Call], Any], calls: int = 4) -> Callable[[], Behaviour]:
    """So many calls get this answer, all others are answered."""
    return lambda: lambda call: answer(call) if call.number < calls else completion()


def one_call(answer: Callable[[Call], Any]) -> Callable[[], Behaviour]:
    return lambda: lambda call: answer(call) if call.number == 5 else completion()


def waits(seconds: float) -> Callable[[Ended], None]:
    """No call goes out before the hint of the first refusals is over, nor long after it."""

    def check(ended: Ended) -> None:
        later = min(ended.provider.times[4:])
        assert seconds - TOLERANCE_SECONDS <= later < seconds + 5.0

    return check


def hint(value: str | float, header: str = "retry-after", seconds: float = 0.0) -> Case:
    """The first four calls are refused with a header that says when to come back."""

    def refuse(call: Call) -> Any:
        said = value if isinstance(value, str) else formatdate(time.time() + value, usegmt=True)
        return failure(429, headers={header: said})

    return Case(
        first_calls(refuse),
        {"records": 12, "model": {"max_parallel_requests": 4}},
        why="429|slow down|refused|cool",
        check=waits(seconds),
    )


HINTS = {
    "a date": hint(3.0, seconds=2.0),
    "a fraction": hint("1.5", seconds=1.5),
    "milliseconds": hint("700", "retry-after-ms", 0.7),
    "zero": hint("0"),
    "a negative number": hint("-5"),
    "a duration in letters": hint("0m2s", seconds=0.0),
    "a reset": hint("2s", "x-ratelimit-reset-requests", 0.0),
    "none": hint("1", "x-nothing"),
    "two numbers": hint("1, 1"),
    "longer than a run may take": Case(
        one_call(lambda call: failure(429, headers={"retry-after": "99999999999"}))
    ),
    "a day": Case(one_call(lambda call: failure(429, headers={"retry-after": "86400"}))),
    "the end of time": Case(
        one_call(
            lambda call: failure(429, headers={"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"})
        )
    ),
}


def out(status: int, seconds: float = OUT_SECONDS, **headers: str) -> Callable[[], Behaviour]:
    """Down from a tenth of a second on, for so long."""

    def behaviour(call: Call) -> Any:
        if not 0.1 <= call.seconds < 0.1 + seconds:
            return completion()
        return reset(call) if status == 0 else failure(status, headers=headers)

    return lambda: behaviour


MOST_REPEATS = 16 + 34
"""Of an outage of a minute: two of each of eight calls in flight as it goes out, and the probes of
a minute, which number 28 without their jitter."""


def few_probes(ended: Ended) -> None:
    """Who is out is asked by one call at a time."""
    assert ended.repeats <= MOST_REPEATS, "calls in flight as it goes out, and probes"


LONG_SECONDS = effort(4.0, 20.0)
OUTAGES = {
    "503, a delay of zero": Case(
        out(503, 3.0, **{"retry-after": "0"}), {"records": 60}, why="503|overloaded"
    ),
    "503 and a delay": Case(
        out(503, 3.0, **{"retry-after": "1"}), {"records": 60}, why="503|overloaded"
    ),
    "529": Case(out(529, LONG_SECONDS), {"records": 400}, why="529", seconds=60, check=few_probes),
    "529, many attempts": Case(
        out(529, LONG_SECONDS),
        {"records": 400, "run": {"max_attempts": 50}},
        why="529",
        seconds=60,
        check=few_probes,
    ),
    "529, many rows": Case(
        out(529, 3 * LONG_SECONDS), {"records": 1000}, why="529", seconds=120, check=few_probes
    ),
    "502": Case(out(502), why="502"),
    "resets": Case(out(0), why="connection"),
    "nobody listens": Case(
        parts={"records": 400}, out_of_reach=(0.3, LONG_SECONDS), why="connect", seconds=60
    ),
}


def after(
    calls: int, status: int, code: Any = None, message: str = "no"
) -> Callable[[], Behaviour]:
    return lambda: (
        lambda call: completion() if call.number < calls else failure(status, code, message)
    )


def stopped(serve: Callable[[], Behaviour], says: str, why: str, finished: int = FINISHED) -> Case:
    """What a person must mend: the run stops early and keeps its rows."""

    def check(ended: Ended) -> None:
        assert ended.record["outcome"] == "stopped"
        assert ended.provider.calls <= finished + 8 + 2, "what was in flight, and a probe"
        assert "--resume" in ended.stdout

    return Case(serve, {"records": 2000}, 1, rows=finished, says=says, why=why, check=check)


FOR_A_PERSON = {
    "a quota that is spent": stopped(
        after(FINISHED, 429, "insufficient_quota"),
        "no credit or quota.*insufficient_quota",
        "quota",
    ),
    "a bill that is not paid": stopped(after(FINISHED, 402), "402", "402"),
    "a key that is refused": stopped(
        after(FINISHED, 401, "invalid_api_key"), "invalid_api_key", "401.*key|key.*401"
    ),
    "a key without permission": stopped(after(FINISHED, 403), "403", "403"),
    "an unknown model": stopped(
        after(0, 404, "model_not_found"), "model_not_found", "model_not_found|model", 0
    ),
    "a wrong address": stopped(after(0, 404), "404", "404", 0),
    "a daily quota": stopped(
        after(
            FINISHED, 429, "RESOURCE_EXHAUSTED", "Quota exceeded: GenerateRequestsPerDay limit 20"
        ),
        "GenerateRequestsPerDay",
        "quota",
    ),
}


def back_after(calls: int, seconds: float) -> Callable[[], Behaviour]:
    """A daily quota is used up after so many calls, and is back after a while."""
    used_up: list[float] = []

    def behaviour(call: Call) -> Any:
        if call.number < calls or (used_up and call.seconds > used_up[0] + seconds):
            return completion()
        used_up.append(call.seconds)
        return failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded: GenerateRequestsPerDay")

    return lambda: behaviour


FOR_A_PERSON["a daily quota that is waited for"] = Case(
    back_after(FINISHED, 3.0), arguments=("--wait",), why="quota|out"
)


def odd(answer: Callable[[Call], Any]) -> Callable[[], Behaviour]:
    """Prompts with ODD in them get this answer whenever they are sent."""
    return lambda: lambda call: answer(call) if "ODD" in call.prompt else completion()


def once_each(ended: Ended) -> None:
    tries = {n for prompt, n in ended.provider.prompts.items() if "ODD" in prompt}
    assert tries == {1}
    assert len(ended.provider.prompts) == ended.provider.calls


NEVER_FITS = {
    "too large, as a 429": Case(
        odd(
            lambda call: failure(
                429, "rate_limit_exceeded", "Request too large: limit 30000, requested 30601"
            )
        ),
        {**ODD_KINDS, "records": 120, "model": {"max_parallel_requests": 16}},
        1,
        dropped="request_too_large",
        why="dropped.*request too large",
        check=once_each,
    ),
    "a context that is too long": Case(
        odd(lambda call: failure(400, "context_length_exceeded")),
        {**ODD_KINDS, "records": 60},
        1,
        dropped="context_length",
        why="dropped.*context length",
        check=once_each,
    ),
    "all fit": Case(parts={"records": 120, "model": {"max_parallel_requests": 16}}),
}


SERVED_SECONDS = 0.1


def cap(places: int, delay: str | None = None) -> Callable[[], Behaviour]:
    """More than so many at once are refused."""
    served = 0

    async def behaviour(call: Call) -> Any:
        nonlocal served
        if served >= places:
            headers = {} if delay is None else {"retry-after": delay}
            return failure(429, "rate_limit_exceeded", headers=headers)
        served += 1
        try:
            await asyncio.sleep(SERVED_SECONDS)
            return completion()
        finally:
            served -= 1

    return lambda: behaviour


def few_refused(ended: Ended) -> None:
    assert ended.repeats <= 0.2 * ended.record["records"]


WINDOW_SECONDS = 2.0
WINDOW_CALLS = 20


def window(tell: str = "", counts_refused: bool = False) -> Callable[[], Behaviour]:
    """At most twenty calls in any two seconds."""
    taken: list[float] = []

    def behaviour(call: Call) -> Any:
        taken[:] = [at for at in taken if at > call.seconds - WINDOW_SECONDS]
        full = len(taken) >= WINDOW_CALLS
        if not full or counts_refused:
            taken.append(call.seconds)
        if not full:
            return completion()
        left = WINDOW_SECONDS - (call.seconds - taken[0])
        headers = {}
        if tell == "delay":
            headers["retry-after"] = f"{WINDOW_SECONDS:g}"
        elif tell == "reset":
            headers["x-ratelimit-reset-requests"] = f"{left:.2f}s"
            headers["x-ratelimit-remaining-requests"] = "0"
        return failure(429, "rate_limit_exceeded", "Rate limit reached.", headers)

    return lambda: behaviour


def busy(serve: Callable[[], Behaviour], **parts: Any) -> Case:
    return Case(
        serve, parts, why="429|slow down|refused|cool|rate|ceiling", seconds=60, latency_seconds=0.0
    )


WIDE = {"max_parallel_requests": 64}
SIXTEEN = {"max_parallel_requests": 16}
LIMITS = {
    "a hidden cap": busy(cap(8), records=400, model=WIDE),
    "a hidden cap and a delay": busy(cap(8, "1"), records=200, model=WIDE),
    "a hidden cap and a slow start": busy(
        cap(8), records=400, model=WIDE, run={"startup_ramp_seconds": 5}
    ),
    "a hidden cap of two models": busy(
        cap(8),
        records=150,
        model={"max_parallel_requests": 32},
        more_models={"n": {"provider": "p", "model": "lora", "max_parallel_requests": 32}},
        behind=[{"name": "other", "type": "llm_text", "model": "n", "prompt": "Two {{ id }}"}],
    ),
    "a window": busy(window(), records=60, model=SIXTEEN),
    "a window that counts refusals": busy(window("", True), records=60, model=SIXTEEN),
    "a window and a delay": busy(window("delay"), records=60, model=SIXTEEN),
    "a window and a reset": busy(window("reset"), records=60, model=SIXTEEN),
    "one at a time": Case(parts={"model": {"max_parallel_requests": 1}}, why="m1|p"),
}
CASES = {**HINTS, **OUTAGES, **FOR_A_PERSON, **NEVER_FITS, **LIMITS}
SAMPLE = ("a key that is refused", "too large, as a 429")


@pytest.mark.parametrize("name", effort(SAMPLE, tuple(CASES)))
def test_a_run_says_what_its_provider_did(name: str, judged: Callable[[Case], Ended]) -> None:
    judged(CASES[name])
