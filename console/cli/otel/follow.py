"""Exports the metrics of a run that another process makes, as its events come in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from console.cli.otel.settings import ExportSettings, read_settings
from engine.errors import UserError
from engine.events import RunInfo
from replay.recording.reader import RecordingReader, open_recording
from replay.runs.open import open_source
from replay.sources.base import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from console.cli.otel.sdk import TelemetryExport
    from replay.sources.feed import Feed

POLL_SECONDS = 0.2
EVENTS_AT_ONCE = 2_000


@contextmanager
def exported(target: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Export the metrics of `target` meanwhile, and at the end what was read until then.

    Spans are those of the process that makes the calls: a reader exports none.

    Raises:
        UserError: The environment names no exporter of metrics, or one that can't be used.
        SourceError: `target` can't be read.
    """
    settings = read_settings(environ, wanted=True)
    if not settings.metrics:
        raise UserError(
            "--otel exports metrics, and OTEL_METRICS_EXPORTER or OTEL_SDK_DISABLED forbids it"
        )
    follower = Follower(target, settings._replace(traces=()))
    follower.start()
    try:
        yield
    finally:
        sentence = follower.finish()
        if sentence:
            click.echo(f"headgate: {sentence}", err=True)


class Follower:
    """Reads the events of one run in a thread, and feeds them to OpenTelemetry.

    Args:
        target: Whatever `headgate watch` takes.
        settings: What is exported, and how.
    """

    def __init__(self, target: str, settings: ExportSettings) -> None:
        self._target = target
        self._settings = settings
        self._opened = open_source(target, growing=True)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="headgate-otel", daemon=True)
        self._export: TelemetryExport | None = None
        self._problem = ""

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> str:
        """Read what is there by now, export it, and return what a user should know."""
        self._leaving.set()
        self._thread.join(self._settings.timeout_seconds)
        sentence = self._export.close().sentence if self._export is not None else ""
        return self._problem or sentence

    def _follow(self) -> None:
        try:
            next_ordinal = 1
            if self._opened.feed is not None:
                next_ordinal = self._follow_feed(self._opened.feed)
                if not self._opened.feed.completed:
                    return
                self._opened = open_source(self._target, growing=False)
            if self._opened.recording is not None:
                self._read(open_recording(self._opened.recording), next_ordinal)
        except (SourceError, UserError) as error:
            self._problem = str(error)

    def _follow_feed(self, feed: Feed) -> int:
        """Until the producer has ended; returns the ordinal of the event that would come next."""
        next_ordinal = 1
        while True:
            batch = feed.poll(EVENTS_AT_ONCE)
            if feed.run is not None and batch.events:
                self._exporter(feed.run).sink.write_events(batch.events)
                next_ordinal = batch.first_ordinal + len(batch.events)
                continue
            ended = feed.liveness not in ("live", "waiting") or feed.completed
            if ended or self._leaving.wait(POLL_SECONDS):
                return next_ordinal

    def _read(self, reader: RecordingReader, first: int) -> None:
        """The events of a finished recording, from `first` on."""
        try:
            last = reader.bounds().last_ordinal
            sink = self._exporter(reader.run()).sink
            while first <= last:
                until = first + EVENTS_AT_ONCE - 1
                sink.write_events([event for _, event in reader.events(first, until)])
                first = until + 1
        finally:
            reader.close()

    def _exporter(self, run: RunInfo) -> TelemetryExport:
        if self._export is None:
            from console.cli.otel.sdk import TelemetryExport

            self._export = TelemetryExport(self._settings, run)
        return self._export
