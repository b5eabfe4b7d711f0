"""What became of the spans and metrics that were handed to exporters."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from replay.sources.sanitize import clean_text

_MESSAGE_CHARACTERS = 200


class Delivery(NamedTuple):
    """How an export ended."""

    spans: int
    """Spans that ended and were sampled."""
    spans_lost: int
    metrics_lost: bool
    """The last values did not arrive."""
    problem: str
    """What an exporter said last; "" for nothing."""

    @property
    def sentence(self) -> str:
        """What a user should know; "" where everything arrived."""
        lost = []
        if self.spans_lost:
            lost.append(f"{self.spans_lost:,} of {self.spans:,} spans")
        if self.metrics_lost:
            lost.append("the last metrics")
        if not lost:
            return ""
        reason = f" ({self.problem})" if self.problem else ""
        return f"OpenTelemetry: {' and '.join(lost)} did not reach the endpoint{reason}"


class CountingSpanExporter(SpanExporter):
    """Counts what an exporter took and what it did not."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.handed = 0
        """Spans that left the queue."""
        self.delivered = 0
        self.refused = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.handed += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.delivered += len(spans)
            else:
                self.refused += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class CountingSpanProcessor(SpanProcessor):
    """A batch processor whose lost spans are known: those that a full queue drops, which the SDK
    only logs, and those that no endpoint took."""

    def __init__(self, exporter: SpanExporter, queue: int) -> None:
        self._counting = CountingSpanExporter(exporter)
        self._queue = queue
        self._batches = BatchSpanProcessor(
            self._counting, max_queue_size=queue, max_export_batch_size=min(512, queue)
        )
        self.ended = 0
        self._overflowed = 0

    @property
    def lost(self) -> int:
        """Lost until now; what is queued or under way may still arrive."""
        return self._overflowed + self._counting.refused

    @property
    def undelivered(self) -> int:
        """Lost for good once nothing more is sent."""
        return self.ended - self._counting.delivered

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._batches.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.ended - self._overflowed - self._counting.handed >= self._queue:
            self._overflowed += 1
        self.ended += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._batches.force_flush(timeout_millis)


class CountingMetricExporter(MetricExporter):
    """Knows whether the last metrics arrived."""

    def __init__(self, exporter: MetricExporter) -> None:
        super().__init__(
            preferred_temporality=exporter._preferred_temporality,
            preferred_aggregation=exporter._preferred_aggregation,
        )
        self._exporter = exporter
        self.arrived = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        self.arrived = False
        result = self._exporter.export(metrics_data, timeout_millis=timeout_millis)
        self.arrived = result is MetricExportResult.SUCCESS
        return result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        self._exporter.shutdown(timeout_millis=timeout_millis)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class ProblemLog(logging.Handler):
    """Keeps the last thing that OpenTelemetry complained of, in place of lines on a terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            return
        self.last = clean_text(" ".join(text.split()))[:_MESSAGE_CHARACTERS]

    def install(self) -> None:
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self)
        logger.propagate = False
