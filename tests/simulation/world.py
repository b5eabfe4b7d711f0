"""Random worlds: a workflow, its providers with their faults, what tasks do, how the run ends.

One seed gives one world. Times lie on a coarse grid, so that many things happen at one instant and
a shuffled order of callbacks matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import RetryableTaskError
from engine.events import Event, RuntimeCorrelationProvider
from engine.identity import (
    RequestDomain,
    RequestPressureSnapshotProvider,
    RequestResourceKey,
)
from engine.models.caller import ModelCaller
from engine.models.client import ModelClient, ModelRequest
from engine.models.executor import ModelRequestExecutor
from engine.models.provider_script import (
    ErrorWindow,
    FailureWindow,
    Latency,
    ProviderScript,
    RateLimitWindow,
)
from engine.models.scripted import ScriptedClient
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.run.provider_watch import ProviderWatch
from engine.scheduling.bounded_borrow import BoundedBorrowTaskAdmissionPolicyConfig
from engine.scheduling.config import TaskAdmissionConfig, build_policy
from engine.scheduling.plan import ColumnPlan, RetryPolicy
from engine.scheduling.scheduler import AsyncTaskScheduler
from engine.scheduling.types import TaskPayload
from tests.engine.scheduling.harness import Broken, Run, Setting, column
from tests.simulation.adversity import (
    PROBE_PROMPT,
    AdverseClient,
    Adversity,
    random_adversity,
    random_limits,
)

HORIZON = 3_000.0
"""Virtual seconds in which every one of these worlds ends by far."""
STOPS = ("drain", "abort", "cancel", "twice", "disk", "spawn")


@dataclass(frozen=True)
class Endpoint:
    resource: RequestResourceKey
    cap: int
    alias: str


@dataclass
class World:
    seed: int
    endpoints: Sequence[Endpoint]
    scripts: dict[str, ProviderScript]
    config: RequestAdmissionConfig
    uses: dict[str, tuple[Endpoint, ...]]
    """Column -> where its tasks send requests."""
    trouble: float
    """How often a task fails by itself."""
    queue_wait_timeout: float | None
    request_timeout: float
    stop: str | None
    later: Sequence[tuple[float, Endpoint]] = ()
    """Registrations while the run goes on; they may lower a cap."""
    failing_sink: bool = False
    fatal: bool = False
    """A provider refuses everything from some time on, until a person acts."""
    adversities: dict[str, Adversity] = field(default_factory=dict)
    policy: TaskAdmissionConfig = field(default_factory=TaskAdmissionConfig)
    setting: Setting = field(default_factory=lambda: Setting([]))


class Requests:
    """The request side of one run: controller, executor, scripted providers, what tasks do."""

    def __init__(self, world: World, run: Run) -> None:
        loop = asyncio.get_running_loop()
        self._world = world
        self.admission = AdaptiveRequestAdmissionController(
            stream=run.stream, clock=run.clock, loop=loop, config=world.config
        )
        self._scripted = {
            name: ScriptedClient(script, run.clock) for name, script in world.scripts.items()
        }
        clients: dict[str, ModelClient] = dict(self._scripted)
        for name, adversity in world.adversities.items():
            clients[name] = AdverseClient(clients[name], adversity, run.clock)
        executor = ModelRequestExecutor(
            admission=self.admission,
            clients=clients,
            stream=run.stream,
            clock=run.clock,
            correlation=RuntimeCorrelationProvider(),
            queue_wait_timeout=world.queue_wait_timeout,
        )
        self._caller = ModelCaller(executor, max_refusals=8)
        probes = {
            endpoint.resource: ModelRequest(
                endpoint.resource, endpoint.alias, PROBE_PROMPT, timeout_seconds=60.0
            )
            for endpoint in world.endpoints
        }
        self.holds = ProviderWatch(self.admission, executor, probes, {})
        self._tries: dict[str, int] = {}
        for endpoint in world.endpoints:
            self.admission.register(endpoint.resource, endpoint.cap, endpoint.alias)
        for when, endpoint in world.later:
            loop.call_at(
                when, self.admission.register, endpoint.resource, endpoint.cap, endpoint.alias
            )

    def began(self, scheduler: AsyncTaskScheduler) -> None:
        self.admission.outages.on_held = scheduler.on_held

    async def stop(self) -> None:
        await self.holds.close()

    def keyframe(self, full: bool) -> dict[str, Any]:
        return self.admission.keyframe(full)

    async def execute(self, payload: TaskPayload) -> None:
        """Latency and fate depend on the seed, the task and its try, not on the order of tasks."""
        tries = self._tries[payload.task_id] = self._tries.get(payload.task_id, 0) + 1
        fate = random.Random(f"{self._world.seed} {payload.task_id} {tries}")
        if fate.random() < 0.5:
            await asyncio.sleep(fate.choice([0.0, 0.1, 0.25]))
        endpoints = self._world.uses.get(payload.column, ())
        calls = fate.choice([0, 1, 1, 1, 2, 3]) if endpoints else 0
        requests = [
            self._call(fate.choice(endpoints), f"{payload.task_id} {number}", fate.random())
            for number in range(calls)
        ]
        if fate.random() < 0.3:
            await _together(requests)
        else:
            for number, request in enumerate(requests):
                try:
                    await request
                except BaseException:
                    for left in requests[number + 1 :]:
                        left.close()
                    raise
        if fate.random() < self._world.trouble:
            if fate.random() < 0.7:
                raise RetryableTaskError("Hiccup", "again please", fate.choice([None, 0.0, 0.5]))
            raise fate.choice([ValueError, KeyError, asyncio.CancelledError])

    async def _call(self, endpoint: Endpoint, prompt: str, luck: float) -> None:
        patience = [0.0, 0.1, 0.25, 0.5][int(luck * 40) % 4]
        request = ModelRequest(
            endpoint.resource,
            endpoint.alias,
            prompt,
            timeout_seconds=self._world.request_timeout,
            within_seconds=patience if luck < 0.1 else None,
        )
        if luck > 0.2:
            await self._caller.call(request)
            return
        # The caller loses patience: its time is over, or it is cancelled wherever the call is.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if luck < 0.1 else patience):
                await self._caller.call(request)

    def close(self) -> None:
        self.admission.shutdown()
        keyframe = self.admission.keyframe(True)
        left = {
            "attempts": keyframe["attempts"],
            "in flight": [
                name for name, facts in keyframe["requests"].items() if facts["in_flight"]
            ],
            "waiters": [name for name, facts in keyframe["requests"].items() if facts["waiters"]],
            "aggregates": [
                name for name, facts in keyframe["aggregates"].items() if facts.get("in_flight")
            ],
            "refused releases": self.admission.release_diagnostics,
            "served": [n for n, c in self._scripted.items() if c._player.in_service],
        }
        some = {name: what for name, what in left.items() if what}
        if some:
            raise Broken("left_behind", str(some))


class FailingSink:
    """A listener that fails at every third batch."""

    def __init__(self) -> None:
        self.batches = 0

    def write_events(self, events: Sequence[Event]) -> None:
        self.batches += 1
        if self.batches % 3 == 0:
            raise OSError("no more room")


def random_world(seed: int) -> World:
    source = random.Random(seed)
    crowded = source.random() < 0.25
    scripts, endpoints = _providers(source, crowded)
    columns, uses = _columns(source, endpoints)
    world = World(
        seed,
        endpoints,
        scripts,
        _config(source),
        uses,
        trouble=source.choice([0.0, 0.0, 0.1, 0.4]),
        queue_wait_timeout=source.choice([None, None, 0.3, 2.0]),
        request_timeout=source.choice([0.5, 3.0]),
        stop=source.choice([*STOPS, *[None] * len(STOPS)]),
        failing_sink=source.random() < 0.1,
        policy=_policy(source),
    )
    if source.random() < 0.3:
        known = source.choice(endpoints)
        lower = Endpoint(known.resource, source.randint(1, known.cap), "late")
        world.later = [(source.choice([0.1, 0.5, 1.0]), lower)]
    world.setting = Setting(
        columns,
        records=source.randint(1, 14),
        buffer_size=12 if crowded else source.randint(1, 6),
        row_groups=source.randint(1, 3),
        slots=30 if crowded else source.choice([1, 2, 3, 4, 6, 30]),
        local={"x": source.randint(1, 3), "y": source.randint(1, 4)},
        retry=RetryPolicy(3, 0.5, 2.0),
        seed=seed,
        keyframe_seconds=source.choice([0.5, 1.0, 5.0]),
        keyframe_events=source.choice([40, 5000]),
        heartbeat_seconds=source.choice([1.0, 5.0]),
        adaptive_row_groups=source.random() < 0.3,
        requests=lambda run: Requests(world, run),
        policy_of=lambda run: build_policy(world.policy, pressure_of(run)),
        sinks=[FailingSink()] if world.failing_sink else [],
        horizon=HORIZON,
    )
    _stop(world, source)
    _outages(world, random.Random(f"outages {seed}"))
    limits = random.Random(f"limits {seed}")
    world.scripts = {name: random_limits(script, limits) for name, script in world.scripts.items()}
    _adversities(world, random.Random(f"adversities {seed}"))
    return world


def _adversities(world: World, source: random.Random) -> None:
    for name in world.scripts:
        if source.random() < 0.3:
            adversity = world.adversities[name] = random_adversity(source)
            if adversity.quota is not None and source.random() < 0.3:
                world.config = dataclasses.replace(world.config, quota_wait_seconds=0.1)
                world.fatal = True


def _outages(world: World, source: random.Random) -> None:
    """Long spans in which a provider answers nobody; some last until a person acts."""
    for name, script in world.scripts.items():
        if source.random() >= 0.25:
            continue
        start = source.choice([0.0, 0.5, 1.0])
        status = source.choice([500, 502, 503, 529, 529, 401, 402, 404])
        world.fatal |= status < 500
        flaps = source.choice([1, 1, 2, 3])
        windows = [
            ErrorWindow(
                start=start + 6 * n, end=start + 6 * n + source.choice([2, 4]), status=status
            )
            for n in range(flaps)
        ]
        if status < 500:
            windows = [ErrorWindow(start=start, status=status)]
        world.scripts[name] = script.model_copy(update={"errors": (*script.errors, *windows)})


def _providers(
    source: random.Random, crowded: bool
) -> tuple[dict[str, ProviderScript], list[Endpoint]]:
    """Crowded: many calls at once to one place, which answers some of them with 429."""
    scripts: dict[str, ProviderScript] = {}
    endpoints: list[Endpoint] = []
    domains: list[RequestDomain] = ["chat", "embedding", "healthcheck"]
    for name in ("alpha", "beta", "gamma")[: 1 if crowded else source.randint(1, 3)]:
        mean = source.choice([0.1, 0.25, 0.5])
        constant = source.random() < 0.6
        scripts[name] = ProviderScript(
            seed=source.randrange(1000),
            latency=Latency(
                distribution="constant" if constant else "uniform",
                mean=mean,
                spread=0.0 if constant else mean / 2,
            ),
            capacity=source.choice([None, None, 1, 2]),
            capacity_retry_after=source.choice([None, 0.2]),
            rejection_seconds=source.choice([0.1, 0.25] if crowded else [0.0, 0.02, 0.1]),
            rate_limits=_storms(source, crowded),
            error_rate=source.choice([0.0, 0.0, 0.2]),
            errors=(
                (ErrorWindow(start=0.2, end=0.6, status=source.choice([400, 500, 503])),)
                if source.random() < 0.2
                else ()
            ),
            timeouts=(FailureWindow(start=0.3, end=0.8, rate=0.5),)
            if source.random() < 0.2
            else (),
        )
        for model in ("m", "n")[: 1 if crowded else source.randint(1, 2)]:
            for domain in domains[: 1 if crowded else source.choice([1, 1, 2, 3])]:
                resource = RequestResourceKey(name, model, domain)
                cap = source.randint(4, 9) if crowded else source.randint(1, 4)
                endpoints.append(Endpoint(resource, cap, f"{model}-{domain}"))
    return scripts, endpoints


def _storms(source: random.Random, crowded: bool) -> tuple[RateLimitWindow, ...]:
    """Each with delays of its own; also two in a row, of which the later asks for less."""
    windows = []
    for at in (0.0, 0.5, 3.0):
        if source.random() < (0.8 if crowded else 0.35):
            end = at + source.choice([0.1, 0.2] if crowded else [0.1, 0.2, 1.0])
            allow = source.choice([0, 0, 1])
            requested = source.choice([None, 0.1, 0.5, 2.0])
            windows.append(RateLimitWindow(start=at, end=end, retry_after=requested, allow=allow))
            if source.random() < (0.8 if crowded else 0.4):
                after = source.choice([None, 0.1])
                windows.append(RateLimitWindow(start=end, end=end + 0.5, retry_after=after))
    return tuple(windows)


def _columns(
    source: random.Random, endpoints: Sequence[Endpoint]
) -> tuple[list[ColumnPlan], dict[str, tuple[Endpoint, ...]]]:
    columns: list[ColumnPlan] = []
    uses: dict[str, tuple[Endpoint, ...]] = {}
    alike = source.random() < 0.4
    for number in range(source.randint(1, 5)):
        name = f"c{number}"
        above = [column.name for column in columns]
        needs = {} if alike else {name: 1 for name in ("x", "y") if source.random() < 0.2}
        some = tuple(source.sample(list(endpoints), source.randint(0, min(2, len(endpoints)))))
        uses[name] = some
        columns.append(
            column(
                name,
                tuple(source.sample(above, min(len(above), source.choice([0, 1, 1, 2])))),
                source.choice(["cell", "cell", "cell", "batch"]),
                weight=source.choice([0.5, 1.0, 1.0, 3.0]),
                needs=needs,
                limit=None if alike else source.choice([None, None, None, 1, 2]),
                request_resource=some[0].resource if some else None,
            )
        )
    return columns, uses


def _config(source: random.Random) -> RequestAdmissionConfig:
    return RequestAdmissionConfig(
        decrease_factor=source.choice([0.75, 0.5]),
        increase_step=source.choice([1, 1, 2]),
        successes_until_increase=source.choice([1, 2, 5]),
        cooldown_seconds=source.choice([0.2, 1.0, 2.0]),
        startup_ramp_seconds=source.choice([0.0, 0.0, 1.0]),
        initial_limit=source.choice([None, None, 1, 2]),
        recovery=source.choice(["adaptive", "published"]),
    )


def _policy(source: random.Random) -> TaskAdmissionConfig:
    borrow = BoundedBorrowTaskAdmissionPolicyConfig(
        strict_share_rounding=source.choice(["ceil", "floor"]),
        default_borrow_ceiling=source.choice([None, None, 0, 1, 2]),
        repay_when_withheld=source.random() < 0.5,
    )
    return TaskAdmissionConfig(
        shares=source.choice(["strict_fair", "bounded_borrow"]),
        provider_aware=source.random() < 0.5,
        bounded_borrow=borrow,
        pressed_waiters=source.choice([1, 2]),
    )


def pressure_of(run: Run) -> RequestPressureSnapshotProvider:
    assert isinstance(run.requests, Requests)
    return run.requests.admission.pressure


def _stop(world: World, source: random.Random) -> None:
    setting, when = world.setting, source.choice([0.0, 0.1, 0.25, 0.5, 1.0, source.random() * 4])
    stops: dict[str, Callable[[Run], object]] = {
        "drain": lambda run: run.scheduler.drain(),
        "abort": lambda run: run.scheduler.abort(),
        "cancel": lambda run: run.task.cancel(),
        "twice": lambda run: run.scheduler.drain(),
    }
    if world.stop == "disk":
        setting.checkpoint = _full_disk(source.randint(0, 2))
    elif world.stop == "spawn":
        setting.spawn_fails_at = source.randint(0, 20)
    elif world.stop is not None:
        setting.at = {when: stops[world.stop]}
        if world.stop == "twice":
            setting.at[when + 0.1] = stops["abort"]


def _full_disk(row_group_written: int) -> Callable[[int, frozenset[int]], Awaitable[None]]:
    async def checkpoint(row_group: int, dropped: frozenset[int]) -> None:
        await asyncio.sleep(0.1)
        if row_group == row_group_written:
            raise OSError(28, "No space left on device")

    return checkpoint


async def _together(requests: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first error cancels the others and is what the task fails with.

    No `TaskGroup`: it cancels in the order of a set, which no seed decides.
    """
    if not requests:
        return
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
