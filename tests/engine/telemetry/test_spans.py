"""Spans: a task lease, its logical calls, and their attempts."""

from __future__ import annotations

from collections import Counter

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from engine.events import RequestEvent, SchedulerEvent
from tests.engine.telemetry.exported import PROMPT_CANARY, Exported, Seen, export, workflow
from tests.engine_run import Ran, run_engine

STORM = {"rate_limits": [{"from": 0.2, "to": 4.0, "retry_after": 0.5, "allow": 1}]}


def exported(ran: Ran) -> Exported:
    return export(ran.run, ran.events)


def parent_of(span: Seen, among: list[Seen]) -> Seen | None:
    return next((other for other in among if other.span_id == span.parent_id), None)


@pytest.fixture(scope="module")
def storm() -> Ran:
    return run_engine(workflow(beta=STORM))


def test_every_lease_every_call_and_every_attempt_has_its_span(storm: Ran) -> None:
    seen = exported(storm)

    leases = seen.named("task ")
    calls = seen.named("chat ")
    attempts = seen.named("attempt")
    assert len(leases) == storm.kinds["task_lease_acquired"]
    assert len(attempts) == storm.kinds["request_lease_acquired"]
    assert len(calls) == 24  # 12 tickets and 12 verdicts, however often they were asked for
    assert len(seen.spans) == len(leases) + len(calls) + len(attempts)
    assert Counter(span.name for span in calls) == {"chat writer": 12, "chat judge": 12}


def test_a_refused_call_is_one_span_over_all_its_attempts(storm: Ran) -> None:
    seen = exported(storm)
    repeated = [
        call for call in seen.named("chat ") if call.attributes["headgate.request.attempts"] > 1
    ]

    assert repeated, "the storm refused nothing"
    for call in repeated:
        attempts = [s for s in seen.named("attempt") if parent_of(s, seen.spans) is call]
        outcomes = [span.attributes["headgate.request.outcome"] for span in attempts]
        assert outcomes == ["rate_limited"] * (len(attempts) - 1) + ["success"]
        assert [s.attributes["headgate.request.attempt.number"] for s in attempts] == [
            number + 1 for number in range(len(attempts))
        ]
        assert call.start_time == min(span.start_time for span in attempts)
        assert call.end_time == max(span.end_time for span in attempts)
        assert call.status is StatusCode.UNSET
        assert "error.type" not in call.attributes
        assert attempts[0].status is StatusCode.ERROR
        assert attempts[0].attributes["http.response.status_code"] == 429


def test_spans_lie_inside_their_parents_and_have_the_kinds_of_the_conventions(storm: Ran) -> None:
    seen = exported(storm)

    for span in seen.spans:
        parent = parent_of(span, seen.spans)
        if span.name.startswith("task "):
            assert parent is None
            assert span.kind is SpanKind.INTERNAL
            assert span.attributes["headgate.run.id"] == "run"
            continue
        assert parent is not None
        assert parent.start_time <= span.start_time <= span.end_time <= parent.end_time
        assert parent.trace_id == span.trace_id
        if span.name.startswith("chat "):
            assert span.kind is SpanKind.CLIENT
            assert span.attributes["gen_ai.operation.name"] == "chat"
            assert span.attributes["gen_ai.provider.name"] in ("alpha", "beta")
            assert span.attributes["gen_ai.usage.output_tokens"] > 0
        else:
            assert span.kind is SpanKind.INTERNAL


def test_times_are_those_of_the_events(storm: Ran) -> None:
    seen = exported(storm)
    acquired = {
        event.task_lease_id: event.captured_at_monotonic
        for event in storm.events
        if event.event_kind == "task_lease_acquired" and isinstance(event, SchedulerEvent)
    }

    starts = {
        span.attributes["headgate.task.lease.id"]: span.start_time for span in seen.named("task ")
    }
    assert starts.keys() == acquired.keys()
    begun = storm.run.monotonic_start
    for lease, at in acquired.items():
        assert starts[lease] == pytest.approx((at - begun) * 1e9, abs=1e3)


def test_parallel_calls_of_a_task_are_spans_of_their_own() -> None:
    """Each names the first attempt of its own call when it is repeated, however they interleave."""
    ran = run_engine(workflow(alpha=STORM, max_in_flight_tasks=64))
    repeats = {
        event.request_attempt_id: event.diagnostics["repeats"]
        for event in ran.events
        if event.event_kind == "request_wait_started" and "repeats" in event.diagnostics
        if isinstance(event, RequestEvent)
    }

    assert repeats
    by_call = Counter(repeats.values())
    attempts = Counter(
        span.attributes["headgate.request.attempts"] for span in exported(ran).named("chat writer")
    )
    expected = Counter(count + 1 for count in by_call.values())
    expected[1] = 12 - len(by_call)
    assert attempts == +expected


def test_a_task_that_fails_says_how() -> None:
    ran = run_engine(workflow(alpha={"error_rate": 0.9}, max_attempts=2, stop_at_drop_share=None))
    seen = exported(ran)

    dropped = [
        span
        for span in seen.named("task ticket")
        if span.attributes.get("headgate.task.result") == "non_retryable_dropped"
    ]
    assert len(dropped) == sum(
        event.event_kind == "non_retryable_dropped" and event.task_lease_id is not None
        for event in ran.events
        if isinstance(event, SchedulerEvent)
    )
    assert all(span.status is StatusCode.ERROR for span in dropped)
    failed = [s for s in seen.named("chat writer") if s.status is StatusCode.ERROR]
    assert failed
    assert all(span.attributes["error.type"] for span in failed)
    assert all(
        span.attributes["http.response.status_code"] == 500
        for span in seen.named("attempt")
        if span.status is StatusCode.ERROR
    )


def test_a_drained_run_leaves_no_span_open() -> None:
    ran = run_engine(workflow(alpha={"latency": {"mean": 3.0}}, records=30), stop_at=2.0)
    seen = exported(ran)

    assert 0 < len(seen.named("task ")) == ran.kinds["task_lease_acquired"]


def test_events_that_stop_in_the_middle_end_their_spans_where_they_stop(storm: Ran) -> None:
    middle = storm.events[: len(storm.events) // 2]
    seen = export(storm.run, middle)

    last = (middle[-1].captured_at_monotonic - storm.run.monotonic_start) * 1e9
    assert seen.spans
    assert max(span.end_time for span in seen.spans) <= last + 1e3


def test_an_unsampled_task_has_no_spans_at_all(storm: Ran) -> None:
    assert export(storm.run, storm.events, ALWAYS_OFF).spans == []

    some = export(storm.run, storm.events, ParentBased(TraceIdRatioBased(0.3)))
    leases = some.named("task ")
    assert 0 < len(leases) < storm.kinds["task_lease_acquired"]
    traces = {span.trace_id for span in leases}
    assert {span.trace_id for span in some.spans} == traces


def test_no_prompt_no_answer_and_no_row_value_is_in_a_span(storm: Ran) -> None:
    text = "\n".join(span.text for span in exported(storm).spans)

    assert "gen_ai" in text
    for secret in (PROMPT_CANARY, "billing", "login", "Judge:"):
        assert secret not in text
