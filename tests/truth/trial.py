"""`Trial`: one situation run for real, and what its server, its functions and we ourselves saw."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow.parquet as pq
import yaml

from engine.events.run_folder import RunFolder
from tests.e2e.program import HEADGATE
from tests.truth.server import Call
from tests.truth.situations import Situation

HERE = Path(__file__).parent
TIMEOUT_SECONDS = 120.0
"""A run that takes longer is stopped; what it says until then is scored."""
STEP_SECONDS = 10.0
NOWHERE = "http://127.0.0.1:9/v1"
Program = Literal["own", "exec"]


@dataclass
class Trial:
    """What was seen from outside."""

    situation: Situation
    program: Program
    folder: Path
    calls: list[Call] = field(default_factory=list)
    work: list[tuple[str, float, float]] = field(default_factory=list)
    """Column, and from when to when its function worked."""
    stopped: list[tuple[float, float]] = field(default_factory=list)
    exit_code: int = 0
    busy_share: float = 0.0
    """Share of the time in which something on this machine waited for a core."""
    rows_kept: int | None = None

    @property
    def recording(self) -> Path:
        return self.folder / "run"

    @property
    def native(self) -> Path:
        """Data Designer's own events of the same run."""
        return self.folder / "out" / "dataset" / "scheduler_events.jsonl"


def try_out(situation: Situation, program: Program, folder: Path, designer: str) -> Trial:
    """Run a situation to its end. `designer` is a Python that has Data Designer."""
    folder.mkdir(parents=True)
    trial = Trial(situation, program, folder)
    began, waited = time.monotonic(), _waited_seconds()
    with _server(situation, folder) as port, _neighbour(situation.neighbour):
        urls = {name: f"http://127.0.0.1:{port}/{name}/v1" for name in situation.providers}
        urls |= dict.fromkeys(situation.dead, NOWHERE)
        write = _write_own if program == "own" else _write_designer
        command = write(situation, folder, urls, designer)
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                _interfere(trial, process)
                trial.exit_code = process.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                trial.exit_code = _end(trial, process)
            finally:
                if process.poll() is None:
                    process.kill()
    trial.busy_share = (_waited_seconds() - waited) / (time.monotonic() - began)
    _collect(trial)
    return trial


def _waited_seconds() -> float:
    """How long, since the machine began, something waited for a core; 0 where it does not say."""
    try:
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(some.rpartition("=")[2]) / 1e6


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HEADGATE_HOME": str(folder / "home"),
        "DATA_DESIGNER_HOME": str(folder / "designer"),
        "NEMO_TELEMETRY_ENABLED": "false",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "TRUTH_WORK": str(folder / "work"),
        "PYTHONPATH": "",
    }


@contextmanager
def _server(situation: Situation, folder: Path) -> Iterator[int]:
    specification = folder / "providers.json"
    specification.write_bytes(msgspec.json.encode(situation.providers))
    with subprocess.Popen(
        [sys.executable, "-P", str(HERE / "server.py"), specification, folder / "calls"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    ) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


@contextmanager
def _neighbour(busy: bool) -> Iterator[None]:
    """Keeps one core busy."""
    if not busy:
        yield
        return
    core = max(os.sched_getaffinity(0))
    code = f"import os, time; os.sched_setaffinity(0, [{core}]); t = time.time() + 120\n"
    with subprocess.Popen([sys.executable, "-c", code + "while time.time() < t: pass"]) as spinner:
        try:
            yield
        finally:
            spinner.kill()


def _write_own(
    situation: Situation, folder: Path, urls: dict[str, str], designer: str
) -> list[str]:
    columns: list[dict[str, Any]] = [
        {"name": "topic", "type": "sampler", "values": [f"topic-{n}" for n in range(40)]}
    ]
    for column in situation.columns:
        if column.function is None:
            columns.append(
                {
                    "name": column.name,
                    "type": "llm_text",
                    "model": column.model,
                    "prompt": column.prompt,
                }
            )
        else:
            function = f"functions:{column.function}"
            needs = list(column.needs)
            columns.append(
                {"name": column.name, "type": "custom", "function": function, "depends_on": needs}
            )
    workflow = {
        "name": situation.name,
        "records": situation.records,
        "providers": {
            name: {"type": "openai", "base_url": url, "timeout_seconds": 60}
            for name, url in urls.items()
        },
        "models": {
            model.alias: {
                "provider": model.provider,
                "model": model.model,
                "max_parallel_requests": model.cap,
            }
            for model in situation.models
        },
        "columns": columns,
        "run": {
            "buffer_size": situation.buffer_size,
            "max_concurrent_row_groups": situation.row_groups,
        },
    }
    (folder / "workflow.yaml").write_text(yaml.safe_dump(workflow))
    (folder / "functions.py").write_bytes((HERE / "functions.py").read_bytes())
    return [str(HEADGATE), "run", "workflow.yaml", "--out", "run"]


def _write_designer(
    situation: Situation, folder: Path, urls: dict[str, str], designer: str
) -> list[str]:
    specification = {
        "functions": str(folder),
        "providers": urls,
        "models": [(m.alias, m.provider, m.model, m.cap) for m in situation.models],
        "columns": [(c.name, c.needs, c.model, c.function, c.prompt) for c in situation.columns],
        "records": situation.records,
        "buffer_size": situation.buffer_size,
    }
    (folder / "designer.json").write_text(json.dumps(specification))
    (folder / "functions.py").write_bytes((HERE / "functions.py").read_bytes())
    (folder / "script.py").write_bytes((HERE / "designer.py").read_bytes())
    (folder / "out").mkdir()
    script = [designer, "script.py", "designer.json", "out"]
    return [str(HEADGATE), "exec", "--out", "run", "--", *script]


def _interfere(trial: Trial, process: subprocess.Popen[bytes]) -> None:
    """Stop or interrupt it where the situation says so."""
    situation = trial.situation
    if situation.stop is None and situation.interrupt is None:
        return
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (trial.folder / "calls").read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            return
        time.sleep(0.01)
    if situation.interrupt is not None:
        time.sleep(situation.interrupt)
        process.send_signal(signal.SIGINT)
    if situation.stop is not None:
        after, seconds = situation.stop
        time.sleep(after)
        pid = json.loads((trial.recording / "run.json").read_text())["pid"]
        began = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
        trial.stopped.append((began, time.monotonic()))


def _end(trial: Trial, process: subprocess.Popen[bytes]) -> int:
    """Stop a run that does not end by itself: drain, abort, kill. No process of it stays."""
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(STEP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    if RunFolder(trial.recording).producer_lives:
        os.kill(json.loads((trial.recording / "run.json").read_text())["pid"], signal.SIGKILL)
    return process.wait()


def _collect(trial: Trial) -> None:
    lines = (trial.folder / "calls").read_bytes().splitlines()
    trial.calls = [msgspec.json.decode(line, type=Call) for line in lines]
    work = trial.folder / "work"
    for line in work.read_text().splitlines() if work.exists() else ():
        column, began, ended = line.split()
        trial.work.append((column, float(began), float(ended)))
    if trial.program == "own":
        files = list((trial.recording / "dataset").glob("*.parquet"))
        trial.rows_kept = sum(pq.read_metadata(file).num_rows for file in files)
    else:
        rows = trial.folder / "out" / "rows"
        trial.rows_kept = int(rows.read_text()) if rows.exists() else None
