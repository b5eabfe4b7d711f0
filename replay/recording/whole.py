"""`whole_recording`: whatever the user named, as one recording on disk with all there is now."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb

from replay.recording.ingest import Ingest
from replay.recording.schema import temporary_home
from replay.sources.base import Feed, SourceError
from replay.sources.foreign_journal import ForeignJournalFeed
from replay.sources.journal import JournalFeed
from replay.sources.open import open_source

Narrate = Callable[[str], None]


@contextmanager
def whole_recording(target: str | Path, narrate: Narrate) -> Iterator[Path]:
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
    with _temporary_folder() as folder:
        path = folder / "recording.duckdb"
        narrate(f"Reading {opened.title} ...")
        try:
            _take_all(feed, path)
        except (duckdb.Error, OSError) as error:
            problem = (str(error).splitlines() or [""])[0]
            raise SourceError(
                f"{target} can't be read into a temporary recording in {folder}: {problem}"
            ) from error
        finally:
            feed.close()
        if isinstance(feed, JournalFeed | ForeignJournalFeed) and feed.completed:
            # Another process has imported the journal meanwhile, and has removed it.
            path = open_source(target, growing=False).recording or path
        if feed.liveness in ("live", "waiting"):
            narrate("The run is still going: this is what it has written so far.")
        elif feed.liveness == "unknown":
            narrate(" ".join(feed.notes))
        yield path


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="headgate-import-", dir=temporary_home()))
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(remove)  # once more, where a second Ctrl+C comes while it is removed
    try:
        yield folder
    finally:
        remove()
        atexit.unregister(remove)


def _take_all(feed: Feed, path: Path) -> None:
    ingest = Ingest(feed, path, two_processes=True)
    try:
        while ingest.step():
            pass
        ingest.finish()
    finally:
        ingest.close()
