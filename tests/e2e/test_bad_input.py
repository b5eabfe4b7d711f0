"""A user's mistake gets one clear sentence and exit code 2, and no traceback."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.program import HEADGATE, environment, headgate
from tests.e2e.terminal import Terminal

WORKFLOW = """
name: small
records: 2
providers:
  p: {{ type: {provider} }}
models:
  writer: {{ provider: p, model: m }}
columns:
  - {{ name: topic, type: sampler, values: [a, b] }}
  - {{ name: text, type: llm_text, model: {alias}, prompt: "{prompt}" }}
"""


def workflow(
    folder: Path,
    alias: str = "writer",
    prompt: str = "About {{ topic }}.",
    provider: str = "scripted",
) -> Path:
    path = folder / "workflow.yaml"
    path.write_text(WORKFLOW.format(alias=alias, prompt=prompt, provider=provider))
    return path


def assert_refused(cwd: Path, *arguments: str | Path, says: tuple[str, ...]) -> None:
    done = headgate(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for word in says:
        assert word in lines[0]
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["replay", "why", "watch", "verify"])
def test_no_such_file(command: str, tmp_path: Path) -> None:
    assert_refused(tmp_path, command, "nowhere.duckdb", says=("nowhere.duckdb",))


def test_no_such_workflow(tmp_path: Path) -> None:
    assert_refused(tmp_path, "run", "nowhere.yaml", says=("nowhere.yaml",))


@pytest.mark.parametrize("name", ["notes.txt", "notes.duckdb", "notes.jsonl"])
def test_not_a_recording(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("these are only notes\n")
    assert_refused(tmp_path, "replay", name, says=(name, "not a recording"))


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path, "replay", "empty", says=("empty",))


def test_broken_yaml(tmp_path: Path) -> None:
    path = tmp_path / "workflow.yaml"
    path.write_text("name: [unclosed\nrecords: 2\n")
    assert_refused(tmp_path, "run", path, says=("workflow.yaml", "line"))


@pytest.mark.parametrize("command", ["run", "plan", "import-config"])
@pytest.mark.parametrize("kind", ["FIFO", "larger"])
def test_a_file_that_says_what_to_run_is_small_and_regular(
    command: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "workflow.yaml"
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 5 << 30)
    assert_refused(tmp_path, command, path, says=("workflow.yaml", kind))


def test_a_cycle_in_the_graph(tmp_path: Path) -> None:
    path = workflow(tmp_path, prompt="About {{ echo }}.")
    path.write_text(
        path.read_text() + '  - { name: echo, type: expression, template: "{{ text }}" }\n'
    )
    assert_refused(tmp_path, "run", path, says=("cycle", "text", "echo"))


def test_an_unknown_model_alias(tmp_path: Path) -> None:
    assert_refused(tmp_path, "run", workflow(tmp_path, alias="poet"), says=("poet", "writer"))


def test_an_unknown_column(tmp_path: Path) -> None:
    path = workflow(tmp_path, prompt="About {{ weather }}.")
    assert_refused(tmp_path, "run", path, says=("weather",))


def test_an_unreachable_provider(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    provider = f'openai, base_url: "http://127.0.0.1:{port}/v1"'
    path = workflow(tmp_path, provider=provider)
    assert_refused(tmp_path, "run", path, says=("reach", str(port)))


def test_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    assert_refused(tmp_path, "demo", "--headless", "--out", out, says=("out", "empty"))
    assert (out / "mine.txt").read_text() == "keep me"


def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    # Root may write anywhere but in a folder that can hold no files at all.
    target = Path("/proc/headgate-run") if os.geteuid() == 0 else tmp_path / "locked" / "run"
    if os.geteuid() != 0:
        target.parent.mkdir(mode=0o500)
    assert_refused(tmp_path, "demo", "--headless", "--out", target, says=(str(target),))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fly"], ("fly", "headgate --help")),
        (["demo", "--records", "0"], ("--records", "x>=1", "headgate demo --help")),
        (["demo", "--out", "mine.txt"], ("mine.txt", "is a file")),
        (["replay"], ("RECORDING", "headgate replay --help")),
        (["export", "mine.txt"], ("--format", "parquet", "csv")),
        (["watch", "a", "b"], ("unexpected", "b")),
        (["why", "--sideways", "mine.txt"], ("--sideways",)),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_slip_in_the_command_line(
    arguments: list[str], says: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert_refused(tmp_path, *arguments, says=says)


def test_without_a_command_it_says_which_there_are(tmp_path: Path) -> None:
    done = headgate(cwd=tmp_path)
    assert done.returncode == 2
    assert "demo" in done.stderr + done.stdout


def test_a_terminal_too_small(tmp_path: Path) -> None:
    with Terminal(
        [HEADGATE, "demo", "--out", tmp_path / "out"],
        columns=39,
        rows=9,
        cwd=tmp_path,
        env=environment(tmp_path),
    ) as terminal:
        assert terminal.wait_exit() == 2
        assert "39×9" in terminal.text
        assert "Traceback" not in terminal.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["watch", "replay", "why", "verify"])
def test_a_folder_of_runs(command: str, tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        folder = tmp_path / "headgate-runs" / f"2026113{number}T000000Z-demo-00aa"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    newest = "headgate-runs/20261134T000000Z-demo-00aa"
    says = ("headgate-runs", "folder of runs", newest, "1 more")
    assert_refused(tmp_path, command, "headgate-runs", says=says)


@pytest.mark.parametrize("command", ["watch", "replay", "why"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:8000/v1", "https://example.org/run.duckdb"])
def test_an_address(command: str, address: str, tmp_path: Path) -> None:
    assert_refused(tmp_path, command, address, says=(address, "address", "run folder"))


def test_what_is_waited_for_is_said(tmp_path: Path) -> None:
    with Terminal(
        [HEADGATE, "watch", "--headless", "artifats/dataset"],
        cwd=tmp_path,
        env=environment(tmp_path),
    ) as terminal:
        terminal.wait_for("artifats/dataset", "scheduler_events.jsonl")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait_exit() == 130
