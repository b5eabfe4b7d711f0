"""Their script `support_desk.py`, the two providers it calls and what those recorded themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.models.scripted_server import Served

SCRIPT = Path(__file__).with_name("support_desk.py")
RECORDS = 60
LLM_COLUMNS = ("ticket", "summary", "reply", "tone", "score")
STORMY = "beta/judge-70b/chat"
"""The request resource that the storm hits."""
STORM_FROM, STORM_TO = 1.0, 3.0
"""Seconds from the first request to the provider."""
NOWHERE = "http://127.0.0.1:9"

Row = dict[str, Any]


@dataclass(frozen=True)
class Desk:
    """A folder in which their script runs, with the providers of `environment`."""

    folder: Path
    environment: Mapping[str, str]

    def command(self, mode: str, **run_config: Any) -> list[str]:
        """Their command line: `mode` is `create` or `preview`."""
        settings = {"buffer_size": RECORDS // 3, **run_config}
        return [
            os.environ["HEADGATE_PEER_PYTHON"],
            str(SCRIPT),
            mode,
            str(RECORDS),
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
        with subprocess.Popen(
            self.command(mode, **run_config),
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
    def served(self) -> list[Served]:
        lines = (self.folder / "served.jsonl").read_text().splitlines()
        return [Served(**json.loads(line)) for line in lines]

    @property
    def storm(self) -> tuple[float, float]:
        """When the first and the last 429 was given, in monotonic seconds of this machine."""
        refused = [one.answered_at for one in self.served if one.outcome == "rate_limited"]
        return min(refused), max(refused)


@contextmanager
def open_desk(folder: Path, *, storm: bool, seconds: float) -> Iterator[Desk]:
    """A desk whose providers answer after about `seconds`; in a storm, beta refuses for a while."""
    folder.mkdir(parents=True)
    (folder / "out").mkdir()
    topics = ("tides", "bridges", "lanterns")
    lines = [f"{number},{topics[number % 3]}" for number in range(RECORDS)]
    (folder / "seed.csv").write_text("\n".join(["number,topic", *lines]) + "\n")
    alpha: dict[str, Any] = {"seed": 1, "latency": {"mean": seconds, "spread": seconds / 3}}
    beta: dict[str, Any] = {**alpha, "seed": 2}
    if storm:
        window = {"from": STORM_FROM, "to": STORM_TO, "retry_after": 0.4, "allow": 0}
        beta["rate_limits"] = [window]
    script = folder / "providers.yaml"
    script.write_text(json.dumps({"alpha": alpha, "beta": beta}))
    module, log = "engine.models.scripted_server", folder / "served.jsonl"
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", module, script, "--for", "300", "--log", log],
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
        yield Desk(folder, {**os.environ, **own})
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
