"""`headgate doctor`, `--version` and `completion`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from console.cli import build_info, doctor, exit_codes
from console.cli.build_info import BuildInfo
from console.cli.main import COMMANDS, run_cli
from engine.version import VERSION

HEADGATE = Path(sys.executable).with_name("headgate")


def findings(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, dict[str, str]]:
    assert run_cli(["doctor", "--json"]) == code
    return {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_a_sound_installation_has_nothing_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    shown = findings(capsys, exit_codes.OK)

    assert {finding["state"] for finding in shown.values()} <= {"ok", "note"}
    assert len(shown) == len(doctor.CHECKS)
    assert VERSION in shown["version"]["text"]
    assert shown["duckdb"]["state"] == shown["locks"]["state"] == "ok"
    assert list(tmp_path.iterdir()) == []


def test_what_is_bad_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    shown = findings(capsys, exit_codes.FINDINGS)

    assert shown["run list"]["state"] == "bad"
    assert "HEADGATE_HOME" in shown["run list"]["text"]
    assert shown["telemetry"]["state"] == "bad"
    assert "OTEL_TRACES_EXPORTER" in shown["telemetry"]["text"]


def test_a_data_designer_that_is_not_known_is_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda _name: "1.2.3")
    shown = findings(capsys, exit_codes.OK)

    assert shown["data designer"]["state"] == "note"
    assert "1.2.3" in shown["data designer"]["text"]


def test_the_version_says_what_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = tmp_path / "build.json"
    built.write_text('{"commit": "0123456789abcdef", "built": "2030-01-02T03:04:05Z"}')
    monkeypatch.setattr(build_info, "BUILD_FILE", built)

    assert run_cli(["--version"]) == exit_codes.OK
    text = capsys.readouterr().out
    assert text.startswith(f"headgate {VERSION} (0123456789ab, built 2030-01-02T03:04:05Z), Python")
    assert "duckdb " in text


def test_a_wheel_without_its_commit_and_no_checkout_says_the_version_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_info, "BUILD_FILE", tmp_path / "none.json")
    monkeypatch.setattr(build_info, "_ROOT", tmp_path)
    info = build_info.build_info()

    assert (info.commit, info.built, info.changed) == (None, None, False)
    assert info.text.startswith(f"headgate {VERSION}, Python ")


@pytest.mark.parametrize("packed", [False, True])
def test_a_checkout_says_its_commit(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    commit = "c0ffee" + "0" * 34
    if packed:
        (git / "packed-refs").write_text(f"# pack-refs\n{commit} refs/heads/main\n")
    else:
        (git / "refs" / "heads" / "main").write_text(f"{commit}\n")
    monkeypatch.setattr(build_info, "BUILD_FILE", tmp_path / "none.json")
    monkeypatch.setattr(build_info, "_ROOT", tmp_path)
    info = build_info.build_info()

    assert isinstance(info, BuildInfo)
    assert info.commit == commit
    assert "(checkout of c0ffee000000)" in info.text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["completion", shell]) == exit_codes.OK
    assert "_HEADGATE_COMPLETE" in capsys.readouterr().out


def test_commands_are_completed() -> None:
    answer = subprocess.run(
        [HEADGATE],
        env=os.environ
        | {
            "_HEADGATE_COMPLETE": "bash_complete",
            "COMP_WORDS": "headgate c",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
    )

    assert answer.returncode == 0
    assert answer.stderr == ""
    assert {line.partition(",")[2] for line in answer.stdout.splitlines()} == {
        name for name in COMMANDS if name.startswith("c")
    }
