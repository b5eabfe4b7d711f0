"""Seconds to the first picture and to the verdicts of recordings, as their reader feels them.

    python tests/bench/foreign_files.py RECORDING...

Each is opened in the console in a pseudo-terminal, until the words that only a loaded run shows are
on the screen, and given to `headgate why`; start-up of the interpreter is included. Of several
rounds the median is printed with the slowest. Exit code 1 where a median is over its budget.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.e2e.program import HEADGATE
from tests.e2e.terminal import Terminal

ROUNDS = 5
FIRST_PICTURE, VERDICTS = 2.0, 5.0
LOADED = ("Queue by group", "Where capacity went", "rows")


def first_picture(recording: Path) -> float:
    """To the screen of a replay that stands at the first event, with its groups."""
    began = time.monotonic()
    with Terminal([HEADGATE, "replay", recording]) as terminal:
        terminal.wait_for(*LOADED, "submission")
        return time.monotonic() - began


def verdicts(recording: Path) -> float:
    began = time.monotonic()
    subprocess.run([HEADGATE, "why", recording], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def main(recordings: list[Path]) -> int:
    over = False
    for recording in recordings:
        measures: tuple[tuple[str, Callable[[Path], float], float], ...] = (
            ("first picture", first_picture, FIRST_PICTURE),
            ("why", verdicts, VERDICTS),
        )
        for name, measure, budget in measures:
            seconds = [measure(recording) for _ in range(ROUNDS)]
            middle = statistics.median(seconds)
            over = over or middle > budget
            size = recording.stat().st_size / 1e6
            print(
                f"{recording.name} ({size:.1f} MB)  {name:13}  median {middle:.2f} s, "
                f"slowest {max(seconds):.2f} s, budget {budget:.0f} s"
            )
    return int(over)


if __name__ == "__main__":
    sys.exit(main([Path(item) for item in sys.argv[1:]]))
