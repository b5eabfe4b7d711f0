"""What start-up may cost: `--help` loads no user interface, no database, no client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.program import headgate

HEAVY = {"textual", "duckdb", "openai", "pyarrow", "pydantic", "opentelemetry", "jinja2"}


def modules_loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_loaded_by("from console.cli.main import run_cli; run_cli(['--help'])")
    assert "click" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "package", ["engine.run.execute", "replay.playback.session", "console.cli.run.engine_process"]
)
def test_engine_and_replay_load_no_user_interface(package: str) -> None:
    loaded = modules_loaded_by(f"import {package}")
    assert not loaded & {"textual", "rich"}


def test_help_names_every_command(tmp_path: Path) -> None:
    done = headgate("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("demo", "run", "watch", "replay", "why", "sql", "export", "runs"):
        assert command in done.stdout
