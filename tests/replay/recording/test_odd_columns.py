"""Any value in any column of any table of a recording: a sentence, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effort import effort
from tests.replay.fuzz.exercise import assert_harmless, look_at
from tests.replay.recording.crafted import Crafted
from tests.replay.recording.odd_columns import with_odd_columns, with_odd_tables
from tests.replay.recording.odd_states import with_odd_state
from tests.replay.recording.test_crafted import COMMANDS, SECONDS, ask_of, processor_seconds

LARGEST_OUTPUT = 64 << 20
"""Characters of what a command says."""
AT_ONCE = effort(1, 3)
"""Commands that are tried on each recording; which, changes from one to the next."""
CASES = [
    pytest.param(nth, case, id=case.name)
    for nth, case in enumerate([*with_odd_columns(), *with_odd_tables()])
][:: effort(61, 1)]


@pytest.mark.parametrize(("nth", "case"), CASES)
def test_a_column_that_holds_anything(good: Path, tmp_path: Path, nth: int, case: Crafted) -> None:
    assert_reported(case.make(good, tmp_path), nth)


@pytest.mark.parametrize("seed", range(effort(6, 200)))
def test_a_keyframe_that_holds_anything(good: Path, tmp_path: Path, seed: int) -> None:
    assert_reported(with_odd_state(good, seed).make(good, tmp_path), seed)


def assert_reported(recording: Path, nth: int) -> None:
    """A few commands, and a console, say what they can or why they can't."""
    for at in range(AT_ONCE):
        command = COMMANDS[(nth + at * 5) % len(COMMANDS)]
        code, said, seconds = ask_of(command, recording)
        assert "Traceback" not in said, (command, said)
        assert code in (0, 1, 2, 4), (command, said)
        assert seconds < SECONDS, command
        if code in (2, 4) and command[0] != "verify":
            sentences = [line for line in said.splitlines() if line.startswith("headgate: ")]
            assert len(sentences) == 1, (command, said)
        assert len(said) < LARGEST_OUTPUT, command
        assert_harmless(said)
    began = processor_seconds()
    look_at(recording)
    assert processor_seconds() - began < SECONDS
