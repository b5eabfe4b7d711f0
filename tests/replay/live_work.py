"""The work of the tests' own small engine while it lives, and its ledger: the truth of a fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.events import ColumnInfo, RequestResource, RunInfo, RuntimeCorrelation
from tests.event_writer import EventWriter

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


class LiveWork(EventWriter):
    """What lives in a run, and the events about it."""

    def __init__(self, row_groups: int) -> None:
        super().__init__(T0)
        self.row_groups = row_groups
        self.work: dict[str, Work] = {}
        self.calls: dict[str, Call] = {}
        self.in_flight_groups: list[int] = []
        self.admitted = self.checkpointed = self.rows_done = self.rows_dropped = 0
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

    def scheduler(
        self,
        kind: str,
        work: Work | None = None,
        result: str | None = None,
        snapshot: dict[str, Any] | None = None,
        **diagnostics: Any,
    ) -> None:
        self.write_scheduler(
            kind,
            None if work is None else self.correlation(work),
            diagnostics,
            task_id=None if work is None else work.task_id,
            execution_id=None if work is None else work.facts.get("execution_id"),
            lease_id=None if work is None else work.facts.get("lease_id"),
            reason=result,
            snapshot=snapshot,
        )

    def request(
        self,
        kind: str,
        resource: RequestResource,
        call: str | None = None,
        outcome: str | None = None,
        **diagnostics: Any,
    ) -> None:
        self.write_request(
            kind,
            resource,
            None if call is None else self.correlation(self.calls[call].work),
            diagnostics,
            attempt_id=call,
            lease_id=None if call is None else self.calls[call].facts.get("lease_id"),
            outcome=outcome,
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
