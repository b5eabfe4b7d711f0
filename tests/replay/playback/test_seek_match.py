"""`seek_match`: the next event by SQL is the one that the predicate chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.playback.frame import Want
from replay.playback.session import Session
from replay.recording.filters import EVENTS
from replay.recording.filters.rows import event_view_row
from tests.replay.playback.test_session import lines_file, read_all
from tests.replay.random_engine import Play


@pytest.mark.parametrize(
    "text",
    [
        "kind:request_*",
        "stream:scheduler !enqueued",
        "at>1s lease",
        "provider:p0 or reason:completed",
        "row:1",
        "ordinal>=20 column:*",
        "kind:nothing",
    ],
)
def test_the_walk_finds_what_the_predicate_chooses(tmp_path: Path, play: Play, text: str) -> None:
    run, events = play(17, row_groups=1)
    session = Session.open(lines_file(tmp_path, run, events), growing=False)
    try:
        read_all(session)
        bounds = session.reader.bounds()
        matches = EVENTS.predicate(text)
        chosen = [
            ordinal
            for ordinal, event in session.reader.events(bounds.first_ordinal, bounds.last_ordinal)
            if matches(event_view_row(event, ordinal, bounds.t0))
        ]
        session.seek_ordinal(bounds.first_ordinal)
        walked = []
        while True:
            before = session.frame(Want()).ordinal
            session.seek_match(EVENTS.where(text), 1)
            after = session.frame(Want()).ordinal
            if after == before:
                break
            walked.append(after)
        assert walked == [ordinal for ordinal in chosen if ordinal > bounds.first_ordinal]
        if len(walked) > 1:
            session.seek_match(EVENTS.where(text), -1)
            assert session.frame(Want()).ordinal == walked[-2]
    finally:
        session.close()
