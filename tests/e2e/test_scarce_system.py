"""A system that has too little of something: a sentence that says of what, and nothing is left."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from tests.e2e.ended_run import ENGINE, RECORDER, processes_of
from tests.e2e.program import HEADGATE, environment
from tests.effort import effort
from tests.replay.fuzz.hostile import own_lines

WORKFLOW = """
name: small
records: 4
providers: { a: { type: scripted, latency: { mean: 0.01 } } }
models: { m: { provider: a, model: mod } }
columns:
  - { name: topic, type: sampler, values: [x, y] }
  - { name: text, type: llm_text, model: m, prompt: "{{ topic }}" }
"""
COMMANDS: dict[str, tuple[str, ...]] = {
    "why": ("why", "run.jsonl"),
    "replay": ("replay", "run.jsonl", "--once"),
    "sql": ("sql", "run.jsonl", "FROM run"),
    "csv": ("export", "run.jsonl", "--format", "csv", "--out", "tables"),
    "perfetto": ("export", "run.jsonl", "--format", "perfetto", "--out", "trace.json"),
    "verify": ("verify", "run.jsonl"),
    "compare": ("compare", "run.jsonl", "run.jsonl"),
    "runs": ("runs",),
    "run": ("run", "workflow.yaml", "--headless", "--out", "run"),
}
LIMITS = [("NOFILE", 9), ("NOFILE", 12), ("NOFILE", 16), ("FSIZE", 0)]
CASES = [(name, *limit) for name in COMMANDS for limit in LIMITS]


@pytest.mark.parametrize(("name", "what", "limit"), CASES[:: effort(9, 1)])
def test_too_little_of_something(name: str, what: str, limit: int, tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_bytes(b"\n".join(own_lines(3, row_groups=2)))
    (tmp_path / "workflow.yaml").write_text(WORKFLOW)
    (tmp_path / "temporary").mkdir()

    def bound() -> None:
        resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (limit, limit))

    done = subprocess.run(
        [str(HEADGATE), *COMMANDS[name]],
        cwd=tmp_path,
        env=environment(tmp_path, {"TMPDIR": str(tmp_path / "temporary")}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=bound,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert "damaged" not in said, said
    assert done.returncode in (0, 1, 2, 3, 74), said
    sentences = [line for line in done.stderr.splitlines() if line.startswith("headgate: ")]
    assert len(sentences) == (done.returncode in (2, 74)) or name == "run", said
    assert not list((tmp_path / "temporary").iterdir())
    if name == "run":
        assert not processes_of(tmp_path / "run", ENGINE, RECORDER)
