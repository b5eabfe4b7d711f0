"""Writes well-formed streams step by step, and folds them: the truth is known by construction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from engine.events import (
    ColumnInfo,
    RequestResource,
    RunInfo,
    RuntimeCorrelation,
)
from replay.diagnosis.diagnosis import Diagnosis
from replay.diagnosis.verdicts import VerdictRow, encode_facts
from replay.state.model import State
from replay.state.reducer import begin, reduce
from replay.state.rows import BlameRow
from tests.event_writer import EventWriter

ALPHA = RequestResource("alpha", "gen", "chat")
BETA = RequestResource("beta", "judge", "chat")
BETA_EMBED = RequestResource("beta", "judge", "embedding")
SUBMISSION = {"submission": 1}

TOLERANCE = 0.02
"""Of shares."""


def model_column(
    name: str, resource: RequestResource, weight: float = 1.0, depends_on: tuple[str, ...] = ()
) -> ColumnInfo:
    model = f"{resource.provider_name}/{resource.model_id}"
    return ColumnInfo(
        name,
        "llm_text",
        "cell",
        depends_on,
        f"model/{model}/{resource.domain}/{name}",
        "model",
        f"hash-{name}",
        weight,
        {"submission": 1, f"model_stage:{model}": 1},
        resource.label,
    )


QUESTION = model_column("question", ALPHA)
VERDICT = model_column("verdict", BETA, depends_on=("question",))
VECTOR = model_column("vector", BETA_EMBED)
TOPIC = ColumnInfo(
    "topic", "sampler", "batch", (), "local/default/topic", "local", "h", 1.0, SUBMISSION
)
LIMITS = {"submission": 64, "model_stage:alpha/gen": 64, "model_stage:beta/judge": 64}


@dataclass
class Work:
    """A task of the stream under construction."""

    column: ColumnInfo
    row: int
    lease: str = ""
    execution: str = ""
    attempt: str = ""
    request_lease: str = ""
    tries: int = 1

    @property
    def task_id(self) -> str:
        return f"{self.column.name}/{self.row}"


@dataclass
class Result:
    run: RunInfo
    state: State
    rows: list[BlameRow]
    verdicts: list[VerdictRow]

    def seconds(self, scope: str, verdict: str, **where: Any) -> float:
        return sum(
            row.seconds
            for row in self.rows
            if row.scope == scope
            and row.verdict == verdict
            and all(getattr(row, name) == value for name, value in where.items())
        )

    def share(self, scope: str, verdict: str, **where: Any) -> float:
        total = sum(row.seconds for row in self.rows if row.scope == scope)
        return self.seconds(scope, verdict, **where) / total

    def named(self, verdict: str) -> list[VerdictRow]:
        return [row for row in self.verdicts if row.verdict == verdict]

    def only(self, verdict: str) -> VerdictRow:
        (row,) = self.named(verdict)
        return row


def facts_of(row: VerdictRow) -> dict[str, Any]:
    """The facts of a verdict as a recording keeps them."""
    facts: dict[str, Any] = json.loads(encode_facts(row))
    return facts


class Stream(EventWriter):
    def __init__(
        self,
        columns: tuple[ColumnInfo, ...] = (QUESTION, VERDICT),
        limits: dict[str, int] | None = None,
        start: float = 100.0,
        **run: Any,
    ) -> None:
        super().__init__(start)
        self.limits = LIMITS if limits is None else limits
        self.run = RunInfo(
            "run-1",
            "constructed",
            monotonic_start=start,
            columns=columns,
            resource_limits=self.limits,
            **run,
        )
        self.scheduler("scheduler_job_started", limits=self.limits)

    def at(self, seconds: float) -> Stream:
        """Move to run time `seconds`."""
        now = self.run.monotonic_start + seconds
        assert now >= self.now
        self.now = now
        return self

    def scheduler(
        self, kind: str, work: Work | None = None, reason: str | None = None, **facts: Any
    ) -> None:
        snapshot = facts.pop("snapshot", None)
        self.write_scheduler(
            kind,
            self._correlation(work),
            facts,
            task_id=work.task_id if work else None,
            execution_id=(work.execution or None) if work else None,
            lease_id=(work.lease or None) if work else None,
            reason=reason,
            snapshot=snapshot,
        )

    def request(
        self,
        kind: str,
        resource: RequestResource,
        work: Work | None = None,
        outcome: str | None = None,
        **facts: Any,
    ) -> None:
        self.write_request(
            kind,
            resource,
            self._correlation(work),
            facts,
            attempt_id=work.attempt if work else None,
            lease_id=(work.request_lease or None) if work else None,
            outcome=outcome,
        )

    def register(self, resource: RequestResource, cap: int, limit: int | None = None) -> None:
        self.request(
            "request_resource_registered",
            resource,
            static_cap=cap,
            effective_max=cap,
            limit=cap if limit is None else limit,
        )

    def ready(self, column: ColumnInfo, row: int) -> Work:
        work = Work(column, row)
        self.scheduler("dependency_ready", work, group=column.group, row=row, attempt=1)
        return work

    def enqueue(self, work: Work) -> Work:
        column = work.column
        extra: dict[str, Any] = {}
        if column.request_resource is not None:
            extra["request_resource"] = column.request_resource
        self.scheduler(
            "ready_enqueued",
            work,
            group=column.group,
            weight=column.group_weight,
            resources=column.resources,
            row=work.row,
            attempt=work.tries,
            **extra,
        )
        return work

    def queue(self, column: ColumnInfo, row: int) -> Work:
        return self.enqueue(self.ready(column, row))

    def run_task(self, work: Work, **lease: Any) -> Work:
        self.scheduler("selected", work)
        work.lease = self.new_id("t")
        self.scheduler("task_lease_acquired", work, resources=work.column.resources, **lease)
        work.execution = self.new_id("e")
        self.scheduler("worker_spawned", work)
        return work

    def begin(self, column: ColumnInfo, row: int) -> Work:
        return self.run_task(self.queue(column, row))

    def wait(self, work: Work, reason: str = "none") -> Work:
        work.attempt = self.new_id("a")
        self.request("request_wait_started", self._resource(work), work, reason=reason)
        return work

    def send(self, work: Work) -> Work:
        resource = self._resource(work)
        self.request("request_wait_completed", resource, work)
        work.request_lease = self.new_id("r")
        self.request("request_lease_acquired", resource, work)
        self.request("model_request_started", resource, work)
        return work

    def call(self, work: Work) -> Work:
        return self.send(self.wait(work))

    def answer(self, work: Work, outcome: str = "success", **limited: Any) -> Work:
        """The call returns; `limited` are the facts of a 429, with `limit` (previous, current)."""
        resource = self._resource(work)
        self.request("model_request_completed", resource, work, outcome)
        if outcome == "rate_limited":
            cut = limited.pop("limit", None)
            self.request("request_rate_limited", resource, work, cut=cut is not None, **limited)
            if cut is not None:
                self.request(
                    "request_limit_decreased",
                    resource,
                    work,
                    "rate_limited",
                    previous=cut[0],
                    current=cut[1],
                    soft_ceiling=cut[0],
                    **limited,
                )
        self.request("request_lease_released", resource, work, outcome)
        work.attempt = work.request_lease = ""
        return work

    def finish(
        self,
        work: Work,
        kind: str = "task_completed",
        reason: str | None = None,
        **facts: Any,
    ) -> None:
        self.scheduler(kind, work, reason, **facts)
        self.release(work)

    def defer(self, work: Work, error: str, delay: float) -> None:
        self.scheduler(
            "retry_deferred",
            work,
            error,
            attempt=work.tries,
            delay_seconds=delay,
            retry_at=self.now + delay,
        )
        self.release(work)

    def again(self, work: Work) -> Work:
        """A deferred task becomes ready once more and is queued."""
        work.tries += 1
        self.scheduler(
            "dependency_ready",
            work,
            group=work.column.group,
            row=work.row,
            attempt=work.tries,
        )
        return self.enqueue(work)

    def release(self, work: Work) -> None:
        self.scheduler("task_lease_released", work, "released")
        work.lease = work.execution = ""

    def complete(self, work: Work) -> None:
        self.answer(work)
        self.finish(work)

    def end(self) -> Result:
        self.scheduler("scheduler_job_completed", reason="success")
        return self.fold()

    def fold(self, until: float | None = None) -> Result:
        """Fold what was written. Without an end of the run, it breaks off at `until`."""
        state = begin(self.run)
        diagnosis = Diagnosis(self.run)
        for ordinal, event in enumerate(self.events, 1):
            diagnosis.before(state, event, ordinal)
            reduce(state, event, ordinal, self.run)
            diagnosis.after(state, event, ordinal)
        time = state.time if until is None else self.run.monotonic_start + until
        rows, verdicts = diagnosis.finish(state, time)
        return Result(self.run, state, rows, verdicts)

    def kind_of(self, ordinal: int) -> str:
        return self.events[ordinal - 1].event_kind

    def _resource(self, work: Work) -> RequestResource:
        provider, model, domain = str(work.column.request_resource).split("/")
        return RequestResource(provider, model, domain)

    def _correlation(self, work: Work | None) -> RuntimeCorrelation | None:
        if work is None:
            return None
        column = work.column
        return RuntimeCorrelation(
            "run-1",
            work.row // 10,
            column.name,
            column.task_type,
            column.group_kind,
            column.group_hash,
            work.execution or None,
        )
