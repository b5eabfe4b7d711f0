"""A small engine of the tests' own that writes well-formed streams and keeps its own ledger."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.events import (
    ColumnInfo,
    Event,
    RequestEvent,
    RequestResource,
    RunInfo,
    RuntimeCorrelation,
    SchedulerEvent,
)

T0 = 1000.0
ROWS_PER_GROUP = 3
ALPHA = RequestResource("alpha", "gen", "chat")
BETA = RequestResource("beta", "judge", "chat")
COLUMNS = (
    ColumnInfo(
        "topic", "sampler", "batch", (), "local/topic", "local", "h0", 1.0, {"submission": 1}
    ),
    ColumnInfo(
        "question",
        "llm_text",
        "cell",
        ("topic",),
        "model/alpha/question",
        "model",
        "h1",
        4.0,
        {"submission": 1, "model_stage:alpha/gen": 1},
        ALPHA.label,
    ),
    ColumnInfo(
        "verdict",
        "llm_text",
        "cell",
        ("question",),
        "model/beta/verdict",
        "model",
        "h2",
        2.0,
        {"submission": 1, "model_stage:beta/judge": 1},
        BETA.label,
    ),
)
LIMITS = {"submission": 5, "model_stage:alpha/gen": 3, "model_stage:beta/judge": 2}
RESOURCES = {ALPHA.label: ALPHA, BETA.label: BETA}


@dataclass
class Work:
    column: ColumnInfo
    row_group: int
    row: int | None
    phase: str = "ready"
    since: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    attempts_left: int = 1

    @property
    def task_id(self) -> str:
        at = f"rg{self.row_group}" if self.row is None else str(self.row)
        return f"{self.column.name}/{at}"


@dataclass
class Call:
    work: Work
    resource: RequestResource
    phase: str
    since: float
    facts: dict[str, Any]


class Engine:
    """Walks at random through what an engine may do; `events` is the stream of it."""

    def __init__(self, seed: int, row_groups: int = 2) -> None:
        self.random = random.Random(seed)
        self.now = T0
        self.row_groups = row_groups
        self.events: list[Event] = []
        self.sequences = {"scheduler": 0, "request": 0}
        self.ids = {"t": 0, "e": 0, "a": 0, "r": 0}
        self.work: dict[str, Work] = {}
        self.calls: dict[str, Call] = {}
        self.in_flight_groups: list[int] = []
        self.cells_left: dict[int, int] = {}
        self.admitted = self.checkpointed = self.rows_done = self.rows_dropped = 0
        self.dropped: dict[int, int] = {}
        self.completed: dict[str, int] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.run = RunInfo(
            "run-1",
            "test",
            monotonic_start=T0,
            wall_start=1_700_000_000.0,
            records=row_groups * ROWS_PER_GROUP,
            row_groups=row_groups,
            columns=COLUMNS,
            resource_limits=LIMITS,
        )

    def new_id(self, letter: str) -> str:
        self.ids[letter] += 1
        return f"{letter}{self.ids[letter]}"

    def scheduler(
        self,
        kind: str,
        work: Work | None = None,
        result: str | None = None,
        snapshot: dict[str, Any] | None = None,
        **diagnostics: Any,
    ) -> None:
        self.sequences["scheduler"] += 1
        self.events.append(
            SchedulerEvent(
                kind,
                self.now,
                self.sequences["scheduler"],
                None if work is None else self.correlation(work),
                None if work is None else work.task_id,
                None if work is None else work.facts.get("execution_id"),
                None if work is None else work.facts.get("lease_id"),
                None,
                result,
                snapshot,
                diagnostics,
            )
        )

    def request(
        self,
        kind: str,
        resource: RequestResource,
        call: str | None = None,
        outcome: str | None = None,
        **diagnostics: Any,
    ) -> None:
        self.sequences["request"] += 1
        work = None if call is None else self.calls[call].work
        self.events.append(
            RequestEvent(
                kind,
                self.now,
                self.sequences["request"],
                None if work is None else self.correlation(work),
                call,
                None if call is None else self.calls[call].facts.get("lease_id"),
                resource,
                None,
                outcome,
                None,
                diagnostics,
            )
        )

    def correlation(self, work: Work) -> RuntimeCorrelation:
        return RuntimeCorrelation(
            "run-1",
            work.row_group,
            work.column.name,
            work.column.task_type,
            work.column.group_kind,
            work.column.group_hash,
            work.facts.get("execution_id"),
        )

    # The ledger, counted anew from what lives: nothing of it is kept by increments.

    def ledger(self, full: bool) -> dict[str, Any]:
        queued = [w for w in self.work.values() if w.phase in ("queued", "selected")]
        held = [w for w in self.work.values() if "lease_id" in w.facts]
        running = [w for w in held if "execution_id" in w.facts]
        leased = count_amounts(held)
        facts: dict[str, Any] = {
            "queued_total": len(queued),
            "queued_by_group": count_groups(queued),
            "demand_by_resource": count_amounts(queued),
            "limits": LIMITS,
            "available": {
                name: free for name, n in LIMITS.items() if (free := n - leased.get(name, 0))
            },
            "leased": leased,
            "leased_by_group": count_groups(held),
            "running_by_group": count_groups(running),
            "debt_by_group": {},
            "active_leases": len(held),
            "ready": sum(w.phase == "ready" for w in self.work.values()),
            "deferred": sum(w.phase == "deferred" for w in self.work.values()),
            "row_groups": present(
                in_flight=sorted(self.in_flight_groups),
                target=2,
                checkpointed=self.checkpointed,
                admitted=self.admitted,
            ),
            "progress": {
                "rows_done": self.rows_done,
                "rows_dropped": self.rows_dropped,
                "completed_by_column": dict(self.completed),
            },
            "release_diagnostics": {},
            "requests": {
                label: {**facts, **self.pressure(label)} for label, facts in self.requests.items()
            },
            "aggregates": {
                RESOURCES[label].label.rpartition("/")[0]: present(
                    static_cap=4,
                    in_flight=self.pressure(label)["in_flight"],
                    aliases=["an-alias"],
                )
                for label in self.requests
            },
        }
        if full:
            facts["tasks"] = [
                {
                    "task_id": w.task_id,
                    "column": w.column.name,
                    "group": w.column.group,
                    "row_group": w.row_group,
                    "task_type": w.column.task_type,
                    "phase": w.phase,
                    "since": w.since,
                    **({} if w.row is None else {"row": w.row}),
                    **w.facts,
                }
                for _, w in sorted(self.work.items())
            ]
            facts["attempts"] = [
                {
                    "attempt_id": call_id,
                    "resource": call.resource.label,
                    "execution_id": call.work.facts["execution_id"],
                    "column": call.work.column.name,
                    "phase": call.phase,
                    "since": call.since,
                    **call.facts,
                }
                for call_id, call in sorted(self.calls.items())
            ]
        return facts

    def pressure(self, label: str) -> dict[str, Any]:
        calls = [call for call in self.calls.values() if call.resource.label == label]
        waiters = sum(call.phase == "waiting" for call in calls)
        facts: dict[str, Any] = {"in_flight": len(calls) - waiters, "waiters": waiters}
        if waiters:
            facts["wait_reason"] = "domain_limit"
        return facts

    def snapshot(self, reason: str) -> None:
        full = reason in ("start", "segment", "end")
        self.scheduler("scheduler_health_snapshot", snapshot=self.ledger(full), reason=reason)

    # What may happen.

    def start(self) -> None:
        self.scheduler(
            "scheduler_job_started",
            records=self.run.records,
            row_groups=self.row_groups,
            limits=LIMITS,
        )
        self.snapshot("start")
        for label, resource in RESOURCES.items():
            self.requests[label] = {
                "static_cap": 4,
                "effective_max": 4,
                "limit": 4,
                "consecutive_rate_limits": 0,
            }
            self.request(
                "request_resource_registered",
                resource,
                static_cap=4,
                effective_max=4,
                limit=4,
                aliases=["an-alias"],
                raw_caps={"an-alias": 4},
            )

    def admit_row_group(self) -> None:
        row_group = self.admitted
        self.admitted += 1
        self.in_flight_groups.append(row_group)
        self.cells_left[row_group] = 1 + 2 * ROWS_PER_GROUP
        self.dropped[row_group] = 0
        self.scheduler(
            "row_group_admitted",
            row_group=row_group,
            rows=ROWS_PER_GROUP,
            in_flight=len(self.in_flight_groups),
            target=2,
        )
        self.become_ready(COLUMNS[0], row_group, None)

    def become_ready(self, column: ColumnInfo, row_group: int, row: int | None) -> None:
        work = Work(column, row_group, row, attempts_left=self.random.randint(0, 2))
        self.work[work.task_id] = work
        self.ready(work, 1)

    def ready(self, work: Work, attempt: int) -> None:
        work.phase = "ready"
        work.since = self.now
        work.facts = {"ready_at": self.now, "attempt": attempt}
        del self.work[work.task_id]
        self.work[work.task_id] = work
        extra: dict[str, Any] = {} if work.row is None else {"row": work.row}
        self.scheduler("dependency_ready", work, group=work.column.group, attempt=attempt, **extra)

    def enqueue(self, work: Work) -> None:
        work.phase = "queued"
        work.since = self.now
        work.facts["enqueued_at"] = self.now
        work.facts["resources"] = work.column.resources
        extra: dict[str, Any] = {} if work.row is None else {"row": work.row}
        if work.column.request_resource is not None:
            work.facts["request_resource"] = work.column.request_resource
            extra["request_resource"] = work.column.request_resource
        self.scheduler(
            "ready_enqueued",
            work,
            group=work.column.group,
            weight=work.column.group_weight,
            resources=work.column.resources,
            attempt=work.facts["attempt"],
            **extra,
        )

    def fits(self, work: Work) -> bool:
        leased = count_amounts([w for w in self.work.values() if "lease_id" in w.facts])
        return all(
            leased.get(name, 0) + amount <= LIMITS[name]
            for name, amount in work.column.resources.items()
        )

    def dispatch(self, work: Work) -> None:
        self.scheduler("selected", work)
        work.facts["lease_id"] = self.new_id("t")
        work.facts["acquired_at"] = self.now
        self.scheduler("task_lease_acquired", work, resources=work.column.resources)
        work.facts["execution_id"] = self.new_id("e")
        work.facts["spawned_at"] = self.now
        work.phase = "running"
        work.since = self.now
        self.scheduler("worker_spawned", work)

    def blocked(self, work: Work) -> None:
        self.scheduler(
            "admission_blocked",
            result="no_capacity",
            queued_count=1,
            reasons={"no_capacity": 1},
            groups={work.column.group: "no_capacity"},
            resources={
                "submission": {
                    "needed": 1,
                    "limit": 5,
                    "free": 0,
                    "holders": [{"group": "local/topic", "leases": 5, "oldest_age": 0.5}],
                }
            },
        )

    def call(self, work: Work) -> None:
        resource = RESOURCES[work.column.request_resource or ""]
        pressure = self.pressure(resource.label)
        limit = self.requests[resource.label]["limit"]
        waits = pressure["in_flight"] >= limit or pressure["waiters"] > 0
        call_id = self.new_id("a")
        call = Call(work, resource, "waiting", self.now, {"wait_started_at": self.now})
        self.calls[call_id] = call
        if waits and pressure["waiters"] == 0:
            self.request("request_queue_formed", resource)
        self.request(
            "request_wait_started",
            resource,
            call_id,
            reason="domain_limit" if waits else "none",
            waiters=pressure["waiters"],
            in_flight=pressure["in_flight"],
            limit=limit,
        )
        if not waits:
            self.admit(call_id)

    def admit(self, call_id: str) -> None:
        call = self.calls[call_id]
        call.phase = "leased"
        waited = self.now - call.since
        call.since = call.facts["acquired_at"] = self.now
        call.facts["lease_id"] = self.new_id("r")
        self.request("request_wait_completed", call.resource, call_id, waited_seconds=waited)
        self.request("request_lease_acquired", call.resource, call_id)

    def send(self, call_id: str) -> None:
        call = self.calls[call_id]
        call.phase = "in_provider"
        call.since = call.facts["started_at"] = self.now
        self.request("model_request_started", call.resource, call_id)

    def answer(self, call_id: str) -> None:
        call = self.calls[call_id]
        facts = self.requests[call.resource.label]
        outcome = self.random.choice(["success", "success", "rate_limited", "provider_failure"])
        self.request(
            "model_request_completed",
            call.resource,
            call_id,
            outcome,
            duration_seconds=self.now - call.since,
            prompt_tokens=10,
            completion_tokens=5,
        )
        if outcome == "rate_limited":
            facts["consecutive_rate_limits"] += 1
            facts["blocked_until"] = self.now + 0.5
            self.request(
                "request_rate_limited",
                call.resource,
                call_id,
                blocked_until=self.now + 0.5,
                cut=True,
            )
            previous = facts["limit"]
            facts["limit"] = max(1, previous - 1)
            facts["soft_ceiling"] = previous
            self.request(
                "request_limit_decreased",
                call.resource,
                None,
                "rate_limited",
                previous=previous,
                current=facts["limit"],
                soft_ceiling=previous,
                blocked_until=self.now + 0.5,
            )
        elif outcome == "success":
            facts["consecutive_rate_limits"] = 0
            if facts["limit"] < 4 and self.random.random() < 0.5:
                facts["limit"] += 1
                self.request(
                    "request_limit_increased",
                    call.resource,
                    None,
                    "successes",
                    previous=facts["limit"] - 1,
                    current=facts["limit"],
                    successes=1,
                )
                if "soft_ceiling" in facts and facts["limit"] > facts["soft_ceiling"] - 1:
                    del facts["soft_ceiling"]
                    self.request(
                        "request_soft_ceiling_recovered", call.resource, current=facts["limit"]
                    )
        facts["last_outcome"] = outcome
        self.request("request_lease_released", call.resource, call_id, outcome, held_seconds=0.1)
        del self.calls[call_id]
        if outcome == "success":
            self.finish(call.work)
        elif call.work.attempts_left > 0:
            call.work.attempts_left -= 1
            self.defer(call.work)
        else:
            self.finish(call.work, dropped=True)

    def defer(self, work: Work) -> None:
        work.phase = "deferred"
        work.since = self.now
        self.scheduler(
            "retry_deferred",
            work,
            "ProviderError",
            attempt=work.facts["attempt"],
            delay_seconds=0.3,
            retry_at=self.now + 0.3,
        )
        self.scheduler("task_lease_released", work, "released")
        work.facts["retry_at"] = self.now + 0.3
        for name in ("lease_id", "acquired_at", "execution_id", "spawned_at"):
            del work.facts[name]

    def finish(self, work: Work, dropped: bool = False) -> None:
        column, row_group = work.column, work.row_group
        if dropped:
            self.scheduler("non_retryable_dropped", work, "BadRequest", attempt=1)
            self.dropped[row_group] += 1
        else:
            self.completed[column.name] = self.completed.get(column.name, 0) + 1
            self.scheduler("task_completed", work)
        self.scheduler("task_lease_released", work, "released")
        del self.work[work.task_id]
        self.cells_left[row_group] -= 1
        if column is COLUMNS[0]:
            for row in range(ROWS_PER_GROUP):
                self.become_ready(COLUMNS[1], row_group, row_group * ROWS_PER_GROUP + row)
        elif column is COLUMNS[1]:
            if dropped:
                self.cells_left[row_group] -= 1
            else:
                self.become_ready(COLUMNS[2], row_group, work.row)
        if self.cells_left[row_group] == 0:
            self.checkpoint(row_group)

    def checkpoint(self, row_group: int) -> None:
        self.scheduler("row_group_checkpoint_started", row_group=row_group)
        lost = self.dropped[row_group]
        self.in_flight_groups.remove(row_group)
        self.checkpointed += 1
        self.rows_done += ROWS_PER_GROUP - lost
        self.rows_dropped += lost
        self.scheduler(
            "row_group_checkpointed",
            row_group=row_group,
            rows=ROWS_PER_GROUP,
            surviving_rows=ROWS_PER_GROUP - lost,
            dropped_rows=lost,
        )

    def moves(self) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = []
        if self.admitted < self.row_groups and len(self.in_flight_groups) < 2:
            found.append(self.admit_row_group)
        called = {call.work.task_id for call in self.calls.values()}
        for work in self.work.values():
            if work.phase == "ready":
                found.append(lambda work=work: self.enqueue(work))  # type: ignore[misc]
            elif work.phase == "queued":
                act = self.dispatch if self.fits(work) else self.blocked
                found.append(lambda work=work, act=act: act(work))  # type: ignore[misc]
            elif work.phase == "deferred":
                attempt = work.facts["attempt"] + 1
                found.append(lambda work=work, n=attempt: self.ready(work, n))  # type: ignore[misc]
            elif work.phase == "running" and work.task_id not in called:
                run = self.finish if work.column.request_resource is None else self.call
                found.append(lambda work=work, run=run: run(work))  # type: ignore[misc]
        waiting: set[str] = set()
        for call_id, call in self.calls.items():
            label = call.resource.label
            if call.phase == "leased":
                found.append(lambda one=call_id: self.send(one))  # type: ignore[misc]
            elif call.phase == "in_provider":
                found.append(lambda one=call_id: self.answer(one))  # type: ignore[misc]
            elif label not in waiting:
                waiting.add(label)
                if self.pressure(label)["in_flight"] < self.requests[label]["limit"]:
                    found.append(lambda one=call_id: self.admit(one))  # type: ignore[misc]
        return found

    def play(self, steps: int | None = None) -> list[Event]:
        """Until nothing is left to do, or at most so many moves."""
        self.start()
        done = 0
        while (moves := self.moves()) and (steps is None or done < steps):
            done += 1
            self.now += self.random.choice([0.0, 0.01, 0.07, 0.3])
            chance = self.random.random()
            if chance < 0.1:
                self.snapshot("periodic")
            elif chance < 0.13:
                self.snapshot("segment")
            elif chance < 0.16:
                self.scheduler("scheduler_loop_heartbeat", period=0.5, drift=0.01)
            self.random.choice(moves)()
        if steps is None or not moves:
            self.snapshot("end")
            self.scheduler("scheduler_job_completed", result="success")
        return self.events


def present(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}


def count_groups(works: list[Work]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for work in works:
        counted[work.column.group] = counted.get(work.column.group, 0) + 1
    return counted


def count_amounts(works: list[Work]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for work in works:
        for name, amount in work.column.resources.items():
            counted[name] = counted.get(name, 0) + amount
    return counted


Play = Callable[..., tuple[RunInfo, list[Event]]]


@pytest.fixture(scope="session")
def play() -> Play:
    """`play(seed, row_groups=2, steps=None) -> (run, events)`."""

    def play(seed: int, row_groups: int = 2, steps: int | None = None) -> Any:
        engine = Engine(seed, row_groups)
        return engine.run, engine.play(steps)

    return play
