"""`TelemetryExport`: the OpenTelemetry SDK behind the telemetry of one run."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from console.cli.otel.delivery import (
    CountingMetricExporter,
    CountingSpanProcessor,
    Delivery,
    ProblemLog,
)
from console.cli.otel.settings import Exporter, ExportSettings, Protocol
from engine.errors import UserError
from engine.telemetry import instruments
from engine.telemetry.conventions import SCOPE
from engine.telemetry.sink import TelemetrySink
from engine.version import VERSION

if TYPE_CHECKING:
    from engine.events import RunInfo


class TelemetryExport:
    """Exporters for one run, and the sink that feeds them.

    Args:
        settings: What is exported, and how.
        run: Describes the run.

    Raises:
        UserError: The port for Prometheus is taken.
    """

    def __init__(self, settings: ExportSettings, run: RunInfo) -> None:
        self._problems = ProblemLog()
        self._problems.install()
        self._timeout_seconds = settings.timeout_seconds
        self._processors: list[CountingSpanProcessor] = []
        self._metric_exporters: list[CountingMetricExporter] = []
        resource = Resource(
            {
                "service.name": "headgate",
                "service.version": VERSION,
                "service.instance.id": run.run_id,
            }
        ).merge(OTELResourceDetector().detect())
        self._tracers = self._tracer_provider(settings, resource) if settings.traces else None
        self._meters = self._meter_provider(settings, resource) if settings.metrics else None
        self.sink = TelemetrySink(run, VERSION, tracers=self._tracers, meters=self._meters)
        if self._meters is not None and self._processors:
            meter = self._meters.get_meter(SCOPE, VERSION)
            instruments.observed(
                meter, instruments.SPANS_LOST, lambda: [Observation(self.spans_lost)]
            )

    @property
    def spans_lost(self) -> int:
        return max((processor.lost for processor in self._processors), default=0)

    def close(self) -> Delivery:
        """Send what is left. Waits for the time-out of the exporters and no longer, whatever the
        endpoint does."""
        self.sink.close()
        deadline = time.monotonic() + self._timeout_seconds
        threads = [
            threading.Thread(target=provider.shutdown, daemon=True)
            for provider in (self._tracers, self._meters)
            if provider is not None
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return Delivery(
            spans=max((processor.ended for processor in self._processors), default=0),
            spans_lost=max((processor.undelivered for processor in self._processors), default=0),
            metrics_lost=not all(exporter.arrived for exporter in self._metric_exporters),
            problem=self._problems.last,
        )

    def _tracer_provider(self, settings: ExportSettings, resource: Resource) -> TracerProvider:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for name in settings.traces:
            exporter = _span_exporter(name, settings.traces_protocol)
            processor = CountingSpanProcessor(exporter, settings.span_queue)
            provider.add_span_processor(processor)
            self._processors.append(processor)
        return provider

    def _meter_provider(self, settings: ExportSettings, resource: Resource) -> MeterProvider:
        readers: list[MetricReader] = []
        for name in settings.metrics:
            if name == "prometheus":
                readers.append(_prometheus_reader(settings))
                continue
            exporter = CountingMetricExporter(_metric_exporter(name, settings.metrics_protocol))
            self._metric_exporters.append(exporter)
            readers.append(PeriodicExportingMetricReader(exporter))
        return MeterProvider(readers, resource, shutdown_on_exit=False)


def _span_exporter(name: Exporter, protocol: Protocol) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

        return grpc.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

    return http.OTLPSpanExporter()


def _metric_exporter(name: Exporter, protocol: Protocol) -> MetricExporter:
    if name == "console":
        return ConsoleMetricExporter()
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc

        return grpc.OTLPMetricExporter()
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as http

    return http.OTLPMetricExporter()


def _prometheus_reader(settings: ExportSettings) -> MetricReader:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server

    try:
        start_http_server(settings.prometheus_port, settings.prometheus_host)
    except OSError as error:
        raise UserError(
            f"metrics can't be served on {settings.prometheus_host}:{settings.prometheus_port}: "
            f"{error.strerror}; set OTEL_EXPORTER_PROMETHEUS_PORT to a free port"
        ) from None
    return PrometheusMetricReader()
