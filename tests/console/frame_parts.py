"""Parts of the hand-made frames: the run, its groups, ceilings, leases, events and verdicts."""

from __future__ import annotations

import json
import random
from typing import Any

from engine.events import (
    ColumnInfo,
    Event,
    RequestEvent,
    RequestResource,
    RunInfo,
    RuntimeCorrelation,
    SchedulerEvent,
)
from replay.diagnosis.report.answer import Answer
from replay.diagnosis.verdicts import VerdictRow, decode_row, tier
from replay.playback.frame import EventRow, Frame, GroupRow, LeaseBar, Segment
from replay.playback.queue_rows import QueueRow
from replay.playback.stretch import Stretch, Traffic
from replay.state.model import Aggregate, Ceiling, Failure

T0 = 1000.0


ALPHA = "alpha/gen-8b/chat"


BETA = "beta/judge-large/chat"


SAMPLES = 80


COLUMNS = (
    ColumnInfo("topic", "sampler", "batch", group="local/topic"),
    ColumnInfo("question", "llm_text", "cell", ("topic",), "model/alpha/gen-8b/chat/question"),
    ColumnInfo("answer", "llm_text", "cell", ("question",), "model/alpha/gen-8b/chat/answer"),
    ColumnInfo("critique", "llm_text", "cell", ("answer",), "model/beta/judge-large/chat/critique"),
    ColumnInfo("score", "llm_text", "cell", ("critique",), "model/beta/judge-large/chat/score"),
)


RUN = RunInfo("r1", "support-dialogues", monotonic_start=T0, records=1000, columns=COLUMNS)


def wave(seed: int, low: float, high: float) -> tuple[float, ...]:
    rng = random.Random(seed)
    value, out = (low + high) / 2, []
    for _ in range(SAMPLES):
        value = min(high, max(low, value + rng.uniform(-1, 1) * (high - low) / 6))
        out.append(float(round(value)))
    return tuple(out)


def latencies(seed: int, mean: float, high: float) -> dict[str, tuple[float, ...]]:
    """Means and 95th percentiles of calls, a few samples of them without any."""
    rng = random.Random(seed)
    means = tuple(
        0.0 if rng.random() < 0.05 else mean * rng.uniform(0.8, 1.3) for _ in range(SAMPLES)
    )
    slow = tuple(value * high * rng.uniform(0.7, 1.6) for value in means)
    return {"latency": means, "latency_p95": slow}


def make_ceiling(resource: str, **changes: Any) -> Ceiling:
    base = Ceiling(
        resource,
        resource.rsplit("/", 1)[0],
        static_cap=16,
        effective_max=16,
        limit=16,
        in_flight=14,
        completed=1840,
    )
    for name, value in changes.items():
        setattr(base, name, value)
    return base


def make_group(key: str, label: str, numbers: tuple[int, int, int, int], **more: Any) -> GroupRow:
    queued, leased, running, deferred = numbers
    return GroupRow(
        key,
        label,
        queued,
        leased,
        running,
        more.get("ready", 0),
        deferred,
        more.get("oldest"),
        more.get("blocked"),
    )


def make_bars(now: float, seed: int = 5) -> tuple[LeaseBar, ...]:
    rng = random.Random(seed)
    bars: list[LeaseBar] = []
    lanes = (
        ("topic", 1, 0.2),
        ("question", 4, 2.0),
        ("answer", 4, 3.2),
        ("critique", 4, 2.6),
        ("score", 3, 1.4),
    )
    for column, width, mean in lanes:
        resource = ALPHA if column in ("question", "answer") else BETA
        for lane in range(width):
            time = now - 34 + rng.uniform(0, 4)
            while time < now:
                length = mean * rng.uniform(0.5, 1.7)
                end: float | None = time + length
                if end is not None and end > now:
                    end = None
                number = len(bars) + 1
                bars.append(make_bar(number, column, resource, time, end, now, rng, lane))
                time += length + rng.uniform(0.05, 0.9) + (3.0 if column == "topic" else 0.0)
    return tuple(sorted(bars, key=lambda bar: bar.start))


def make_bar(
    number: int,
    column: str,
    resource: str,
    start: float,
    end: float | None,
    now: float,
    rng: random.Random,
    lane: int,
) -> LeaseBar:
    stop = now if end is None else end
    length = stop - start
    waited = start + length * (0.05 + (0.5 * rng.random() if resource == BETA else 0.1))
    called = stop if end is None else stop - length * 0.12
    segments: tuple[Segment, ...] = ()
    if column != "topic":
        open_call = end is None
        outcome = "rate_limited" if resource == BETA and number % 11 == 0 else "success"
        attempt = f"a{number}"
        segments = (
            Segment("waiting", start + length * 0.02, waited, None, attempt, resource),
            Segment(
                "in_provider",
                waited,
                None if open_call else called,
                None if open_call else outcome,
                attempt,
                resource,
            ),
        )
    return LeaseBar(
        f"t{number}",
        f"{column}/{number * 3 % 250}",
        column,
        f"model/{column}",
        number % 4,
        start,
        end,
        None if end is None else "completed",
        segments,
        ready_at=start - 1.2,
        enqueued_at=start - 1.1,
        selected_at=start - 0.012,
        spawned_at=start,
        row=number * 3 % 250,
    )


def make_events(last: int, now: float, after: int = 0) -> tuple[EventRow, ...]:
    def correlation(column: str) -> RuntimeCorrelation:
        return RuntimeCorrelation("r1", 2, column, "cell", "model", "9f2c", "e812")

    beta = RequestResource("beta", "judge-large", "chat")
    cycle: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("dependency_ready", "", {"group": "model/beta/judge-large/chat/critique", "row": 117}),
        ("ready_enqueued", "", {"group": "model/beta/judge-large/chat/critique", "weight": 1.0}),
        ("selected", "", {}),
        ("task_lease_acquired", "", {"resources": {"submission": 1}}),
        ("worker_spawned", "", {}),
        ("request_wait_started", "cooldown", {"reason": "cooldown", "waiters": 22, "limit": 7}),
        ("request_lease_acquired", "", {"limit": 7, "in_flight": 7}),
        ("model_request_started", "", {}),
        ("model_request_completed", "rate_limited", {"duration_seconds": 0.412}),
        ("request_rate_limited", "", {"retry_after": 2.0, "blocked_until": now + 1.2, "cut": True}),
        ("request_limit_decreased", "rate_limited", {"previous": 9, "current": 7}),
        ("request_lease_released", "rate_limited", {"held_seconds": 0.413}),
        ("retry_deferred", "RateLimited", {"attempt": 1, "delay_seconds": 2.0}),
        ("admission_blocked", "no_capacity", {"queued_count": 61}),
        ("task_lease_released", "released", {}),
        ("task_completed", "", {}),
        ("scheduler_health_snapshot", "", {"reason": "periodic"}),
    )
    rows: list[EventRow] = []
    for ordinal in range(max(1, last - 119), last + after + 1):
        kind, said, diagnostics = cycle[ordinal % len(cycle)]
        at = now - (last - ordinal) * 0.021
        event: Event
        if kind.startswith(("request_", "model_")):
            event = RequestEvent(
                kind,
                at,
                ordinal // 2,
                correlation("critique"),
                f"a{ordinal // 17 + 800}",
                None,
                beta,
                None,
                said or None,
                None,
                diagnostics,
            )
        else:
            event = SchedulerEvent(
                kind,
                at,
                ordinal // 2,
                correlation("critique"),
                None if kind.endswith(("snapshot", "blocked")) else f"critique/{ordinal // 17}",
                "e812",
                "t812",
                "submission" if kind in ("task_lease_acquired", "admission_blocked") else None,
                said or None,
                None,
                diagnostics,
            )
        rows.append(EventRow(ordinal, event))
    return tuple(rows)


def make_verdicts(now: float) -> tuple[VerdictRow, ...]:
    """A stall that goes on, one of each kind of words, and one with a hostile name."""
    cooldown = {
        "also": {"request_domain_limit": 0.12},
        "holders": [],
        "needed": 1,
        "free": 0,
        "limit": 9,
        "rate_limited": 6,
        "held_seconds": 7.5,
        "limited_seconds": 44.8,
        "expected_release": now + 1.2,
        "waiting": 23,
        "longest_waiter": {"task_id": "verdict/17", "column": "verdict", "row": 17, "age": 0.42},
    }
    slots = {
        "also": {},
        "holders": [
            {"group": "model/beta/judge-large/chat/critique", "leases": 9, "oldest_age": 4.2},
            {"group": "model/beta/judge-large/chat/score", "leases": 7, "oldest_age": 2.9},
        ],
        "needed": 1,
        "free": 0,
        "limit": 16,
        "waiting": 23,
        "holders_do": {"waiting": 9, "calling": 7},
        "holders_wait_for": {BETA: 9},
        "longest_waiter": {"task_id": "t-8", "column": "score\x1b[2J", "row": None, "age": 1.6},
    }
    upstream = {"in_flight": {"topic": 4}, "critical_path": [], "columns_waiting": [], "also": {}}
    missed = {"waiting": 2, "free": 1, "needed": 1}
    reported = (
        ("request_cooldown", BETA, 39.2, 84.2, (15_120, 15_702, 15_704), cooldown),
        ("task_capacity", "model_stage:beta/judge-large", 31.0, 36.4, (9_801, 9_950), slots),
        ("dependency", "", 0.4, 1.1, (12, 40), upstream),
        ("lost_wakeup", "evil/\x1b[31mname/chat", 0.1, 0.4, (3, 9), missed),
    )
    return tuple(
        decode_row(
            verdict,
            tier(verdict),
            about or None,
            T0 + start,
            T0 + end,
            "",
            evidence,
            json.dumps(detail),
        )
        for verdict, about, start, end, evidence, detail in reported
    )


def make_queue() -> tuple[QueueRow, ...]:
    """Where the tasks of the storm's groups are."""
    model = "model_stage:beta/judge-large"
    rows = []
    for nth, column in enumerate(COLUMNS):
        held = (0, 6, 8, 16, 8)[nth]
        stage = model if nth > 2 else "model_stage:alpha/gen-8b"
        rows.append(
            QueueRow(
                column.group,
                1.0,
                0.0 if nth == 0 else 0.25,
                {"submission": held, stage: held} if nth else {},
                {"submission": held, stage: held} if nth else {},
                {model: 4} if nth == 3 else {},
                calls_waiting=(0, 0, 0, 16, 7)[nth],
                calls_in_provider=(0, 6, 8, 0, 1)[nth],
                waits_for="cooldown" if nth > 2 else None,
            )
        )
    return tuple(rows)


def make_failures(now: float) -> tuple[Failure, ...]:
    return (
        Failure(BETA, "critique", "HTTP503", now - 41, now - 3.5, 9_120, 15_402, 17, 2, True),
        Failure("", "score", "ValueError", now - 20, now - 20, 12_007, 12_007, 1, 1, False),
        Failure(ALPHA, "answer", "timeout", now - 12, now - 6, 13_010, 14_990, 3, 0, True),
    )


def _value(value: Any, source: str, **more: str) -> dict[str, Any]:
    return {"value": value, "source": source, **more}


CAPACITY: dict[str, Any] = {
    "configured": {
        "buffer_size": _value(50, "run_config"),
        "row_group_admission": {
            "row_group_concurrency": _value(8, "default"),
            "mode": _value("adaptive", "engine_internal_config"),
        },
        "submission_capacity": _value(32, "run_config"),
        "task_resource_limits": _value(
            {"model_stage:alpha/gen-8b": 16, "model_stage:beta/judge-large": 16}, "model_metadata"
        ),
        "provider_model_static_caps": _value(
            {"beta/judge-large": {"cap": 16}}, "adapter_config", fallback_from="default"
        ),
        "transport_pool_limits": _value(
            None, "adapter_config", missing_reason="the client does not tell"
        ),
    },
    "observed_maxima": {
        "row_groups_in_flight": _value(6, "runtime_snapshot"),
        "leases_by_resource": _value(
            {"submission": 32, "model_stage:alpha/gen-8b": 14, "model_stage:beta/judge-large": 16},
            "runtime_snapshot",
        ),
    },
}


AGGREGATES = (Aggregate("beta/judge-large", 16, 1, ("judge", "judge-strict")),)


def make_stretch(frame: Frame) -> Stretch:
    """The last ten seconds of a frame, marked."""
    start, end = frame.at - 10.0, frame.at
    traffic = tuple(
        Traffic(row.ceiling.resource, 40.0, float(row.ceiling.rate_limited), 3.5)
        for row in frame.ceilings
    )
    answer = Answer("", "", "", "41 % of the capacity that was wanted did work.")
    return Stretch(
        start, end, frame.blame, 220.0, 96.0, 20.0, 14_800.0, traffic, frame.bottleneck, answer
    )
