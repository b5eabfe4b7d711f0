"""Many commands in little time: one warm process forks for each, with bounds of time and memory.

Run as `python -m tests.e2e.forked`: cases come as JSON lines on stdin, results go to stdout.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 512 << 20
"""That a command may take beyond what the warm process has."""


class Outcome(NamedTuple):
    code: int
    """Negative: the signal that ended it."""
    out: str
    err: str
    seconds: float
    grown_bytes: int


class Forked:
    """The near side. Commands run one after the other."""

    def __init__(self, cwd: Path, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "HEADGATE_HOME": str(home), "PYTHONPATH": str(ROOT)},
            cwd=cwd,
            text=True,
        )

    def run(self, *arguments: str | Path, timeout: float) -> Outcome:
        """`timeout` seconds, after which the command is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        case = {"arguments": [str(argument) for argument in arguments], "timeout": timeout}
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        return Outcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def _serve() -> None:
    import replay.diagnosis.report.build
    import replay.recording.query
    import replay.verify.verify  # noqa: F401

    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps(_run(case["arguments"], case["timeout"])), flush=True)


def _run(arguments: list[str], timeout: float) -> tuple[Any, ...]:
    out, err = Path("stdout"), Path("stderr")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_command(arguments, out, err)
    while (ended := os.wait4(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - began > timeout:
            os.kill(child, signal.SIGKILL)
            ended = os.wait4(child, 0)
            break
        time.sleep(0.005)
    seconds = time.monotonic() - began
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = max(0, ended[2].ru_maxrss - own) * 1024
    code = os.waitstatus_to_exitcode(ended[1])
    texts = [path.read_text(errors="replace") for path in (out, err)]
    return code, *texts, seconds, grown


def _be_command(arguments: list[str], out: Path, err: Path) -> None:
    from console.cli.main import run_cli

    code = 99
    try:
        for path, descriptor in ((out, 1), (err, 2)):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(fd, descriptor)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        code = run_cli(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
