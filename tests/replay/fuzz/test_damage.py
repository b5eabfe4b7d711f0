"""Damaged recordings, hostile recordings, bombs, and things that are no files at all."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from replay.runs.materialize import materialize
from tests.effort import effort
from tests.replay.fuzz.exercise import ask, ask_all, assert_harmless, look_at
from tests.replay.fuzz.hostile import FACTOR, HOSTILE_TEXTS, own_lines

ROOT = Path(__file__).parents[3]
MEMORY_MB = 450
"""Of a process that reads a bomb; a third of it is what it loads to read anything."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("whole") / "run.jsonl"
    path.write_bytes(b"\n".join(own_lines(3, row_groups=2)))
    with materialize(path, lambda _: None) as result:
        yield result


def test_damaged_recordings(recording: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.replay.fuzz.damaged",
            str(recording),
            str(effort(8, 24) * FACTOR),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-2_000:]


def test_a_recording_whose_every_text_is_hostile(recording: Path, tmp_path: Path) -> None:
    """As somebody might send it: made with DuckDB, not by a recorder."""
    path = tmp_path / "hostile.duckdb"
    path.write_bytes(recording.read_bytes())
    hostile = "".join(text for text in HOSTILE_TEXTS if len(text) < 100 and "\0" not in text)
    with duckdb.connect(str(path)) as connection:
        texts = connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE data_type = 'VARCHAR'"
            " AND table_name NOT IN ('meta', 'resume') AND NOT internal"
            " AND column_name NOT IN ('stream', 'kind', 'series', 'scope', 'detail')"
        ).fetchall()
        for table, column in texts:
            if column in ("snapshot", "diagnostics"):
                connection.execute(f'UPDATE "{table}" SET "{column}" = NULL')
            else:
                connection.execute(f'UPDATE "{table}" SET "{column}" = "{column}" || ?', [hostile])
        connection.execute(
            "UPDATE meta SET value = replace(value, '\"name\":\"test\"', ?) WHERE key = 'run'",
            ['"name":"\\u001b[31mred\\u202e"'],
        )
    look_at(path)
    assert ask_all(path) <= {0, 1, 4}


@pytest.mark.parametrize(
    "target", ["fifo", "loop", "folder.duckdb", "nul\0byte", "x" * 5_000, "missing/\x1b[31m", ""]
)
def test_what_is_no_file_is_refused_in_one_sentence(tmp_path: Path, target: str) -> None:
    if target == "fifo":
        os.mkfifo(tmp_path / target)
    elif target == "loop":
        (tmp_path / target).symlink_to(tmp_path / target)
    elif target == "folder.duckdb":
        (tmp_path / target).mkdir()
    for command in (["why"], ["replay", "--once"], ["verify"], ["sql", "--views"]):
        name, *options = command
        code, said = ask(name, os.path.join(tmp_path, target) if target else "", *options)
        assert code == 2, said
        assert len(said.splitlines()) == 1, said
        assert_harmless(said)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/full"])
def test_a_device_is_refused(device: str) -> None:
    code, said = ask("why", device)
    assert code == 2, said


@pytest.mark.parametrize("bomb", ["one line", "empty lines", "long lines", "foreign lines"])
def test_a_bomb_takes_no_memory(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    padding = b" " * 1_000_000
    with gzip.open(path, "wb", 1) as file:
        lines = own_lines()
        file.write(lines[0] + b"\n" + lines[1] + b"\n")
        if bomb == "one line":
            for _ in range(200):
                file.write(padding)
        elif bomb == "empty lines":
            for _ in range(5):
                file.write(b"\n" * 1_000_000)
        elif bomb == "long lines":
            for line in lines[2:202]:
                file.write(line[:-1] + padding + b"}\n")
    if bomb == "foreign lines":
        with gzip.open(path, "wb", 1) as file:
            head = b'{"event_kind":"selected","captured_at_monotonic":%d.0,"sequence":%d,'
            for number in range(1, 250):
                file.write(head % (number // 100, number) + b'"diagnostics":{"a":"')
                file.write(b"a" * 1_000_000 + b'"}}\n')
    code, _, peak = measured(["why", str(path)])
    assert code in (0, 4)
    assert peak < MEMORY_MB


def measured(arguments: list[str]) -> tuple[int, bytes, float]:
    """Exit code, output and peak memory (MB) of a command in a process of its own."""
    # Not `ru_maxrss`: a child inherits the peak of the process that started it.
    code = (
        "import sys; from console.cli.main import run_cli; code = run_cli(sys.argv[1:]);"
        "lines = open('/proc/self/status'); peak = [l for l in lines if l.startswith('VmHWM')][0];"
        "print(peak.split()[1], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, check=False
    )
    return done.returncode, done.stdout, int(done.stderr.split()[-1]) / 1024
