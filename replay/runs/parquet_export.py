"""Opens the Parquet export of a run again, by the stream that lies beside its views."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

from engine.events.safe_files import open_regular
from replay.recording.temporary_folders import TemporaryFolder
from replay.sources.base import SourceError
from replay.sources.feed import Feed, open_lines
from replay.sources.sanitize import clean_text

STREAM_FILE = "stream.parquet"
"""The lines of a run, in the folder of its export."""
LINE = "line"
"""Its only column: one line of JSON Lines a row."""
_ROWS_AT_ONCE = 2_000
_PREFIX = "headgate-parquet-"


def open_stream(path: Path) -> Feed:
    """The events of an export. Raises `SourceError` where the file is another Parquet file."""
    folder = TemporaryFolder(_PREFIX)
    try:
        lines = folder.path / f"{path.resolve().parent.name or 'run'}.jsonl"
        with lines.open("wb") as file:
            for line in _lines(path):
                file.write(line)
                file.write(b"\n")
        feed = open_lines(lines, False)
    except OSError as error:
        folder.remove()
        shown = clean_text(str(path))
        raise SourceError(f"{shown} can't be read: {error.strerror or error}.") from error
    except BaseException:
        folder.remove()
        raise
    weakref.finalize(feed, folder.remove)
    return feed


def _lines(path: Path) -> Iterator[bytes]:
    import pyarrow as pa  # takes long to load
    import pyarrow.parquet as pq

    shown = clean_text(str(path))
    try:
        with open(open_regular(path), "rb") as opened:
            table = pq.ParquetFile(opened)
            if (
                table.schema_arrow.names != [LINE]
                or table.schema_arrow.field(0).type != pa.binary()
            ):
                raise SourceError(
                    f"{shown} is a Parquet file with no stream of events in it: name the folder of"
                    f" a whole Parquet export, which has {STREAM_FILE}."
                )
            for batch in table.iter_batches(_ROWS_AT_ONCE):
                for line in batch.column(0):
                    content = line.as_py()
                    if content is not None:
                        yield content
    except pa.ArrowException as error:
        reason = clean_text((str(error).splitlines() or ["it is damaged"])[0])
        raise SourceError(
            f"{shown} is a Parquet file that can't be read: {reason}.", exit_code=4
        ) from error
