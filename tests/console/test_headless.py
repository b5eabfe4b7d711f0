"""The plain-text form of a frame."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from console.cli.presenter import show_once
from console.headless import status_line, summary
from tests.console.frames import FRAMES, ended, lost, storm
from tests.fixtures.data_designer_format import lines


def test_a_line_says_what_limits_the_run() -> None:
    line = status_line(storm())
    assert line.startswith("1:24.2 live | 520/1,000 rows, 3 dropped, 4.1 rows/s")
    assert "queued 110, running 38" in line
    assert "beta/judge-large/chat: limit 5/16, in flight 1, waiting 23, cooldown 1.2 s" in line
    assert "alpha/gen-8b/chat" not in line
    assert "cools down for 1.2 s more after a 429" in line


def test_a_line_says_that_it_is_late() -> None:
    frame = storm()
    assert "behind" not in status_line(frame)
    assert "behind" not in status_line(frame, 1.0)
    assert " live, 34 s behind | " in status_line(frame, 34.2)


def test_the_summary_of_a_finished_run() -> None:
    text = summary(ended())
    assert text.startswith("support-dialogues: 3 of 1,000 rows dropped after 2:43.0")
    assert "997/1,000 rows, 3 dropped" in text
    assert "8,112 completed, 41 rate-limited, 40 task retries" in text
    assert "ValueError: 3" in text
    assert "88 % working" in text


def test_a_stream_without_requests_counts_none() -> None:
    frame = ended()
    lacks = ("request stream (attempts, waits, leases)",)
    text = summary(replace(frame, run=msgspec.structs.replace(frame.run, lacks=lacks)))
    assert "requests  not in this stream, 40 task retries" in text
    assert "rate-limited" not in text


def test_what_is_lost_is_said() -> None:
    assert "LOST" in status_line(lost())
    assert "41 events lost" in status_line(lost())
    assert "note      The producer is gone" in summary(lost())


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_the_summary_fits_80_columns(name: str) -> None:
    lines = summary(FRAMES[name]()).splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_no_escape_codes(name: str) -> None:
    frame = FRAMES[name]()
    assert "\n" not in status_line(frame)
    assert "\x1b" not in status_line(frame) + summary(frame)


def test_headless_does_not_load_textual() -> None:
    code = (
        "import sys, console.headless; sys.exit('textual' in sys.modules or 'rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_snapshot_has_the_events_that_waited_for_earlier_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scheduler_events.jsonl"
    stream = [line for line in lines(storm=False) if "request_attempt_id" not in line][:20]
    path.write_text("".join(json.dumps(line) + "\n" for line in stream))
    show_once(path, growing=True, once=True)
    assert "events    20\n" in capsys.readouterr().out
