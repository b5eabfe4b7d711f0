"""Canonical JSON Lines: the events as a journal writes them, so that our own source reads them."""

from __future__ import annotations

from typing import Protocol, get_args, get_type_hints

from engine.events import JournalEnd, JournalHeader, encode_lines
from replay.recording.reader import RecordingReader
from replay.sources.sanitize import harmless_json

EVENTS_AT_ONCE = 5_000
_OUTCOMES = get_args(get_type_hints(JournalEnd)["outcome"])


class Sink(Protocol):
    """Whatever takes lines: a file, or the compressor before one."""

    def write(self, data: bytes, /) -> object:
        """Take whole lines."""


def write_lines(reader: RecordingReader, file: Sink) -> None:
    """A header, every event in order, and an end where the run had one.

    Loading them again gives the same state, intervals, series and verdicts at every ordinal. Lines
    that could not be read when the recording was made are not in it, and so not here.
    """
    bounds, status = reader.bounds(), reader.status()
    header = JournalHeader(reader.run(), 1, max(1, bounds.first_ordinal))
    file.write(harmless_json(encode_lines([header])))
    sequences = {"SchedulerEvent": 0, "RequestEvent": 0}
    first = bounds.first_ordinal
    while first <= bounds.last_ordinal and bounds.last_ordinal:
        events = [event for _, event in reader.events(first, first + EVENTS_AT_ONCE - 1)]
        for event in events:
            sequences[type(event).__name__] = event.sequence
        file.write(harmless_json(encode_lines(list(events))))
        first += EVENTS_AT_ONCE
    if status.outcome in _OUTCOMES and not status.lost:
        end = JournalEnd(
            status.outcome,  # type: ignore[arg-type]
            bounds.t1,
            sequences["SchedulerEvent"],
            sequences["RequestEvent"],
        )
        file.write(encode_lines([end]))
