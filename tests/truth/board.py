"""The scoreboard: `python -m tests.truth.board [SITUATION ...]`, or `make truth`.

Runs every situation for real, asks `why` of each recording, and scores it. With `--write` the
table goes into `plans/diagnosis.md`; with `--keep FOLDER` recordings and truth are kept, in the
form of `tests/truth/recordings.py`, in a folder for each turn (`FOLDER/1`). Exit code 1 where
something false was said.
"""

from __future__ import annotations

import argparse
import itertools
import lzma
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from tests.e2e.program import HEADGATE
from tests.truth.answer import ask
from tests.truth.expectations import EXPECTATIONS
from tests.truth.facts import Run, Source, Truth
from tests.truth.recordings import SUFFIX
from tests.truth.rules import Score, score
from tests.truth.situations import SITUATIONS, Situation
from tests.truth.table import Cell, summary, write_table
from tests.truth.trial import Trial, try_out
from tests.truth.windows import run_of


def cells(
    situation: Situation, turn: int, scratch: Path, designer: str | None, keep: Path | None
) -> Iterator[Cell]:
    """Run one situation with each program, and score each recording."""
    runs: list[Run] = []
    for program in situation.programs:
        if program == "exec" and designer is None:
            continue
        trial = try_out(situation, program, scratch / program, designer or "")
        for source, path in _recordings(trial):
            run, result, said = _scored(trial, source, path)
            yield Cell(situation.name, source, turn, result, said)
            runs.append(run)
            if keep is not None:
                _keep(keep, run, path)
    if keep is not None:
        truth = Truth(situation.name, situation.what, tuple(runs))
        (keep / f"{situation.name}{SUFFIX}").write_bytes(
            msgspec.json.format(msgspec.json.encode(truth), indent=1)
        )


def _recordings(trial: Trial) -> Iterator[tuple[Source, Path]]:
    if trial.recording.exists():
        yield trial.program, trial.recording
    if trial.program == "exec" and trial.native.exists():
        yield "native", trial.native


def _scored(trial: Trial, source: Source, path: Path) -> tuple[Run, Score, str]:
    answer = ask(path)
    said = answer.report.run
    began = said.began_monotonic
    if began is None:
        first = path.open("rb").readline()
        began = msgspec.json.decode(first)["captured_at_monotonic"]
    file = f"{trial.situation.name}.{source}.jsonl.xz"
    run = run_of(trial, file, source, began, said.seconds)
    return run, score(run, EXPECTATIONS[trial.situation.name], answer), answer.headline


def _keep(folder: Path, run: Run, path: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if run.source == "native":
        data = path.read_bytes()
    else:
        plain = folder / run.file.removesuffix(".xz")
        subprocess.run(
            [HEADGATE, "export", path, "--format", "jsonl", "--out", plain],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        data = plain.read_bytes()
        plain.unlink()
    (folder / run.file).write_bytes(lzma.compress(data, preset=9))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.truth.board")
    parser.add_argument("situations", nargs="*", help="default: all")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--neighbour", action="store_true", help="one core is busy all the while")
    parser.add_argument("--only", choices=("own", "exec"), help="one program")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--write", action="store_true", help="the table of plans/diagnosis.md")
    options = parser.parse_args(arguments)
    designer = os.environ.get("HEADGATE_PEER_PYTHON")
    known = {situation.name: situation for situation in SITUATIONS}
    chosen = [known[name] for name in options.situations] or list(SITUATIONS)
    result: list[Cell] = []
    failed = False
    if options.neighbour:
        chosen = [replace(situation, neighbour=True) for situation in chosen]
    if options.only:
        chosen = [
            replace(
                situation,
                programs=tuple(name for name in situation.programs if name == options.only),
            )
            for situation in chosen
        ]
    for turn, situation in itertools.product(range(1, options.runs + 1), chosen):
        keep = options.keep and options.keep / str(turn)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="truth-") as scratch:
            try:
                for cell in cells(situation, turn, Path(scratch), designer, keep):
                    result.append(cell)
                    print_cell(cell)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                failed = True
                print(f"{situation.name}: could not be run: {error}", flush=True)
        print(f"    ({time.monotonic() - began:.0f} s)", flush=True)
    print(summary(result))
    if options.write:
        write_table(result, {situation.name: situation.what for situation in chosen})
    return 1 if failed or any(cell.score.grade == "false" for cell in result) else 0


def print_cell(cell: Cell) -> None:
    print(f"{cell.situation:12} {cell.source:7} {cell.score.grade}")
    print(f"    {cell.said}")
    for reason in cell.score.reasons:
        print(f"    - {reason}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
