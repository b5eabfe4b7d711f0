"""Damages a recording in many ways and asks it all the same: a crash ends this process, not the
test. `python -m tests.replay.fuzz.damaged RECORDING COUNT` prints each seed before it is tried."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from tests.replay.fuzz.exercise import ask, assert_harmless, look_at


def damaged(whole: bytes, seed: int) -> bytes:
    dice = random.Random(seed)
    content = bytearray(whole)
    how = seed % 4
    if how == 0:
        return whole[: dice.randrange(12, len(whole))]
    if how == 1:
        for _ in range(dice.randint(1, 5)):
            content[dice.randrange(12, len(content))] ^= 1 << dice.randrange(8)
    elif how == 2:
        start = dice.randrange(12, len(content))
        end = min(len(content), start + dice.randint(1, 5_000))
        content[start:end] = bytes(end - start)
    else:
        content[dice.randrange(12, 3 * 4_096)] ^= 1 << dice.randrange(8)
    return bytes(content)


def main(recording: Path, count: int) -> None:
    whole = recording.read_bytes()
    with tempfile.TemporaryDirectory(prefix="headgate-fuzz-") as folder:
        path = Path(folder) / "damaged.duckdb"
        for seed in range(count):
            print("seed", seed, flush=True)
            path.write_bytes(damaged(whole, seed))
            look_at(path)
            for arguments in (
                ("why", path),
                ("sql", path, "FROM leases"),
                ("export", path, "--format", "jsonl", "--out", "-"),
            ):
                code, said = ask(*arguments)
                assert code in (0, 2, 4), said
                assert "Traceback" not in said
                assert_harmless(said)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
