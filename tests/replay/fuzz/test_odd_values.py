"""Every reading command on files in which one field says what no producer says."""

from __future__ import annotations

import random
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from tests.effort import effort
from tests.replay.fuzz.exercise import ask, assert_harmless
from tests.replay.fuzz.odd import Odd, odd_files

PROCESSOR_SECONDS = 10
"""Of this process for one command: some hundred times what the whole file takes."""
MEMORY_MB = 300
"""That all the commands may add to this process."""
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("replay", "{}", "--once"),
    ("replay", "{}", "--headless"),
    ("watch", "{}", "--once"),
    ("why", "{}"),
    ("verify", "{}"),
    ("sql", "{}", "FROM events"),
    ("sql", "{}", "FROM series"),
    ("sql", "{}", "FROM blame"),
    ("export", "{}", "--format", "csv", "--table", "leases", "--out", "-"),
    ("export", "{}", "--format", "jsonl", "--out", "-"),
    ("export", "{}", "--format", "perfetto", "--out", "-"),
    ("export", "{}", "--format", "svg", "--out", "-"),
    ("compare", "{}", "{}"),
)


class TooLong(BaseException):
    """Nothing catches it but the test."""


@contextmanager
def processor_time() -> Iterator[None]:
    """Not the clock: the machine may be busy."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def sample() -> list[tuple[Odd, tuple[tuple[str, ...], ...]]]:
    """Files in an order that mixes all kinds; each is read by one command, in full by two."""
    dice = random.Random(7)
    every = list(odd_files())
    chosen = dice.sample(every, effort(40, 500))
    return [(odd, tuple(dice.sample(COMMANDS, effort(1, 2)))) for odd in chosen]


@pytest.mark.parametrize("part", range(4))
def test_no_odd_value_stops_a_command(part: int) -> None:
    peak = _peak_mb()
    for odd, commands in sample()[part::4]:
        with tempfile.TemporaryDirectory(prefix="headgate-odd-") as folder:
            path = odd.write(Path(folder))
            for command in commands:
                try:
                    with processor_time():
                        code, said = ask(*(word.format(path) for word in command))
                except TooLong:
                    pytest.fail(f"{command[0]} on {odd.name} takes too long")
                assert code in (0, 1, 2, 4), (odd.name, command, said[-2_000:])
                assert "Traceback" not in said, (odd.name, command, said[-2_000:])
                assert_harmless(said)
    assert _peak_mb() - peak < MEMORY_MB


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
