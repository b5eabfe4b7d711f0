"""A small engine of the tests' own that writes well-formed streams and keeps its own ledger."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from engine.events import ColumnInfo, Event, RunInfo
from tests.replay.live_work import (
    COLUMNS,
    LIMITS,
    RESOURCES,
    ROWS_PER_GROUP,
    Call,
    LiveWork,
    Work,
    count_amounts,
)

Play = Callable[..., tuple[RunInfo, list[Event]]]
"""The fixture `play(seed, row_groups=2, steps=None) -> (run, events)`."""


class RandomEngine(LiveWork):
    """Walks at random through what an engine may do; `events` is the stream of it."""

    def __init__(self, seed: int, row_groups: int = 2) -> None:
        super().__init__(row_groups)
        self.random = random.Random(seed)
        self.cells_left: dict[int, int] = {}
        self.dropped: dict[int, int] = {}

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
        actions: list[Callable[[], None]] = []
        if self.admitted < self.row_groups and len(self.in_flight_groups) < 2:
            actions.append(self.admit_row_group)
        called = {call.work.task_id for call in self.calls.values()}
        for work in self.work.values():
            if work.phase == "ready":
                actions.append(lambda work=work: self.enqueue(work))  # type: ignore[misc]
            elif work.phase == "queued":
                act = self.dispatch if self.fits(work) else self.blocked
                actions.append(lambda work=work, act=act: act(work))  # type: ignore[misc]
            elif work.phase == "deferred":
                attempt = work.facts["attempt"] + 1
                actions.append(lambda work=work, n=attempt: self.ready(work, n))  # type: ignore[misc]
            elif work.phase == "running" and work.task_id not in called:
                run = self.finish if work.column.request_resource is None else self.call
                actions.append(lambda work=work, run=run: run(work))  # type: ignore[misc]
        waiting: set[str] = set()
        for call_id, call in self.calls.items():
            label = call.resource.label
            if call.phase == "leased":
                actions.append(lambda item=call_id: self.send(item))  # type: ignore[misc]
            elif call.phase == "in_provider":
                actions.append(lambda item=call_id: self.answer(item))  # type: ignore[misc]
            elif label not in waiting:
                waiting.add(label)
                if self.pressure(label)["in_flight"] < self.requests[label]["limit"]:
                    actions.append(lambda item=call_id: self.admit(item))  # type: ignore[misc]
        return actions

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
