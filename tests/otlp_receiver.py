"""`Receiver`: takes OTLP on loopback, over HTTP or gRPC, and keeps what arrives."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """What arrived. `payload` is every byte of it, for searches."""

    def __init__(self, delay_seconds: float = 0.0) -> None:
        self.delay_seconds = delay_seconds
        self.spans: list[Span] = []
        self.metrics: dict[str, Metric] = {}
        """The last values by name: exports are cumulative."""
        self.payload = b""
        self.endpoint = ""

    def take_traces(self, body: bytes) -> None:
        time.sleep(self.delay_seconds)
        self.payload += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def take_metrics(self, body: bytes) -> None:
        time.sleep(self.delay_seconds)
        self.payload += body
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics.update({metric.name: metric for metric in scope.metrics})

    def named(self, start: str) -> list[Span]:
        return [span for span in self.spans if span.name.startswith(start)]

    def total(self, name: str, **labels: str) -> float:
        """Sum of a counter or gauge over the points that have these labels (`_` for `.`)."""
        metric = self.metrics[name]
        points = metric.sum.data_points or metric.gauge.data_points
        values: list[float] = [
            point.as_double if point.HasField("as_double") else point.as_int
            for point in points
            if labels.items() <= labels_of(point).items()
        ]
        return sum(values)

    def count(self, name: str) -> int:
        """Number of values that a histogram has."""
        counts: list[int] = [p.count for p in self.metrics[name].histogram.data_points]
        return sum(counts)


def labels_of(point: Any) -> dict[str, Any]:
    """Labels of a data point, or attributes of a span, without the dots of their names."""
    values = {}
    for attribute in point.attributes:
        kind = attribute.value.WhichOneof("value")
        values[attribute.key.replace(".", "_")] = getattr(attribute.value, kind)
    return values


@contextmanager
def http_receiver(delay_seconds: float = 0.0) -> Iterator[Receiver]:
    receiver = Receiver(delay_seconds)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            take = {"/v1/traces": receiver.take_traces, "/v1/metrics": receiver.take_metrics}
            take[self.path](body)
            try:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # the sender did not wait

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()


@contextmanager
def grpc_receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Traces(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            receiver.take_traces(request.SerializeToString())
            return ExportTraceServiceResponse()

    class Metrics(MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            receiver.take_metrics(request.SerializeToString())
            return ExportMetricsServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Traces(), server)  # type: ignore[no-untyped-call]
    add_MetricsServiceServicer_to_server(Metrics(), server)  # type: ignore[no-untyped-call]
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(0.2).wait()
