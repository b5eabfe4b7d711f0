"""`materialize`: whatever the user named, as one recording on disk with all there is now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from replay.recording.temporary_folders import temporary_folder
from replay.runs.open import open_source
from replay.sources.base import SourceError
from replay.sources.feed import Feed

Narrate = Callable[[str], None]


@contextmanager
def materialize(target: str | Path, narrate: Narrate) -> Iterator[Path]:
    """The recording itself, or a temporary one with all events that `target` has by now.

    Memory stays bounded either way. `narrate` gets a sentence where there is something to wait for
    or to know. Raises `SourceError`.
    """
    opened = open_source(target, growing=False)
    if opened.recording is not None:
        yield opened.recording
        return
    feed = opened.feed
    assert feed is not None
    with temporary_folder("headgate-import-") as folder:
        path = folder / "recording.duckdb"
        narrate(f"Reading {opened.title} ...")
        try:
            _take_all(feed, path)
        except OSError as error:
            raise SourceError(
                f"{target} can't be read into a temporary recording in {folder}: {error}"
            ) from error
        finally:
            feed.close()
        if feed.completed:
            # Another process has imported the journal meanwhile, and has removed it.
            path = open_source(target, growing=False).recording or path
        if feed.liveness in ("live", "waiting"):
            narrate("The run is still going: this is what it has written so far.")
        elif feed.liveness == "unknown":
            narrate(" ".join(feed.notes))
        yield path


def _take_all(feed: Feed, path: Path) -> None:
    """Raises `OSError`, also where DuckDB is out of room."""
    import duckdb  # a recording that is there needs neither

    from replay.recording.ingest import Ingest

    try:
        ingest = Ingest(feed, path, two_processes=True)
        try:
            while ingest.step():
                pass
            ingest.finish()
        finally:
            ingest.close()
    except duckdb.Error as error:
        raise OSError((str(error).splitlines() or [""])[0]) from error
