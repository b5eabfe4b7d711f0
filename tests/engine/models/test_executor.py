from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from engine.clock import LoopClock
from engine.errors import RetryableTaskError
from engine.events import (
    Event,
    EventStream,
    RequestEvent,
    RuntimeCorrelation,
    RuntimeCorrelationProvider,
)
from engine.identity import RequestResourceKey
from engine.models.caller import ModelCaller
from engine.models.client import (
    LocalTimeoutError,
    ModelRequest,
    ModelResponse,
    ProviderError,
)
from engine.models.executor import ModelRequestExecutor
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import RequestAdmissionError
from engine.virtual_time import run_virtual

RESOURCE = RequestResourceKey("alpha", "m", "chat")
RATE_LIMIT = ProviderError("rate_limit", "RateLimitError", "slow down", retry_after_seconds=2.0)

Answer = Callable[[int], Awaitable[ModelResponse]]


class Client:
    """Answers the n-th call (from 1) as told."""

    def __init__(self, answer: Answer) -> None:
        self.calls = 0
        self.answer = answer

    async def send(self, request: ModelRequest) -> ModelResponse:
        self.calls += 1
        return await self.answer(self.calls)

    async def close(self) -> None:
        pass


class Lab:
    def __init__(
        self, answer: Answer, cap: int = 2, recorded: bool = True, wait: float | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        clock = LoopClock(self.loop, 0)
        self.collected: list[Event] = []
        self.stream = EventStream(clock, "run", (self,) if recorded else ())
        self.admission = AdaptiveRequestAdmissionController(
            stream=self.stream, clock=clock, loop=self.loop, config=RequestAdmissionConfig()
        )
        self.admission.register(RESOURCE, cap, "writer")
        self.client = Client(answer)
        self.correlation = RuntimeCorrelationProvider()
        self.executor = ModelRequestExecutor(
            admission=self.admission,
            clients={"alpha": self.client},
            stream=self.stream,
            clock=clock,
            correlation=self.correlation,
            queue_wait_timeout=wait,
        )
        self.caller = ModelCaller(self.executor, max_refusals=3)

    def write_events(self, events: Sequence[Event]) -> None:
        self.collected.extend(events)

    def events(self, kind: str | None = None) -> list[RequestEvent]:
        self.stream.flush()
        return [
            event
            for event in self.collected
            if isinstance(event, RequestEvent) and kind in (None, event.event_kind)
        ]

    def counts(self) -> tuple[int, int]:
        pressure = self.admission.pressure.snapshot(RESOURCE)
        assert pressure is not None
        return pressure.in_flight_count, pressure.waiters


def request(timeout: float | None = 120.0, provider: str = "alpha") -> ModelRequest:
    resource = RequestResourceKey(provider, "m", "chat")
    return ModelRequest(resource, "writer", "a question", timeout_seconds=timeout)


def answering(*steps: float | BaseException) -> Answer:
    """A number answers after so many seconds, an exception is raised after one."""

    async def answer(call: int) -> ModelResponse:
        step = steps[min(call, len(steps)) - 1]
        if isinstance(step, BaseException):
            await asyncio.sleep(1.0)
            raise step
        await asyncio.sleep(step)
        return ModelResponse("an answer", 7, 3)

    return answer


def test_one_attempt_in_events() -> None:
    async def main() -> None:
        lab = Lab(answering(0.5))
        lab.correlation.set(RuntimeCorrelation("run", 0, "question", task_execution_id="e9"))
        response = await lab.executor.execute_attempt(request())
        assert response.text == "an answer"
        told = lab.events()[1:]
        assert [event.event_kind for event in told] == [
            "request_wait_started",
            "request_wait_completed",
            "request_lease_acquired",
            "model_request_started",
            "model_request_completed",
            "request_lease_released",
        ]
        for event in told:
            assert event.request_attempt_id == "a1"
            assert event.request_resource_key is not None
            assert event.request_resource_key.label == RESOURCE.label
            assert event.request_group_key is None, "the resource is its own group"
            assert event.captured_correlation is not None
            assert event.captured_correlation.task_execution_id == "e9"
        assert [event.request_lease_id for event in told] == [None, None, *["r1"] * 4]
        completed = told[4]
        assert completed.reason_or_outcome == "success"
        assert completed.diagnostics == {
            "duration_seconds": 0.5,
            "prompt_tokens": 7,
            "completion_tokens": 3,
        }
        await lab.executor.execute_attempt(request())
        assert [e.request_attempt_id for e in lab.events("model_request_started")] == ["a1", "a2"]
        assert [e.request_lease_id for e in lab.events("model_request_started")] == ["r1", "r2"]

    run_virtual(main())


@pytest.mark.parametrize(
    ("error", "outcome", "facts"),
    [
        (RATE_LIMIT, "rate_limited", {"error_type": "RateLimitError", "class": "rate_limit"}),
        (
            ProviderError("server_error", "E500", "broken", status=500, code="oops"),
            "provider_failure",
            {"error_type": "E500", "class": "server_error", "status": 500, "code": "oops"},
        ),
        (
            ProviderError("timeout", "T", "late"),
            "provider_timeout",
            {"error_type": "T", "class": "timeout"},
        ),
        (ValueError("not told"), "unexpected_exception", {"error_type": "ValueError"}),
        (TimeoutError("its own"), "unexpected_exception", {"error_type": "TimeoutError"}),
        (LocalTimeoutError("NoRoom", "no room"), "local_timeout", {"error_type": "NoRoom"}),
        (KeyError("x"), "unexpected_exception", {"error_type": "KeyError"}),
    ],
)
def test_what_the_client_raises_comes_out_and_is_classified(
    error: Exception, outcome: str, facts: dict[str, Any]
) -> None:
    async def main() -> None:
        lab = Lab(answering(error))
        with pytest.raises(type(error)) as caught:
            await lab.executor.execute_attempt(request())
        assert caught.value is error
        completed, released = lab.events("model_request_completed"), lab.events()[-1]
        assert completed[0].reason_or_outcome == released.reason_or_outcome == outcome
        said = {"message": str(error)} if isinstance(error, ProviderError) else {}
        assert completed[0].diagnostics == {"duration_seconds": 1.0, **facts, **said}
        assert lab.counts() == (0, 0)
        assert "not told" not in repr(lab.events())

    run_virtual(main())


def test_a_rate_limit_is_told_between_completion_and_release() -> None:
    async def main() -> None:
        lab = Lab(answering(RATE_LIMIT))
        with pytest.raises(ProviderError):
            await lab.executor.execute_attempt(request())
        assert [event.event_kind for event in lab.events()[-4:]] == [
            "model_request_completed",
            "request_rate_limited",
            "request_limit_decreased",
            "request_lease_released",
        ]

    run_virtual(main())


def test_the_time_allowed_runs_from_the_start_of_the_call() -> None:
    async def main() -> None:
        lab = Lab(answering(8.0), cap=1)
        first = asyncio.ensure_future(lab.executor.execute_attempt(request()))
        await asyncio.sleep(0)
        with pytest.raises(ProviderError) as caught:
            await lab.executor.execute_attempt(request(timeout=5.0))
        assert lab.loop.time() == 13.0
        assert caught.value.kind == "provider_timeout"
        assert caught.value.retryable
        assert str(caught.value) == "no answer from alpha in 5 s"
        assert lab.events()[-1].reason_or_outcome == "provider_timeout"
        await first

    run_virtual(main())


def within(seconds: float) -> ModelRequest:
    return ModelRequest(RESOURCE, "writer", "a question", within_seconds=seconds)


def test_the_callers_time_ends_an_attempt_and_says_nothing_of_the_provider() -> None:
    async def main() -> None:
        lab = Lab(answering(RATE_LIMIT, 8.0), cap=4)
        with pytest.raises(TimeoutError, match="the caller's 5 s were over") as caught:
            await lab.caller.call(within(5.0))
        assert isinstance(caught.value, RetryableTaskError)
        assert (caught.value.error_type, caught.value.uses_attempt) == ("LocalTimeout", True)
        assert lab.loop.time() == 5.0, "repetitions share it"
        *_, completed, released = lab.events()
        assert completed.reason_or_outcome == released.reason_or_outcome == "local_timeout"
        assert completed.diagnostics["error_type"] == "LocalTimeout"
        pressure = lab.admission.pressure.snapshot(RESOURCE)
        assert pressure is not None
        assert (pressure.current_limit, pressure.last_outcome) == (3, "local_timeout")
        assert lab.counts() == (0, 0)

    run_virtual(main())


def test_the_providers_time_comes_first_where_it_is_shorter() -> None:
    async def main() -> None:
        lab = Lab(answering(200.0))
        with pytest.raises(RetryableTaskError, match="no answer from alpha in 120 s"):
            await lab.caller.call(within(150.0))
        assert lab.events()[-1].reason_or_outcome == "provider_timeout"

    run_virtual(main())


@pytest.mark.parametrize("wait", [None, 60.0])
def test_the_callers_time_also_ends_a_wait(wait: float | None) -> None:
    async def main() -> None:
        lab = Lab(answering(60.0), cap=1, wait=wait)
        first = lab.loop.create_task(lab.caller.call(request()))
        await asyncio.sleep(0)
        with pytest.raises(LocalTimeoutError) as caught:
            await lab.caller.call(within(4.0))
        assert not caught.value.uses_attempt, "it is no failure of the task"
        assert lab.loop.time() == 4.0
        assert len(lab.events("request_wait_timeout")) == 1
        await first

    run_virtual(main())


def test_a_provider_without_a_client_takes_no_lease() -> None:
    async def main() -> None:
        lab = Lab(answering(1.0))
        with pytest.raises(KeyError):
            await lab.executor.execute_attempt(request(provider="beta"))
        assert lab.counts() == (0, 0)

    run_virtual(main())


@pytest.mark.parametrize("seed", range(4))
def test_cancellation_at_every_step_closes_the_attempt(seed: int) -> None:
    async def main(iterations: int) -> bool:
        async def answer(call: int) -> ModelResponse:
            for _ in range(5):
                await asyncio.sleep(0)
            return ModelResponse("an answer")

        lab = Lab(answer, cap=1)
        tasks = [
            lab.loop.create_task(lab.executor.execute_attempt(request(timeout=None)))
            for _ in range(3)
        ]
        for _ in range(iterations):
            await asyncio.sleep(0)
        reached = not tasks[1].done()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert lab.counts() == (0, 0)
        kinds = Counter(event.event_kind for event in lab.events())
        assert kinds["request_lease_acquired"] == kinds["request_lease_released"]
        assert kinds["model_request_started"] == kinds["model_request_completed"]
        assert lab.admission.keyframe(full=True)["attempts"] == []
        assert lab.admission.release_diagnostics == {}
        return reached

    assert [
        run_virtual(main(iterations), shuffle=random.Random(seed)) for iterations in range(40)
    ].count(True) > 5


def test_a_cancelled_call_is_told_as_local() -> None:
    async def main() -> None:
        lab = Lab(answering(60.0))
        task = lab.loop.create_task(lab.executor.execute_attempt(request()))
        await asyncio.sleep(3.0)
        rows = lab.admission.keyframe(full=True)["attempts"]
        assert [(row["phase"], row["started_at"]) for row in rows] == [("in_provider", 0.0)]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [event.reason_or_outcome for event in lab.events()[-2:]] == ["local_cancelled"] * 2

    run_virtual(main())


def test_a_rate_limited_attempt_is_made_again_in_place_after_the_cooldown() -> None:
    async def main() -> None:
        lab = Lab(answering(RATE_LIMIT, RATE_LIMIT, 0.5))
        response = await lab.caller.call(request())
        assert response.text == "an answer"
        assert lab.loop.time() == 1.0 + 2.0 + 1.0 + 2.0 + 0.5
        leases = [event.request_lease_id for event in lab.events("request_lease_acquired")]
        assert leases == ["r1", "r2", "r3"]
        attempts = [event.request_attempt_id for event in lab.events("model_request_started")]
        assert attempts == ["a1", "a2", "a3"]

    run_virtual(main())


def test_a_request_that_is_refused_while_others_are_answered_is_given_up() -> None:
    async def main() -> None:
        lab = Lab(answering(RATE_LIMIT, 1.0, RATE_LIMIT, 1.0, RATE_LIMIT, 1.0), cap=1)

        async def others() -> None:
            for _ in range(3):
                await lab.caller.call(request())

        refused = asyncio.ensure_future(lab.caller.call(request()))
        await asyncio.sleep(0.0)
        answered = asyncio.ensure_future(others())
        with pytest.raises(ProviderError, match=r"refused 3 times while .* slow down") as caught:
            await refused
        assert (caught.value.error_type, caught.value.failure) == ("RefusedAlways", "rate_limit")
        await answered

    run_virtual(main())


def test_a_storm_that_spares_nobody_is_waited_out() -> None:
    async def main() -> None:
        lab = Lab(answering(*[RATE_LIMIT] * 500, 1.0))
        response = await lab.caller.call(request())
        assert response.text == "an answer"
        assert lab.client.calls == 501
        assert lab.loop.time() == 500 * 3.0 + 1.0

    run_virtual(main())


@pytest.mark.parametrize("kind", ["server_error", "timeout", "auth", "quota_spent"])
def test_a_failure_that_may_pass_defers_the_task_at_once(kind: Any) -> None:
    async def main() -> None:
        lab = Lab(answering(ProviderError(kind, "E503", "unavailable")))
        with pytest.raises(RetryableTaskError, match="unavailable") as caught:
            await lab.caller.call(request())
        assert lab.client.calls == 1
        assert (caught.value.error_type, caught.value.delay_seconds) == ("E503", None)

    run_virtual(main())


@pytest.mark.parametrize("kind", ["invalid_request", "request_too_large", "content_filter"])
def test_a_failure_that_cannot_pass_comes_out_as_it_is(kind: Any) -> None:
    error = ProviderError(kind, "E400", "bad request")

    async def main() -> None:
        lab = Lab(answering(error))
        with pytest.raises(ProviderError) as caught:
            await lab.caller.call(request())
        assert caught.value is error
        assert lab.client.calls == 1

    run_virtual(main())


def test_a_queue_timeout_defers_the_task() -> None:
    async def main() -> None:
        lab = Lab(answering(60.0), cap=1, wait=4.0)
        first = lab.loop.create_task(lab.caller.call(request()))
        await asyncio.sleep(0)
        with pytest.raises(RetryableTaskError) as caught:
            await lab.caller.call(request())
        assert caught.value.error_type == "RequestQueueTimeout"
        assert not caught.value.uses_attempt, "it is no failure of the task"
        assert lab.loop.time() == 4.0
        assert lab.client.calls == 1
        await first

    run_virtual(main())


def test_an_unregistered_resource_is_the_callers_error() -> None:
    async def main() -> None:
        lab = Lab(answering(1.0))
        unknown = ModelRequest(RequestResourceKey("alpha", "other", "chat"), "x", "a question")
        with pytest.raises(RequestAdmissionError, match="hard_policy_denial"):
            await lab.caller.call(unknown)

    run_virtual(main())


def test_a_disabled_stream_is_told_nothing() -> None:
    async def main() -> None:
        lab = Lab(answering(RATE_LIMIT, 1.0), recorded=False)
        await lab.caller.call(request())
        assert lab.stream.request_sequence == 0

    run_virtual(main())
