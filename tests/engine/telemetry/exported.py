"""Runs under virtual time whose events go through a `TelemetrySink` into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from engine.events import Event, RunInfo
from engine.telemetry.sink import TelemetrySink
from engine.workflow.schema import Workflow

MOST_EVENTS_AT_ONCE = 50
PROMPT_CANARY = "canary-prompt-7f3a"


class Point(NamedTuple):
    labels: dict[str, Any]
    value: float
    """Of a histogram the sum."""
    values: int = 0
    """How many a histogram has."""


class Seen(NamedTuple):
    """An exported span."""

    name: str
    kind: SpanKind
    start_time: int
    end_time: int
    attributes: dict[str, Any]
    status: StatusCode
    trace_id: int
    span_id: int
    parent_id: int | None
    text: str


def seen(span: ReadableSpan) -> Seen:
    assert span.start_time is not None
    assert span.end_time is not None
    return Seen(
        span.name,
        span.kind,
        span.start_time,
        span.end_time,
        dict(span.attributes or {}),
        span.status.status_code,
        span.context.trace_id,
        span.context.span_id,
        span.parent.span_id if span.parent is not None else None,
        span.to_json(),
    )


class Exported(NamedTuple):
    spans: list[Seen]
    metrics: dict[str, list[Point]]

    def named(self, start: str) -> list[Seen]:
        return [span for span in self.spans if span.name.startswith(start)]

    def total(self, name: str, **labels: str) -> float:
        """Sum over the points with these labels, written with `_` for `.`."""
        return sum(
            point.value
            for point in self.metrics[name]
            if labels.items() <= {k.replace(".", "_"): v for k, v in point.labels.items()}.items()
        )

    def count(self, name: str) -> int:
        return sum(point.values for point in self.metrics[name])


def export(run: RunInfo, events: Sequence[Event], sampler: Sampler = ALWAYS_ON) -> Exported:
    """What `events` become; they arrive in batches."""
    memory, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    sink = TelemetrySink(run, "1.0", tracers=tracers, meters=meters)
    for start in range(0, len(events), MOST_EVENTS_AT_ONCE):
        sink.write_events(events[start : start + MOST_EVENTS_AT_ONCE])
    sink.close()
    metrics = points(reader)
    return Exported([seen(span) for span in memory.get_finished_spans()], metrics)


def points(reader: InMemoryMetricReader) -> dict[str, list[Point]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: [
            Point(
                dict(point.attributes or {}),
                point.sum if hasattr(point, "sum") else point.value,
                getattr(point, "count", 0),
            )
            for point in metric.data.data_points
        ]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def workflow(
    alpha: Mapping[str, Any] | None = None,
    beta: Mapping[str, Any] | None = None,
    *,
    records: int = 12,
    **settings: Any,
) -> Workflow:
    """A topic, a ticket about it by `alpha`, and a verdict on it by `beta`; the arguments are the
    scripts of these providers."""
    return Workflow.model_validate(
        {
            "name": "tickets",
            "records": records,
            "providers": {
                "alpha": {"type": "scripted", **(alpha or {})},
                "beta": {"type": "scripted", **(beta or {})},
            },
            "models": {
                "writer": {
                    "provider": "alpha",
                    "model": "org/gen-8b",
                    "max_parallel_requests": 4,
                },
                "judge": {"provider": "beta", "model": "judge-70b", "max_parallel_requests": 4},
            },
            "columns": [
                {"name": "topic", "type": "sampler", "values": ["billing", "login"]},
                {
                    "name": "ticket",
                    "type": "llm_text",
                    "model": "writer",
                    "prompt": f"{PROMPT_CANARY} about {{{{ topic }}}}",
                },
                {
                    "name": "verdict",
                    "type": "llm_text",
                    "model": "judge",
                    "prompt": "Judge: {{ ticket }}",
                },
            ],
            "run": {"buffer_size": 6, **settings},
        }
    )
