"""`TelemetrySink`: takes the events of a run and gives their spans and metrics to OpenTelemetry."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from engine.events import Event, RunInfo
from engine.telemetry.conventions import SCOPE
from engine.telemetry.metrics import MetricRecorder
from engine.telemetry.spans import SpanRecorder


class TelemetrySink:
    """Spans, metrics, or both.

    One place reads the events instead of the engine calling tracers: what is exported is what the
    recording says, a run without telemetry pays nothing, and the events of another producer give
    the same metrics. User code does not run inside the spans.

    Args:
        run: Describes the run.
        version: Version of the producer of the telemetry.
        tracers: Takes the spans; None for none.
        meters: Takes the metrics; None for none.
    """

    def __init__(
        self,
        run: RunInfo,
        version: str,
        *,
        tracers: TracerProvider | None = None,
        meters: MeterProvider | None = None,
    ) -> None:
        self._spans: SpanRecorder | None = None
        self._metrics: MetricRecorder | None = None
        if tracers is not None:
            self._spans = SpanRecorder(tracers.get_tracer(SCOPE, version), run)
        if meters is not None:
            self._metrics = MetricRecorder(meters.get_meter(SCOPE, version), run)

    def write_events(self, events: Sequence[Event]) -> None:
        if self._metrics is not None:
            self._metrics.write_events(events)
        if self._spans is not None:
            self._spans.write_events(events)

    write_through = write_events
    """What another thread says while the loop stands; the stream admits one thread at a time."""

    def close(self) -> None:
        """Record what is pending, and end the spans of what did not end itself."""
        if self._metrics is not None:
            self._metrics.flush()
        if self._spans is not None:
            self._spans.close()
