"""The two sides of the comparison as processes, and the provider that both ask."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.errors import UserError
from tests.bench.peer.common import LATENCY_SECONDS
from tests.scripted_server import COMMAND

ROOT = Path(__file__).parents[3]
VERSION = "0.9.7"
SERVER_SECONDS = 4 * 3600.0
"""A provider ends by itself after so long; a whole comparison takes about an hour."""


class Worker:
    """One side: asks and waits for the answer."""

    def __init__(self, interpreter: Path, side: str, home: Path) -> None:
        # The checkout holds no package but headgate's own, so each side keeps all of its others.
        start = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from tests.bench.peer.worker import main\n"
            f"sys.exit(main({side!r}))"
        )
        self._log = (home / f"{side}.log").open("w+")
        self._process = subprocess.Popen(
            [str(interpreter), "-P", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=home,
            env=os.environ
            | {
                "NEMO_TELEMETRY_ENABLED": "false",
                "DATA_DESIGNER_HOME": str(home / "data-designer"),
                "PYTHONWARNINGS": "ignore",
            },
        )
        self.hello: dict[str, str] = self._read()

    def ask(self, **request: object) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"a side of the comparison ended: {last}")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if kind is not None:
            self._process.terminate()
        self._process.wait()
        self._log.close()


def check_interpreter(interpreter: Path) -> None:
    """Raises `UserError` unless it is a Python that has the peer in the version compared with."""
    requested = "import importlib.metadata as m; print(m.version('data-designer'))"
    try:
        ran = subprocess.run(
            [str(interpreter), "-P", "-c", requested], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        raise UserError(f"{interpreter} is no Python interpreter that runs") from None
    version = ran.stdout.strip()
    if ran.returncode or version != VERSION:
        has = f"has data-designer {version}" if not ran.returncode else "has no data-designer"
        raise UserError(
            f"{interpreter} {has}: install data-designer=={VERSION} in an environment of its own "
            "and name its Python with --python"
        )


def check_alike(ours: Worker, theirs: Worker) -> None:
    """Raises `UserError` where the interpreters alone would make a difference."""
    here, there = (worker.hello["python"].rsplit(".", 1)[0] for worker in (ours, theirs))
    if here != there:
        raise UserError(
            f"headgate runs on Python {here} and data-designer on {there}: the comparison would "
            "measure Python; use the same version for both"
        )


@contextmanager
def scripted_server(home: Path) -> Iterator[str]:
    """A process that answers as both sides' providers, alpha and beta; gives alpha's base URL."""
    script = home / "provider.json"
    latency = {"distribution": "constant", "mean": LATENCY_SECONDS}
    script.write_text(json.dumps({name: {"latency": latency} for name in ("alpha", "beta")}))
    server = subprocess.Popen(
        [*COMMAND, str(script), "--for", f"{SERVER_SECONDS:g}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[1]
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
