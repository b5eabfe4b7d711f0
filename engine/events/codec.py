"""The codec of JSON Lines: events to bytes and back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import force_setattr

from engine.events.types import (
    Event,
    JournalLine,
    RequestEvent,
    RunInfo,
    RuntimeCorrelation,
    SchedulerEvent,
)

_encoder = msgspec.json.Encoder()
_UNKNOWN_COLUMN = (None, None, None)
_decoder: msgspec.json.Decoder[JournalLine] = msgspec.json.Decoder(JournalLine)


def encode_lines(lines: list[JournalLine]) -> bytes:
    """Encode lines; each ends in a newline."""
    return _encoder.encode_lines(lines)


def decode_line(line: bytes | memoryview) -> JournalLine:
    """Decode one line, with or without its newline.

    Raises:
        msgspec.DecodeError: It is not JSON.
        msgspec.ValidationError: It is JSON, but not a line of a journal.
    """
    return _decoder.decode(line)


def decode_whole(lines: Sequence[bytes]) -> list[JournalLine]:
    """As `decode_line` for many lines. Raises at the first that is none."""
    return list(map(_decoder.decode, lines))


class HeaderFacts:
    """Shortens correlations by what the header of the journal says already, and completes them.

    A correlation that agrees with the header about its run and its column is written as row group,
    column and execution alone, without a run id. That makes a line a third shorter. Any other
    correlation is written whole.
    """

    def __init__(self, run: RunInfo) -> None:
        self._run_id = run.run_id
        self._columns: dict[str | None, tuple[str | None, str | None, str | None]] = {
            column.name: (column.task_type, column.group_kind, column.group_hash)
            for column in run.columns
            if column.group_kind and column.group_hash
        }

    def shorten(self, line: JournalLine) -> JournalLine:
        """The line without what is the same as in the header."""
        if not isinstance(line, SchedulerEvent | RequestEvent):
            return line
        correlation = line.captured_correlation
        if correlation is None or correlation.run_id != self._run_id:
            return line
        facts = (
            correlation.task_type,
            correlation.scheduling_group_kind,
            correlation.scheduling_group_identity_hash,
        )
        if self._columns.get(correlation.task_column) != facts:
            return line
        short = RuntimeCorrelation(
            row_group=correlation.row_group,
            task_column=correlation.task_column,
            task_execution_id=correlation.task_execution_id,
        )
        return msgspec.structs.replace(line, captured_correlation=short)

    def complete(self, event: Event) -> Event:
        """Complete the correlation of an event in place.

        Only for an event that was just decoded: to anyone else events are immutable.
        """
        short = event.captured_correlation
        if short is None or short.run_id:
            return event
        kind, group_kind, group_hash = self._columns.get(short.task_column, _UNKNOWN_COLUMN)
        whole = RuntimeCorrelation(
            self._run_id,
            short.row_group,
            short.task_column,
            kind,
            group_kind,
            group_hash,
            short.task_execution_id,
        )
        force_setattr(event, "captured_correlation", whole)
        return event
