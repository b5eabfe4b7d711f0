"""`headgate verify`: exit codes, and canaries from a file or the environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from console.cli.main import run_cli
from tests.replay.verify.test_content import lines


@pytest.mark.parametrize(
    ("written", "arguments", "code"),
    [
        (lines(), [], 0),
        (lines("the canary"), ["--canary", "the canary"], 1),
        (lines("the canary"), ["--canary", "env:CANARY"], 1),
        (lines("the canary"), ["--canary", "@canaries"], 1),
        (lines(), ["--canary", "@nowhere"], 2),
        (lines(), ["--canary", "env:NOT_SET"], 2),
        (lines() + b'{"stream": "sched\n', [], 4),
    ],
    ids=["fine", "text", "env", "file", "no file", "no variable", "damaged"],
)
def test_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    written: bytes,
    arguments: list[str],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY", "the canary")
    Path("canaries").write_text("something else\n\nthe canary\n")
    Path("run.jsonl").write_bytes(written)
    assert run_cli(["verify", "run.jsonl", "--json", *arguments]) == code
    printed = capsys.readouterr()
    if code == 2:
        assert printed.out == ""
        assert len(printed.err.splitlines()) == 1
    else:
        verdict = {0: "fine", 1: "found", 4: "damaged"}[code]
        assert json.loads(printed.out)["verdict"] == verdict
