"""What becomes of spans and metrics when an endpoint is gone, slow or too small."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from console.cli.otel.delivery import CountingSpanProcessor, Delivery
from console.cli.otel.sdk import TelemetryExport
from console.cli.otel.settings import ExportSettings
from tests.engine.telemetry.exported import workflow
from tests.engine_run import Ran, run_engine
from tests.otlp_receiver import http_receiver

GRACE_SECONDS = 3.0
"""What a loaded machine may add to a time-out."""


@pytest.fixture(scope="module")
def ran() -> Ran:
    return run_engine(workflow())


@contextmanager
def silent_endpoint() -> Iterator[str]:
    """Takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_endpoint() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def deliver(ran: Ran, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Delivery, float]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    export = TelemetryExport(ExportSettings(("otlp",), ("otlp",), timeout_seconds=1.0), ran.run)
    export.sink.write_events(ran.events)
    began = time.monotonic()
    delivery = export.close()
    return delivery, time.monotonic() - began


def test_everything_arrives(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as receiver:
        delivery, _ = deliver(ran, receiver.endpoint, monkeypatch)

    assert delivery.sentence == ""
    assert delivery.spans == len(receiver.spans) > 0
    assert receiver.total("headgate.rows.written") == 12
    assert receiver.total("headgate.telemetry.spans.lost") == 0


def test_an_endpoint_that_is_not_there_costs_no_more_than_the_time_out(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, seconds = deliver(ran, closed_endpoint(), monkeypatch)

    assert seconds < 1.0 + GRACE_SECONDS
    assert delivery.spans_lost == delivery.spans > 0
    assert delivery.metrics_lost
    assert delivery.sentence.startswith(
        f"OpenTelemetry: {delivery.spans} of {delivery.spans} spans and the last metrics did not "
        "reach the endpoint"
    )


def test_an_endpoint_that_never_answers_costs_no_more_than_the_time_out(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_endpoint() as endpoint:
        delivery, seconds = deliver(ran, endpoint, monkeypatch)

    assert 0.9 < seconds < 1.0 + GRACE_SECONDS
    assert delivery.spans_lost == delivery.spans > 0


class StuckExporter(SpanExporter):
    """Takes a batch once it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun.set()
        self.let_go.wait()
        self.taken += len(spans)
        return SpanExportResult.SUCCESS


def test_spans_that_a_full_queue_drops_are_counted() -> None:
    exporter = StuckExporter()
    processor = CountingSpanProcessor(exporter, queue=10)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")

    for _ in range(10):
        tracer.start_span("first").end()
    assert exporter.begun.wait(5.0)  # those ten are out of the queue
    for _ in range(25):
        tracer.start_span("more").end()
    exporter.let_go.set()
    provider.shutdown()

    assert processor.ended == 35
    assert processor.lost == processor.undelivered == 35 - exporter.taken == 15


class RefusingExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE


def test_spans_that_an_endpoint_refuses_are_lost() -> None:
    processor = CountingSpanProcessor(RefusingExporter(), queue=100)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)

    for _ in range(7):
        provider.get_tracer("test").start_span("task").end()
    assert processor.lost == 0  # they may yet arrive
    provider.shutdown()
    assert processor.lost == processor.undelivered == 7


def test_a_delivery_says_only_what_was_lost() -> None:
    assert Delivery(10, 0, False, "noise").sentence == ""
    assert Delivery(0, 0, True, "").sentence == (
        "OpenTelemetry: the last metrics did not reach the endpoint"
    )
    assert Delivery(1200, 1001, False, "refused").sentence == (
        "OpenTelemetry: 1,001 of 1,200 spans did not reach the endpoint (refused)"
    )
