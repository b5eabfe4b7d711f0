"""Scores recordings in a folder: `python -m tests.truth.recordings FOLDER [SITUATION ...]`.

Beside `NAME.truth.json` lie the recordings that it names, compressed with xz. `--say` prints what
was said of each as well; `--reasons` why it is not right. `--grades` keeps the grades beside them:
`test_recordings.py` lets none of those in `cases` get worse. `--write` puts the table of these and
of the recordings in other folders (`--also`) into `plans/diagnosis.md`.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.truth.answer import Answer, ask
from tests.truth.expectations import EXPECTATIONS
from tests.truth.facts import Run, Truth, read_truth
from tests.truth.rules import Score, score
from tests.truth.situations import SITUATIONS
from tests.truth.table import Cell, write_table

SUFFIX = ".truth.json"
GRADES = "grades.json"


def truths(folder: Path) -> list[Truth]:
    """The situations of a folder, by name."""
    return [read_truth(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]


def answer_of(folder: Path, run: Run) -> Answer:
    """What is said of one of its recordings."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch, Path(run.file).stem)
        plain.write_bytes(lzma.decompress((folder / run.file).read_bytes()))
        return ask(plain)


def scored(folder: Path, situations: list[str]) -> Iterator[tuple[Truth, Run, Answer, Score]]:
    for truth in truths(folder):
        if situations and truth.situation not in situations:
            continue
        for run in truth.recordings:
            answer = answer_of(folder, run)
            yield truth, run, answer, score(run, EXPECTATIONS[truth.situation], answer)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.truth.recordings")
    parser.add_argument("folder", type=Path)
    parser.add_argument("situations", nargs="*")
    parser.add_argument("--say", action="store_true", help="what was said")
    parser.add_argument("--reasons", action="store_true", help="why it is not right")
    parser.add_argument("--only", help="own, exec or native")
    parser.add_argument("--grades", action="store_true", help=f"write {GRADES}")
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--write", action="store_true", help="the table of plans/diagnosis.md")
    options = parser.parse_args(arguments)
    grades: dict[str, Counter[str]] = {}
    kept: dict[str, str] = {}
    cells: list[Cell] = []
    folders = [options.folder, *options.also]
    everything = (
        (turn, *item)
        for turn, folder in enumerate(folders, 1)
        for item in scored(folder, options.situations)
    )
    for turn, truth, run, answer, result in everything:
        if options.only and run.source != options.only:
            continue
        kept[run.file] = result.grade
        cells.append(Cell(truth.situation, run.source, turn, result, answer.headline))
        grades.setdefault(run.source, Counter())[result.grade] += 1
        print(f"{truth.situation:12} {run.source:7} {result.grade}")
        if options.say:
            print(f"    {answer.headline}")
        for reason in result.reasons if options.reasons else ():
            print(f"    - {reason}")
    for source, counts in sorted(grades.items()):
        print(source, dict(counts))
    if options.grades:
        (options.folder / GRADES).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    if options.write:
        shown = {cell.situation for cell in cells}
        write_table(
            cells,
            {situation.name: situation.what for situation in SITUATIONS if situation.name in shown},
        )
    return 1 if any("false" in counts for counts in grades.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
