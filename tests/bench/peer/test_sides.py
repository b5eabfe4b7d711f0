from __future__ import annotations

from pathlib import Path

import pytest

from console.cli import exit_codes
from engine.errors import UserError
from tests.bench.command import run_command
from tests.bench.peer.compare import main
from tests.bench.peer.sides import check_interpreter


def interpreter_that_says(tmp_path: Path, version: str) -> Path:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{version}\n")
    script.chmod(0o755)
    return script


def test_an_environment_without_the_peer_is_told_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = interpreter_that_says(tmp_path, "exit 1")
    assert run_command(main, ["--python", str(bare)]) == exit_codes.MISUSE
    said = capsys.readouterr().err
    assert "has no data-designer: install data-designer==0.9.7" in said
    assert "--python" in said
    assert said.count("\n") == 1


def test_another_version_of_the_peer_is_not_compared(tmp_path: Path) -> None:
    other = interpreter_that_says(tmp_path, "echo 0.8.0")
    with pytest.raises(UserError, match=r"has data-designer 0\.8\.0: install data-designer==0"):
        check_interpreter(other)
    check_interpreter(interpreter_that_says(tmp_path, "echo 0.9.7"))


def test_what_is_no_interpreter_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Python interpreter that runs"):
        check_interpreter(tmp_path / "nowhere")
