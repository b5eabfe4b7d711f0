"""Every command with every kind of broken stdin, stdout and stderr."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.program import HEADGATE, environment, headgate
from tests.effort import effort
from tests.fixtures.data_designer_format import generate

STREAMS = ("stdin", "stdout", "stderr")
NUMBER = {name: number for number, name in enumerate(STREAMS)}

COMMANDS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "version": ("--version",),
    "help of one": ("why", "--help"),
    "misuse": ("why", "--sideways", "storm.jsonl"),
    "no such file": ("why", "nowhere.duckdb"),
    "runs": ("runs",),
    "runs as json": ("runs", "--json"),
    "why": ("why", "storm.jsonl"),
    "why as json": ("why", "storm.jsonl", "--json"),
    "verify": ("verify", "storm.jsonl"),
    "sql": ("sql", "storm.jsonl", "SELECT * FROM events"),
    "sql as csv": ("sql", "storm.jsonl", "--csv", "SELECT * FROM events"),
    "sql from stdin": ("sql", "storm.jsonl", "-"),
    "views": ("sql", "storm.jsonl", "--views"),
    "export": ("export", "storm.jsonl", "--format", "jsonl", "--out", "-"),
    "export to a file": ("export", "storm.jsonl", "--format", "svg", "--force"),
    "compare": ("compare", "storm.jsonl", "storm.jsonl"),
    "bench": ("bench", "list"),
    "watch": ("watch", "storm.jsonl", "--once"),
    "replay": ("replay", "storm.jsonl"),
    "exec": ("exec", "--", "cat", "storm.jsonl"),
    "demo": ("demo", "--headless", "--records", "1"),
}
SAYS_NOTHING = ("export to a file",)
"""On stdout."""


@dataclass(frozen=True)
class Done:
    code: int
    said: str
    """What came out on the streams that still worked."""


@contextmanager
def closed(number: int) -> Iterator[int | None]:
    yield None


@contextmanager
def full(number: int) -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


@contextmanager
def abandoned(number: int) -> Iterator[int]:
    """A pipe whose other end is closed."""
    read, write = os.pipe()
    mine, its = (write, read) if number == 0 else (read, write)
    os.close(mine)
    yield its
    os.close(its)


@contextmanager
def wrong_way(number: int) -> Iterator[int]:
    """Not open for what it is for."""
    descriptor = os.open(os.devnull, os.O_WRONLY if number == 0 else os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def hung_up(number: int) -> Iterator[int]:
    """A terminal that nobody has at its other end."""
    master, slave = os.openpty()
    os.close(master)
    yield slave
    os.close(slave)


BREAKS: dict[str, Callable[[int], object]] = {
    "closed": closed,
    "full": full,
    "abandoned": abandoned,
    "wrong way": wrong_way,
    "hung up": hung_up,
}


def run(arguments: Sequence[str | Path], broken: dict[int, str], cwd: Path) -> Done:
    """The command with some of its streams broken."""
    with ExitStack() as stack, (cwd / "query.sql").open() as stdin:
        handed: dict[int, int | None] = {
            number: stack.enter_context(BREAKS[how](number))  # type: ignore[arg-type]
            for number, how in broken.items()
        }

        def before_exec() -> None:
            for number, descriptor in handed.items():
                if descriptor is None:
                    os.close(number)
                else:
                    os.dup2(descriptor, number)

        done = subprocess.run(
            [str(part) for part in arguments],
            cwd=cwd,
            env=environment(cwd),
            stdin=stdin,
            capture_output=True,
            preexec_fn=before_exec,
            timeout=120,
            check=False,
        )
    return Done(done.returncode, (done.stdout + b"\n" + done.stderr).decode())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "query.sql").write_text("SELECT * FROM events")
    generate(folder / "storm.jsonl", storm=True, rows=20)
    assert headgate("demo", "--headless", "--records", "1", "--out", "run", cwd=folder).stdout
    return folder


EVERY = [
    (command, stream, how)
    for command in COMMANDS
    for stream in STREAMS
    for how in BREAKS
    if (stream, how) != ("stdin", "full")
]
CASES = effort(random.Random(9).sample(EVERY, 10), EVERY)
UNBROKEN = {"misuse": 2, "no such file": 2}


def expected_codes(command: str, stream: str, how: str, place: Path) -> set[int]:
    """What the command may leave with."""
    code = UNBROKEN.get(command, 0)
    if command == "exec":  # as if nobody stood between
        return {run(COMMANDS["exec"][2:], {NUMBER[stream]: how}, place).code}
    if stream == "stdin":
        return {2 if command == "sql from stdin" else code}
    if how == "abandoned" or (stream == "stderr" and how == "closed"):
        return {code}
    if stream == "stderr":
        return {code, code or 74}  # not every command says something there
    return {code if code or command in SAYS_NOTHING else 74}


@pytest.mark.parametrize(
    ("command", "stream", "how"), [pytest.param(*case, id=", ".join(case)) for case in CASES]
)
def test_a_broken_stream_is_one_sentence(command: str, stream: str, how: str, place: Path) -> None:
    done = run([HEADGATE, *COMMANDS[command]], {NUMBER[stream]: how}, place)
    assert "Traceback" not in done.said
    assert "Exception ignored" not in done.said
    assert done.code in expected_codes(command, stream, how, place), done.said
    said = [line for line in done.said.splitlines() if "could not be written" in line]
    assert len(said) == (done.code == 74 and (stream == "stdout" or command == "demo"))


@pytest.mark.parametrize("command", ["why", "sql", "verify"])
def test_a_recording_is_never_what_a_closed_stream_was(command: str, place: Path) -> None:
    """What is opened first gets the number of a closed stream."""
    recording = place / "run" / "recording.duckdb"
    before = recording.read_bytes()
    query = ["SELECT * FROM events"] if command == "sql" else []
    closed_streams = dict.fromkeys((0, 1, 2), "closed")
    arguments = [str(HEADGATE), command, "run", *query]
    assert run(arguments, closed_streams, place).code == 74
    assert recording.read_bytes() == before


def test_a_run_goes_on_without_anyone_who_reads(tmp_path: Path) -> None:
    """As in `headgate demo --headless 2>&1 | head -1`."""
    process = subprocess.Popen(
        [HEADGATE, "demo", "--headless", "--records", "20", "--out", "run"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0
    shown = headgate("watch", "run", "--once", cwd=tmp_path)
    assert "20/20 rows" in shown.stdout


def test_what_a_run_could_not_say_is_said_on_the_other_stream(place: Path, tmp_path: Path) -> None:
    (tmp_path / "query.sql").touch()
    arguments = [str(HEADGATE), "demo", "--headless", "--records", "20", "--out", "run"]
    done = run(arguments, {2: "full"}, tmp_path)
    assert "20/20 rows" in done.said
    assert "stderr could not be written: No space left on device" in done.said
    assert done.code == 74


LASTING = ("why", "sql", "verify", "export", "compare", "watch", "replay", "runs", "bench")


@pytest.mark.parametrize("command", LASTING)
def test_sigterm_at_any_time(command: str, place: Path) -> None:
    """It ends the command with its code, unless the command had ended already."""
    rng = random.Random(command)
    for _ in range(effort(1, 12)):
        with (place / "query.sql").open() as stdin:
            process = subprocess.Popen(
                [HEADGATE, *COMMANDS[command]],
                cwd=place,
                env=environment(place),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=rng.uniform(0.02, 0.5))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
        assert process.returncode in (143, -signal.SIGTERM, 0), err
        assert b"Traceback" not in out + err
