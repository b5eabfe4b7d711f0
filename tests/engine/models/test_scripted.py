from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Coroutine
from typing import Any

import pytest
from pydantic import ValidationError

from engine.clock import LoopClock
from engine.identity import RequestResourceKey
from engine.models.client import ModelRequest, ModelResponse, ProviderError
from engine.models.provider_script import Latency, ProviderScript
from engine.models.scripted import ScriptedClient
from engine.virtual_time import run_virtual

RESOURCE = RequestResourceKey("p", "m", "chat")
QUARTER = {"distribution": "constant", "mean": 0.25}


def request(prompt: str, system: str | None = None, timeout: float | None = 120.0) -> ModelRequest:
    return ModelRequest(RESOURCE, "writer", prompt, system, timeout_seconds=timeout)


def script(**parts: Any) -> ProviderScript:
    return ProviderScript.model_validate({"latency": QUARTER} | parts)


Outcome = tuple[float, ModelResponse | ProviderError]


class Caller:
    """Sends at given seconds and notes when each answer came, by prompt."""

    def __init__(self, played: ProviderScript) -> None:
        self._script = played
        self.outcomes: dict[str, Outcome] = {}

    def run(self, *plan: tuple[float, ModelRequest]) -> dict[str, Outcome]:
        run_virtual(self._all(plan))
        return self.outcomes

    async def _all(self, plan: tuple[tuple[float, ModelRequest], ...]) -> None:
        loop = asyncio.get_running_loop()
        client = ScriptedClient(self._script, LoopClock(loop, wall_start=0.0))

        async def one(at: float, sent: ModelRequest) -> None:
            await asyncio.sleep(at)
            try:
                outcome: ModelResponse | ProviderError = await client.send(sent)
            except ProviderError as error:
                outcome = error
            self.outcomes[sent.prompt] = (loop.time(), outcome)

        await asyncio.gather(*(one(at, sent) for at, sent in plan))
        await client.close()


def kinds(outcomes: dict[str, Outcome]) -> dict[str, str]:
    return {
        prompt: o.kind if isinstance(o, ProviderError) else "success"
        for prompt, (_, o) in outcomes.items()
    }


def test_an_answer_depends_on_its_prompt_alone() -> None:
    def text(seed: int, prompt: str, system: str | None) -> str:
        outcomes = Caller(script(seed=seed)).run((0, request(prompt, system)))
        answer = outcomes[prompt][1]
        assert isinstance(answer, ModelResponse)
        return answer.text

    assert text(1, "a", None) == text(2, "a", "Be brief.")
    assert text(1, "a", None) != text(1, "b", None)
    assert text(1, "\ud800", None)


def test_a_latency_depends_on_seed_and_request_not_on_order() -> None:
    drawn = ProviderScript(seed=3)
    forward = Caller(drawn).run(*((i * 10, request(str(i))) for i in range(5)))
    backward = Caller(drawn).run(*(((4 - i) * 10, request(str(i))) for i in range(5)))
    latency = {str(i): forward[str(i)][0] - i * 10 for i in range(5)}
    assert latency == pytest.approx({str(i): backward[str(i)][0] - (4 - i) * 10 for i in range(5)})
    assert len(set(latency.values())) == 5
    other = Caller(ProviderScript(seed=4)).run((0, request("0")))
    assert other["0"][0] != pytest.approx(latency["0"])


@pytest.mark.parametrize("distribution", ["lognormal", "uniform", "constant"])
def test_latencies_have_the_mean_that_was_asked_for(distribution: Any) -> None:
    latency = Latency(distribution=distribution, mean=0.5, spread=0.2)
    drawn = [latency.seconds((i + 0.5) / 2000) for i in range(2000)]
    assert statistics.fmean(drawn) == pytest.approx(0.5, rel=0.01)
    assert min(drawn) > 0
    spread = {"lognormal": 0.2, "uniform": 0.2 / 3**0.5, "constant": 0}[distribution]
    assert statistics.pstdev(drawn) == pytest.approx(spread, rel=0.05)


def test_tokens_are_counted() -> None:
    outcomes = Caller(script()).run((0, request("three short words", "two more")))
    answer = outcomes["three short words"][1]
    assert isinstance(answer, ModelResponse)
    assert answer.prompt_tokens == 5
    assert answer.completion_tokens == len(answer.text.split())
    fixed = Caller(script(completion_tokens=77)).run((0, request("a")))["a"][1]
    assert isinstance(fixed, ModelResponse)
    assert fixed.completion_tokens == 77


def test_windows_count_from_the_first_request() -> None:
    window = {"from": 1, "to": 3, "retry_after": 1.5, "allow": 1}
    outcomes = Caller(script(rate_limits=[window])).run(
        (100, request("first")),
        (100.9, request("before")),
        (101.2, request("allowed")),
        (101.3, request("one too many")),
        (102, request("free again")),
        (103, request("after")),
        (103, request("after, too")),
    )
    assert kinds(outcomes) == {
        "first": "success",
        "before": "success",
        "allowed": "success",
        "one too many": "rate_limited",
        "free again": "success",
        "after": "success",
        "after, too": "success",
    }
    at, error = outcomes["one too many"]
    assert isinstance(error, ProviderError)
    assert at == pytest.approx(101.32)
    assert (error.error_type, error.retry_after_seconds, error.retryable) == (
        "RateLimited",
        1.5,
        True,
    )


def test_a_window_may_say_nothing_of_when_to_come_back() -> None:
    error = Caller(script(rate_limits=[{"from": 0}])).run((0, request("a")))["a"][1]
    assert isinstance(error, ProviderError)
    assert error.retry_after_seconds is None


def test_capacity_bounds_what_is_served_at_once() -> None:
    outcomes = Caller(script(capacity=2, capacity_retry_after=3)).run(
        (0, request("a")), (0, request("b")), (0.1, request("c")), (0.3, request("d"))
    )
    assert kinds(outcomes)["c"] == "rate_limited"
    assert sorted(kinds(outcomes).values()).count("success") == 3


def test_a_cancelled_request_frees_its_place() -> None:
    async def main() -> str:
        client = ScriptedClient(script(capacity=1), LoopClock(asyncio.get_running_loop(), 0.0))
        first = asyncio.create_task(client.send(request("a")))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        return (await client.send(request("b"))).text

    assert run_virtual(main())


def test_error_windows_and_their_status() -> None:
    windows = [{"from": 1, "to": 2, "status": 503}, {"from": 3, "to": 4, "status": 400}]
    outcomes = Caller(script(errors=windows)).run(
        (0, request("fine")), (1, request("busy")), (3, request("bad"))
    )
    assert kinds(outcomes)["fine"] == "success"
    busy, bad = outcomes["busy"][1], outcomes["bad"][1]
    assert isinstance(busy, ProviderError)
    assert isinstance(bad, ProviderError)
    assert (busy.kind, busy.error_type, busy.retryable) == ("provider_failure", "HTTP503", True)
    assert (bad.kind, bad.error_type, bad.retryable) == ("provider_failure", "HTTP400", False)
    assert outcomes["busy"][0] == pytest.approx(1.25)


def attempts_until_success(played: ProviderScript, prompts: int) -> list[int]:
    async def main() -> list[int]:
        client = ScriptedClient(played, LoopClock(asyncio.get_running_loop(), 0.0))
        counts = []
        for i in range(prompts):
            for attempt in range(1, 100):
                try:
                    await client.send(request(str(i), timeout=5))
                except ProviderError:
                    continue
                counts.append(attempt)
                break
        return counts

    return run_virtual(main())


@pytest.mark.parametrize("rate", ["error_rate", "timeout_rate"])
def test_a_rate_of_failures_leaves_room_for_retries(rate: str) -> None:
    played = script(**{rate: 0.3})
    counts = attempts_until_success(played, 300)
    assert len(counts) == 300
    assert 0.2 < sum(count > 1 for count in counts) / 300 < 0.4
    assert counts == attempts_until_success(played, 300)


def test_alike_requests_fail_each_by_itself() -> None:
    """Many rows may send the same text: a share of them fails, and a repetition mostly succeeds."""

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        client = ScriptedClient(script(error_rate=0.1, latency={"mean": 0}), LoopClock(loop))
        failed = []
        for _ in range(1000):
            try:
                await client.send(request("the same"))
                failed.append(False)
            except ProviderError:
                failed.append(True)
        return failed

    failed = run_virtual(main())
    assert 0.07 < statistics.fmean(failed) < 0.13
    again = [later for first, later in itertools.pairwise(failed) if first]
    assert statistics.fmean(again) < 0.25


def test_a_request_that_is_never_answered_times_out() -> None:
    outcomes = Caller(script(timeouts=[{"from": 0}])).run(
        (0, request("a", timeout=7)), (0, request("b", timeout=None))
    )
    assert kinds(outcomes) == {"a": "provider_timeout", "b": "provider_timeout"}
    assert outcomes["a"][0] == pytest.approx(7)
    assert outcomes["b"][0] == pytest.approx(600)


def test_an_answer_later_than_the_time_out_is_none() -> None:
    outcomes = Caller(script()).run((0, request("a", timeout=0.2)))
    assert kinds(outcomes) == {"a": "provider_timeout"}
    assert outcomes["a"][0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "parts",
    [
        {"latency": {"distribution": "uniform", "mean": 1, "spread": 2}},
        {"rate_limits": [{"from": 3, "to": 2}]},
        {"error_rate": 1},
        {"capacity": 0},
        {"errors": [{"status": 200}]},
        {"unheard_of": 1},
    ],
)
def test_a_script_that_makes_no_sense_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProviderScript.model_validate(parts)


def test_a_day_of_answers_passes_at_once() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        slow = script(latency={"distribution": "constant", "mean": 3600})
        client = ScriptedClient(slow, LoopClock(loop, 0.0))
        calls: list[Coroutine[Any, Any, ModelResponse]] = [
            client.send(request(str(i), timeout=None)) for i in range(24)
        ]
        for call in calls:
            await call
        return loop.time()

    assert run_virtual(main()) == pytest.approx(86_400)
