"""Their script `support_desk.py`, the two providers it calls and what those recorded themselves."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.e2e.program import HEADGATE
from tests.scripted_server import COMMAND, Served

SCRIPT = Path(__file__).with_name("support_desk.py")
RECORDS = 60
LLM_COLUMNS = ("ticket", "summary", "reply", "tone", "score")
STORMY = "beta/judge-70b/chat"
"""The request resource that the storm hits."""
RETRY_AFTER = 0.8
STORM_SECONDS = 2.0
"""At least so long lie the first and the last 429 of a storm apart."""
PATIENCE = 90.0
"""Seconds for their script to begin: it imports a lot, and a machine may be busy."""
NOWHERE = "http://127.0.0.1:9"

Row = dict[str, Any]


@dataclass(frozen=True)
class Desk:
    """A folder in which their script runs, with the providers of `environment`."""

    folder: Path
    environment: Mapping[str, str]
    seconds: float
    """What an answer takes, about."""
    records: int = RECORDS

    def command(self, mode: str, **run_config: Any) -> list[str]:
        """Their command line: `mode` is `create` or `preview`."""
        settings = {"buffer_size": self.records // 3, **run_config}
        return [
            os.environ["HEADGATE_PEER_PYTHON"],
            str(SCRIPT),
            mode,
            str(self.records),
            "seed.csv",
            str(self.out),
            *(f"{name}={json.dumps(value)}" for name, value in settings.items()),
        ]

    def run(self, mode: str, **run_config: Any) -> subprocess.CompletedProcess[str]:
        """Their command without headgate. Raises `AssertionError` where it fails."""
        done = subprocess.run(
            self.command(mode, **run_config),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done

    @contextmanager
    def started(self, mode: str, **run_config: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Their command at work, without headgate; what is left of it is killed in the end."""
        with self._at_work(self.command(mode, **run_config)) as process:
            yield process

    @contextmanager
    def executed(self, mode: str, **run_config: Any) -> Iterator[subprocess.Popen[bytes]]:
        """As `started`, under `headgate exec`; the folder of the run is `run`."""
        own = [str(HEADGATE), "exec", "--out", "run", "--"]
        with self._at_work([*own, *self.command(mode, **run_config)]) as process:
            yield process

    @contextmanager
    def _at_work(self, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def native_events(self) -> Path:
        """Where Data Designer itself writes scheduler events, if it is told to."""
        return self.out / "dataset" / "scheduler_events.jsonl"

    @property
    def loaded(self) -> list[Row]:
        """The dataset as their script loaded it."""
        rows: list[Row] = json.loads((self.out / "loaded.json").read_text())
        return rows

    @property
    def cost(self) -> dict[str, float]:
        """Seconds that the generation took of the clock (`wall`) and of the processor (`cpu`), and
        what their whole process took (`whole_process_cpu`)."""
        cost: dict[str, float] = json.loads((self.out / "cost.json").read_text())
        return cost

    @property
    def served(self) -> list[Served]:
        """What the providers recorded themselves."""
        log = self.folder / "served.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [Served(**json.loads(line)) for line in lines]

    @contextmanager
    def storm(self) -> Iterator[None]:
        """Beta, once it is at work, answers with nothing but 429, for a while or longer."""
        wait_until(lambda: len(self._beta("answer")) > 10, "beta at work")
        self._put("beta", {**self._script(2), "rate_limits": [{"retry_after": RETRY_AFTER}]})
        yield
        wait_until(lambda: bool(self._beta("rate_limited")), "the first 429")
        wait_until(lambda: self.refused[-1] - self.refused[0] > STORM_SECONDS, "a storm")
        self._put("beta", self._script(2))

    @property
    def refused(self) -> list[float]:
        """When each 429 was given, in monotonic seconds of this machine, in order."""
        return sorted(item.answered_at for item in self._beta("rate_limited"))

    def _beta(self, outcome: str) -> list[Served]:
        return [
            record
            for record in self.served
            if (record.provider, record.outcome) == ("beta", outcome)
        ]

    def _script(self, seed: int) -> dict[str, Any]:
        return {"seed": seed, "latency": {"mean": self.seconds, "spread": self.seconds / 3}}

    def _put(self, provider: str, script: dict[str, Any]) -> None:
        url = self.environment[f"{provider.upper()}_URL"].replace("/v1", "/script")
        request = urllib.request.Request(url, json.dumps(script).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            pass


@contextmanager
def open_desk(folder: Path, seconds: float, records: int = RECORDS) -> Iterator[Desk]:
    """A desk whose providers answer after about `seconds`."""
    folder.mkdir(parents=True)
    (folder / "out").mkdir()
    topics = ("tides", "bridges", "lanterns")
    lines = [f"{number},{topics[number % 3]}" for number in range(records)]
    (folder / "seed.csv").write_text("\n".join(["number,topic", *lines]) + "\n")
    desk = Desk(folder, {}, seconds, records)
    script = folder / "providers.yaml"
    script.write_text(json.dumps({"alpha": desk._script(1), "beta": desk._script(2)}))
    log = folder / "served.jsonl"
    server = subprocess.Popen(
        [*COMMAND, script, "--for", "300", "--log", log],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        urls = dict(server.stdout.readline().split() for _ in range(2))
        own = {
            "ALPHA_URL": urls["alpha"],
            "BETA_URL": urls["beta"],
            "DATA_DESIGNER_HOME": str(folder / "home"),
            "HEADGATE_HOME": str(folder / "headgate"),
            "NEMO_TELEMETRY_ENABLED": "false",
            "HTTPS_PROXY": NOWHERE,  # nothing leaves this machine
        }
        yield replace(desk, environment={**os.environ, **own})
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)
