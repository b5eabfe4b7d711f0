"""The controller as a state machine: acquire in every way, release with every outcome, cancel,
time out, let time pass, register, shut down, in any order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.clock import LoopClock
from engine.events import EventStream
from engine.identity import ProviderModelKey, RequestResourceKey
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import (
    RequestAdmissionDenied,
    RequestAdmissionError,
    RequestAdmissionItem,
    RequestAdmissionLease,
    RequestEventContext,
    RequestGroupSpec,
    RequestReleaseOutcome,
)
from engine.virtual_time import VirtualTimeLoop

T = TypeVar("T")

CHAT = RequestResourceKey("alpha", "m", "chat")
EMBEDDING = RequestResourceKey("alpha", "m", "embedding")
OTHER = RequestResourceKey("beta", "m", "chat")
RESOURCES = (CHAT, EMBEDDING, OTHER)
GROUPS = (None, RequestGroupSpec("light"), RequestGroupSpec("heavy", 3.0))
OUTCOMES = (
    "success",
    "rate_limited",
    "provider_failure",
    "provider_timeout",
    "local_cancelled",
    "local_timeout",
    "unexpected_exception",
)
PENDING_SYNC = 2
NUMBERS = st.integers(0, 1000)


class Pending:
    """An acquisition under way; `task` on the loop, or `thread` for one of another thread."""

    def __init__(
        self, number: int, item: RequestAdmissionItem, deadline: float | None, began: float
    ) -> None:
        self.number = number
        self.attempt_id = f"a{number}"
        self.item = item
        self.deadline = deadline
        self.began = began
        self.task: asyncio.Task[RequestAdmissionLease] | None = None
        self.thread: Future[RequestAdmissionLease] | None = None
        self.cancelled = False

    @property
    def lane(self) -> tuple[RequestResourceKey, RequestGroupSpec | None]:
        return self.item.resource, self.item.group


class Discarded:
    def write_events(self, events: object) -> None:
        """The stream is on; its events are checked elsewhere."""


class AdmissionMachine(RuleBasedStateMachine):
    """Time is virtual. After each step the loop runs until nothing more happens by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = ThreadPoolExecutor(PENDING_SYNC)
        self.held: dict[str, RequestAdmissionLease] = {}
        self.closed: list[RequestAdmissionLease] = []
        self.pending: dict[int, Pending] = {}
        self.begun = 0
        self.shut_down = False

    @initialize(
        seed=st.none() | NUMBERS,
        recovery=st.sampled_from(["published", "adaptive"]),
        ramp=st.sampled_from([0.0, 3.0]),
        caps=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    )
    def begin(self, seed: int | None, recovery: Any, ramp: float, caps: tuple[int, ...]) -> None:
        shuffle = None if seed is None else random.Random(seed)
        self.loop = VirtualTimeLoop(shuffle=shuffle)
        clock = LoopClock(self.loop, 0)
        self.controller = AdaptiveRequestAdmissionController(
            stream=EventStream(clock, "run", [Discarded()]),
            clock=clock,
            loop=self.loop,
            config=RequestAdmissionConfig(
                successes_until_increase=2,
                cooldown_seconds=1.0,
                startup_ramp_seconds=ramp,
                recovery=recovery,
            ),
        )
        self.caps: dict[ProviderModelKey, int] = {}
        for resource, cap in zip(RESOURCES, caps, strict=True):
            self.register(resource, cap)

    def register(self, resource: RequestResourceKey, cap: int) -> None:
        self.begun += 1
        self.controller.register(resource, cap, f"alias {self.begun}")
        key = resource.provider_model
        self.caps[key] = min(cap, self.caps.get(key, cap))

    # Running the loop

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(main)

    def phases(self) -> dict[str, str]:
        attempts = self.controller.keyframe(full=True)["attempts"]
        return {row["attempt_id"]: row["phase"] for row in attempts}

    def settle(self) -> None:
        async def quiet() -> None:
            for _ in range(6):
                await asyncio.sleep(0)
            for attempt in list(self.pending.values()):
                # A thread whose wait is over is about to be told; its answer takes no loop time.
                while (  # noqa: ASYNC110
                    attempt.thread is not None
                    and not attempt.thread.done()
                    and self.phases().get(attempt.attempt_id) != "waiting"
                ):
                    await asyncio.sleep(0)

        self.run(quiet())
        for number, item in list(self.pending.items()):
            done = item.task or item.thread
            assert done is not None
            if done.done():
                del self.pending[number]
                self.finish(item)

    def finish(self, waiter: Pending) -> None:
        """What an acquisition that is over may have come to."""
        done = waiter.task or waiter.thread
        assert done is not None
        if done.cancelled():
            assert waiter.cancelled
            return
        error = done.exception()
        if error is None:
            lease = done.result()
            assert lease.item is waiter.item, "an acquisition gets its own lease"
            self.take(lease)
            older = [p for p in self.pending.values() if p.lane == waiter.lane]
            assert all(p.number > waiter.number or self.leased(p) for p in older), "not in order"
            return
        assert isinstance(error, RequestAdmissionError)
        reason = error.denial.reason
        if reason == "queue_timeout":
            assert waiter.deadline is not None
            assert self.loop.time() >= waiter.deadline
        else:
            assert reason == "shutdown"
            assert self.shut_down

    def leased(self, attempt: Pending) -> bool:
        return self.phases().get(attempt.attempt_id) == "leased"

    def take(self, lease: RequestAdmissionLease) -> None:
        assert lease.lease_id not in self.held
        assert not self.shut_down or lease.acquired_at <= self.loop.time()
        assert 1 <= lease.current_adaptive_limit <= lease.effective_max
        self.held[lease.lease_id] = lease

    def item(self, which: int, group: int, timeout: float | None) -> Pending:
        self.begun += 1
        now = self.loop.time()
        item = RequestAdmissionItem(
            RESOURCES[which % len(RESOURCES)],
            GROUPS[group % len(GROUPS)],
            timeout,
            RequestEventContext(None, None, f"a{self.begun}"),
        )
        return Pending(self.begun, item, None if timeout is None else now + timeout, now)

    # What may happen

    @rule(which=NUMBERS, group=NUMBERS, timeout=st.sampled_from([None, None, 0.0, 0.5, 2.0]))
    def acquire(self, which: int, group: int, timeout: float | None) -> None:
        item = self.item(which, group, timeout)

        async def start() -> asyncio.Task[RequestAdmissionLease]:
            return asyncio.ensure_future(self.controller.acquire_async(item.item))

        item.task = self.run(start())
        self.pending[item.number] = item
        self.settle()

    @precondition(lambda self: sum(p.thread is not None for p in self.pending.values()) < 2)
    @rule(which=NUMBERS, group=NUMBERS, timeout=st.sampled_from([None, 0.5, 2.0]))
    def acquire_in_a_thread(self, which: int, group: int, timeout: float | None) -> None:
        item = self.item(which, group, timeout)

        async def start() -> None:
            item.thread = self.threads.submit(self.controller.acquire_sync, item.item)
            while not item.thread.done() and item.attempt_id not in self.phases():  # noqa: ASYNC110
                await asyncio.sleep(0)

        self.run(start())
        self.pending[item.number] = item
        self.settle()

    @rule(which=NUMBERS, group=NUMBERS)
    def try_acquire(self, which: int, group: int) -> None:
        item = self.item(which, group, None).item
        waiting = Counter(p.item.resource for p in self.pending.values())
        room = not self.shut_down and self.has_room(item.resource)
        decision = self.controller.try_acquire(item)
        if isinstance(decision, RequestAdmissionDenied):
            assert not room
            expected = {"shutdown"} if self.shut_down else {"cooldown", "no_capacity"}
            assert decision.reason in expected
        else:
            assert room
            assert not waiting[item.resource], "past a waiter of the same resource"
            self.take(decision)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(
        which=NUMBERS,
        kind=st.sampled_from(OUTCOMES),
        retry_after=st.sampled_from([None, 0.25, 3.0]),
        times=st.integers(1, 3),
    )
    def release(self, which: int, kind: Any, retry_after: float | None, times: int) -> None:
        lease = self.held.pop(sorted(self.held)[which % len(self.held)])
        before = self.controller.pressure.snapshot(lease.item.resource)
        assert before is not None
        outcome = RequestReleaseOutcome(kind, retry_after)
        assert self.controller.release(lease, outcome).released
        after = self.controller.pressure.snapshot(lease.item.resource)
        assert after is not None
        if kind != "rate_limited":
            assert after.current_limit >= before.current_limit or kind == "success"
            assert after.blocked_until_monotonic == before.blocked_until_monotonic
        else:
            assert (after.blocked_until_monotonic or 0) >= (before.blocked_until_monotonic or 0)
        for _ in range(times - 1):
            assert self.controller.release(lease, outcome).reason == "duplicate"
        self.closed.append(lease)
        self.settle()

    @precondition(lambda self: self.closed)
    @rule(which=NUMBERS, kind=st.sampled_from(OUTCOMES))
    def release_again(self, which: int, kind: Any) -> None:
        lease = self.closed[which % len(self.closed)]
        result = self.controller.release(lease, RequestReleaseOutcome(kind))
        assert (result.released, result.reason) == (False, "duplicate")

    @precondition(lambda self: any(p.task is not None for p in self.pending.values()))
    @rule(which=NUMBERS, at_once_with_a_release=st.booleans(), kind=st.sampled_from(OUTCOMES))
    def cancel(self, which: int, at_once_with_a_release: bool, kind: Any) -> None:
        """The waiter may get its lease in the same iteration: before it or after it."""
        waiting = [p for p in self.pending.values() if p.task is not None]
        item = waiting[which % len(waiting)]
        assert item.task is not None
        if at_once_with_a_release and self.held:
            lease = self.held.pop(sorted(self.held)[which % len(self.held)])
            self.closed.append(lease)
            outcome = RequestReleaseOutcome(kind)
            if which % 2:
                assert self.controller.release(lease, outcome).released
                item.cancelled = item.task.cancel()
            else:
                item.cancelled = item.task.cancel()
                assert self.controller.release(lease, outcome).released
        else:
            item.cancelled = item.task.cancel()
        self.settle()
        assert item.number not in self.pending

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0, 70.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))
        self.settle()

    @rule(which=NUMBERS, cap=st.integers(1, 4))
    def register_an_alias(self, which: int, cap: int) -> None:
        self.register(RESOURCES[which % len(RESOURCES)], cap)
        self.settle()

    @precondition(lambda self: not self.shut_down and self.begun > 12)
    @rule(really=st.integers(0, 4))
    def shutdown(self, really: int) -> None:
        if not really:
            self.shut_down = True
            self.controller.shutdown()
            self.settle()
            assert not self.pending

    # What must hold

    def has_room(self, resource: RequestResourceKey) -> bool:
        """From what everyone may see, one more call may go to the resource."""
        pressure = self.controller.pressure.snapshot(resource)
        overall = self.controller.pressure.global_snapshot(*resource.provider_model)
        assert pressure is not None
        assert overall is not None
        return (
            pressure.cooldown_remaining_seconds == 0.0
            and pressure.in_flight_count < pressure.current_limit
            and overall.in_flight_count < overall.static_cap
        )

    @invariant()
    def the_ledger_is_what_was_handed_out(self) -> None:
        if not hasattr(self, "controller"):
            return
        held = Counter(lease.item.resource for lease in self.held.values())
        waiting = Counter(p.item.resource for p in self.pending.values())
        together = Counter(lease.item.resource.provider_model for lease in self.held.values())
        for resource in RESOURCES:
            pressure = self.controller.pressure.snapshot(resource)
            assert pressure is not None
            assert pressure.in_flight_count == pressure.active_lease_count == held[resource]
            assert pressure.waiters == waiting[resource]
            assert 1 <= pressure.current_limit <= pressure.effective_max
            assert pressure.effective_max == self.caps[resource.provider_model]
        for overall in self.controller.pressure.global_snapshots():
            assert overall.in_flight_count == together[overall.provider_model]
            assert overall.static_cap == self.caps[overall.provider_model]
        refused = self.controller.release_diagnostics
        assert set(refused) <= {"duplicate"}

    @invariant()
    def nobody_waits_for_what_is_free(self) -> None:
        for waiter in self.pending.values():
            assert not self.has_room(waiter.item.resource)
            assert waiter.deadline is None or waiter.deadline >= self.loop.time()

    def teardown(self) -> None:
        if not hasattr(self, "controller"):
            return
        try:
            self.shut_down = True
            self.controller.shutdown()
            self.settle()
            assert not self.pending
            for lease in self.held.values():
                assert self.controller.release(lease, RequestReleaseOutcome("success")).released
            self.held.clear()
            self.the_ledger_is_what_was_handed_out()
        finally:
            self.loop.close()
            self.threads.shutdown(wait=False)


def test_whatever_happens_in_whatever_order() -> None:
    run_state_machine_as_test(
        AdmissionMachine,
        settings=settings(
            max_examples=50,
            stateful_step_count=35,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
