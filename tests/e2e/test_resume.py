"""A run that is interrupted at random instants, and goes on: its dataset is that of an undisturbed
run, and no call is paid for twice but those that were in flight."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.workflow.schema import Workflow
from tests.e2e.ended_run import ENGINE, RECORDER, kill_all, processes_of, record_of, wait_for
from tests.e2e.program import HEADGATE, environment, headgate
from tests.effort import effort
from tests.engine_run import run_engine
from tests.scripted_server import COMMAND

PARALLEL = 4
RECORDS = 60
ROW_GROUP = 10
JUST_BEFORE_SECONDS = 0.5
"""An answer that the server sent so shortly before an interruption may not have been taken in."""
SERVED_SECONDS = 3600
"""Longer than any test takes; the provider ends with its test."""
SCRIPT = {"seed": 4, "latency": {"mean": 0.06, "spread": 0.03}}
CANARY_PROMPT = "canary-of-a-prompt {{ topic }} {{ n }}"
CANARY_KEY = "canary-of-a-key-0123456789"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def workflow_of(provider: dict[str, Any], records: int = RECORDS) -> dict[str, Any]:
    return {
        "name": "resumed",
        "records": records,
        "seed": 5,
        "providers": {"p": provider},
        "models": {"m": {"provider": "p", "model": "x", "max_parallel_requests": PARALLEL}},
        "columns": [
            {"name": "n", "type": "sampler", "uuid": True},
            {"name": "topic", "type": "sampler", "values": ["tides", "lanterns"]},
            {"name": "q", "type": "llm_text", "model": "m", "prompt": CANARY_PROMPT},
            {"name": "title", "type": "expression", "template": "{{ q[:20] }}"},
            {
                "name": "a",
                "type": "llm_text",
                "model": "m",
                "prompt": "{{ title }} {{ n }} {{ q }}",
            },
        ],
        "run": {"buffer_size": ROW_GROUP, "max_concurrent_row_groups": 3, "stop_seconds": 1},
    }


class Interrupted:
    """A run of the installed program at a provider that keeps a log of its own."""

    def __init__(self, tmp_path: Path, url: str, log: Path, records: int = RECORDS) -> None:
        self.cwd = tmp_path
        self.out = tmp_path / "out"
        self.instants: list[float] = []
        self.records = records
        self._log = log
        self.workflow = tmp_path / "workflow.json.yaml"
        provider = {"type": "openai", "base_url": url, "api_key_env": "CANARY_KEY"}
        self.workflow.write_text(json.dumps(workflow_of(provider, records)))

    def go_on(self, interrupt: tuple[str, int, float] | None = None) -> tuple[int, str]:
        """Begin or resume.

        Args:
            interrupt: Victim, signal and seconds after the start; negative, after the begin.
        """
        began = (self.out / "run.json").exists()
        with subprocess.Popen(
            [
                HEADGATE,
                "run",
                self.workflow,
                "--headless",
                "--resume" if began else "--out",
                self.out,
            ],
            cwd=self.cwd,
            env=environment(self.cwd, {"CANARY_KEY": CANARY_KEY}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as front:
            try:
                if interrupt is not None:
                    self._interrupt(front, *interrupt)
                said, _ = front.communicate(timeout=120)
                if interrupt is not None and interrupt[0] == "front":
                    kill_engine(self.out)
                wait_for(lambda: not processes_of(self.out, ENGINE, RECORDER), "the end")
            finally:
                kill_all(self.out)
        return front.returncode, said

    def _interrupt(
        self, front: subprocess.Popen[str], victim: str, number: int, delay: float
    ) -> None:
        if delay < 0:
            begun = lambda: self.has_begun() or front.poll() is not None  # noqa: E731
            wait_for(begun, "the begin of the run", seconds=180)
        time.sleep(abs(delay))
        pids = [front.pid] if victim == "front" else processes_of(self.out, ENGINE)
        self.instants.append(time.monotonic())
        for pid in pids:
            os.kill(pid, number)
        if victim == "front" and number == signal.SIGKILL:
            kill_engine(self.out)

    def has_begun(self) -> bool:
        try:
            running = record_of(self.out)["state"] == "running"
        except FileNotFoundError:
            return False
        return running and bool(processes_of(self.out, ENGINE))

    def check(self) -> None:
        """The dataset is whole and the same; calls were repeated only where they were in flight."""
        record = record_of(self.out)
        assert (record["state"], record["outcome"]) == ("complete", "success"), record
        assert record["rows_done"] == self.records
        made = rows_in(self.out / "dataset")
        expected = undisturbed(self.cwd / "expected", self.records)
        assert made == expected
        calls = [json.loads(line) for line in self._log.read_text().splitlines()]
        answers: dict[str, list[float]] = {}
        for call in calls:
            if call["outcome"] == "answer":
                answers.setdefault(call["prompt_digest"], []).append(call["answered_at"])
        assert len(answers) == 2 * self.records
        for times in answers.values():
            for answered_at in sorted(times)[:-1]:
                assert any(
                    answered_at - instant > -JUST_BEFORE_SECONDS for instant in self.instants
                ), (answered_at, self.instants)
        repeated = sum(len(times) - 1 for times in answers.values())
        assert repeated <= PARALLEL * len(self.instants)
        canaries = [CANARY_KEY, "canary-of-a-prompt", made[0]["a"], made[-1]["q"], made[7]["n"]]
        options = [word for canary in canaries for word in ("--canary", canary)]
        said = headgate("verify", self.out, *options, cwd=self.cwd)
        assert said.returncode == 0, said.stdout
        for path in self.out.rglob("*"):
            if path.is_file() and path.parent.name != "dataset":
                content = path.read_bytes()
                assert not [word for word in canaries if word.encode() in content], path


def kill_engine(out: Path) -> None:
    for pid in processes_of(out, ENGINE):
        os.kill(pid, signal.SIGKILL)


def rows_in(dataset: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(dataset.glob("row-*.parquet")) for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def undisturbed(dataset: Path, records: int) -> list[dict[str, Any]]:
    provider = {"type": "scripted", **SCRIPT}
    run_engine(Workflow.model_validate(workflow_of(provider, records)), dataset=dataset)
    return rows_in(dataset)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Base URL of a scripted provider behind real HTTP, and its log; it ends by itself."""
    script, log = tmp_path / "providers.yaml", tmp_path / "served.jsonl"
    script.write_text(json.dumps({"p": SCRIPT}))
    with subprocess.Popen(
        [*COMMAND, str(script), "--log", str(log), "--for", str(SERVED_SECONDS)],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split()[1], log
        finally:
            server.terminate()


@pytest.mark.parametrize("seed", range(effort(1, 20)))
def test_random_instants(seed: int, tmp_path: Path, provider: tuple[str, Path]) -> None:
    source = random.Random(seed)
    run = Interrupted(tmp_path, *provider)
    for _ in range(effort(3, 5)):
        victim = source.choice(["engine", "engine", "front"])
        code, said = run.go_on((victim, source.choice(SIGNALS), source.uniform(0.2, 3.0)))
        assert "Traceback" not in said or "KeyboardInterrupt" in said, said
        if code == 0:
            break
    code, said = run.go_on()
    assert code == 0, said
    run.check()


def test_many_interruptions_in_a_row(tmp_path: Path, provider: tuple[str, Path]) -> None:
    """Each part makes some progress and is then killed or stopped."""
    times = effort(3, 30)
    run = Interrupted(tmp_path, *provider, records=effort(120, 1500))
    for part in range(times):
        code, said = run.go_on(("engine", SIGNALS[part % 3], -0.4))
        assert code != 0, (part, said)
    code, said = run.go_on()
    assert code == 0, said
    run.check()
    assert record_of(run.out)["resumes"] >= times - 1
