"""`verify_recording`: whatever the user named, read once and held against every rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.events import Event, RunInfo
from engine.events.run_folder import JOURNAL, OUTPUT_LOG, RUN_JSON, RunFolder, segment_name
from engine.events.safe_files import open_regular
from replay.recording.reader import open_recording
from replay.runs.open import Opened, open_source
from replay.sources.base import BrokenLine, SourceError
from replay.sources.feed import Feed
from replay.verify.content import ContentSearch
from replay.verify.report import REPORT_VERSION, Verdict, VerifyReport, head_of, results
from replay.verify.verifier import Verifier

EVENTS_AT_ONCE = 10_000
DAMAGE_SHOWN = 5


class Piece(NamedTuple):
    """Events of a recording, in order, and what of it could not be read."""

    run: RunInfo
    events: Sequence[Event]
    first_ordinal: int
    broken: Sequence[BrokenLine]


class SourceEnd(NamedTuple):
    """How the source ended, and the outcome that it names."""

    state: str
    outcome: str | None


def verify_recording(target: str | Path, canaries: Sequence[str] = ()) -> VerifyReport:
    """Check a run folder, a recording, JSON Lines or a foreign file, in one pass.

    Raises `SourceError` where there is nothing to check, `ValueError` for a canary too short.
    """
    opened = open_source(target, growing=False)
    verifier = Verifier(RunInfo(run_id="", name=opened.title))
    search = ContentSearch(verifier.book, canaries)
    begun = False
    broken: list[BrokenLine] = []
    broken_lines = 0
    source = _Source(opened)
    try:
        for piece in source.pieces():
            if not begun:
                verifier = Verifier(piece.run)
                search = ContentSearch(verifier.book, canaries)
                begun = True
            elif piece.run is not verifier.run:
                verifier.run = piece.run
            verifier.apply(piece.events, piece.first_ordinal)
            skipped = [line for line in piece.broken if line.skipped]
            broken_lines += len(skipped)
            broken += skipped[: DAMAGE_SHOWN - len(broken)]
        ending = source.ending()
    finally:
        source.close()
    verifier.finish(ended=ending.state in ("ended", "lost"))
    _search(search, opened)
    run_id, name, producer, version, start = head_of(verifier.run if begun else None, opened.title)
    checks = results(verifier.book)
    verdict: Verdict = "fine"
    if broken_lines:
        verdict = "damaged"
    elif any(check.status == "found" for check in checks):
        verdict = "found"
    damage = [f"line {line.line_number}: {line.problem}" for line in broken]
    if broken_lines > len(damage):
        damage.append(f"and {broken_lines - len(damage)} more lines that can't be read")
    return VerifyReport(
        version=REPORT_VERSION,
        verdict=verdict,
        source=opened.title,
        run_id=run_id,
        name=name,
        producer=producer,
        producer_version=version,
        state=ending.state,
        outcome=ending.outcome,
        monotonic_start=start,
        events=verifier.events,
        hidden_waiters=verifier.hidden_waiters,
        broken_lines=broken_lines,
        damage=tuple(damage),
        checks=checks,
        lacks=verifier.run.lacks if begun else (),
    )


class _Source:
    """A feed or a finished recording, in pieces."""

    def __init__(self, opened: Opened) -> None:
        self._feed = opened.feed
        self._reader = None if opened.recording is None else open_recording(opened.recording)

    def pieces(self) -> Iterator[Piece]:
        if self._feed is not None:
            return _from_feed(self._feed)
        return self._from_recording()

    def _from_recording(self) -> Iterator[Piece]:
        reader = self._reader
        assert reader is not None
        run, bounds = reader.run(), reader.bounds()
        yield Piece(run, (), bounds.first_ordinal, reader.broken_lines())
        first = bounds.first_ordinal
        while 0 < first <= bounds.last_ordinal:
            last = min(first + EVENTS_AT_ONCE - 1, bounds.last_ordinal)
            rows = reader.events(first, last)
            ordinals = [ordinal for ordinal, _ in rows]
            if ordinals != list(range(first, last + 1)):
                raise SourceError(
                    f"The recording is damaged: of the events {first} to {last} "
                    f"{len(rows)} are there.",
                    exit_code=4,
                )
            yield Piece(run, [event for _, event in rows], first, ())
            first = last + 1

    def ending(self) -> SourceEnd:
        if self._feed is not None:
            known = {"ended": "ended", "lost": "lost", "unknown": "unknown"}
            return SourceEnd(known.get(self._feed.liveness, "live"), self._feed.outcome)
        assert self._reader is not None
        status = self._reader.status()
        lost = status.lost or not status.complete
        return SourceEnd("lost" if lost else "ended", status.outcome)

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()
        if self._reader is not None:
            self._reader.close()


def _from_feed(feed: Feed) -> Iterator[Piece]:
    """All that is there now."""
    early: list[BrokenLine] = []
    while True:
        batch = feed.poll(EVENTS_AT_ONCE)
        run = feed.run
        if run is None:
            early += batch.broken
        elif batch.events or batch.broken or early:
            yield Piece(run, batch.events, batch.first_ordinal, [*early, *batch.broken])
            early = []
        if not batch.events:
            break
    if early:
        raise SourceError(f"No event can be read: {early[0].problem}.", exit_code=4)


def _search(search: ContentSearch, opened: Opened) -> None:
    """The files that make up the recording, but not the rows that the run made."""
    if opened.recording is not None:
        search.in_database(opened.recording)
    path = opened.path
    if path is None or not path.is_dir():
        if path is not None and path != opened.recording:
            search.in_file(open_regular(path), path.name)
        return
    folder = RunFolder(path)
    for name in (RUN_JSON, OUTPUT_LOG):
        if folder.has(name):
            search.in_file(open_regular(name, dir_fd=folder.fd), name)
    for number in folder.segment_numbers():
        search.in_file(folder.open_segment(number), f"{JOURNAL}/{segment_name(number)}")
