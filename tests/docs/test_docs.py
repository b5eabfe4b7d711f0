"""The documentation: its commands run, its links lead somewhere, its reference is of this code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from console.cli import exit_codes
from console.cli.main import COMMANDS, cli, run_cli
from engine.workflow.load import load_workflow
from tests.docs.generate import DOCS, REFERENCE, reference
from tests.docs.pictures import PICTURES

ROOT = DOCS.parent
HEADGATE = Path(sys.executable).with_name("headgate")
SECONDS = 120.0
STARTS = ("run", "demo")
FINDS = ("--fail-on",)
"""Options with which a documented command is to exit with 1."""
_FENCE = re.compile(
    r"^```(?P<kind>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```", re.M | re.S
)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[\w-]*)?\)")
_HEADING = re.compile(r"^#+ (.*)$", re.M)


def pages() -> list[Path]:
    """In the order of the navigation, in which their commands run."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def names(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [name for value in inner for name in names(value)]

    return [DOCS / name for name in names(settings["nav"])]


def commands(kind: str) -> list[list[str]]:
    """Those of every page in fences of this kind: `console` ones run, `text` ones do not."""
    result = []
    for page in pages():
        for fence in _FENCE.finditer(page.read_text()):
            if fence["kind"] != kind:
                continue
            for line in fence["text"].splitlines():
                if "headgate " not in line:
                    continue  # what a command prints
                words = shlex.split(line.removeprefix("$ "), comments=True)
                while words and "=" in words[0]:
                    words = words[1:]
                if words and Path(words[0]).name == "headgate":
                    result.append(words[1:])
    return result


def test_every_page_is_in_the_navigation() -> None:
    assert set(pages()) == set(DOCS.glob("*.md"))


def test_the_reference_is_of_these_models() -> None:
    assert REFERENCE.read_text() == reference(), "run `make docs`"


def test_every_key_of_the_reference_has_a_meaning() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("page", [*pages(), ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target, anchor in _LINK.findall(text):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            names = {
                re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
                for heading in _HEADING.findall(path.read_text())
            }
            assert anchor[1:] in names, f"{target}{anchor}"


def test_every_picture_that_is_shown_is_made() -> None:
    shown = {
        target
        for page in pages()
        for target, _ in _LINK.findall(page.read_text())
        if target.startswith("images/")
    }
    assert shown
    assert shown <= {f"images/{picture.screen}.svg" for picture in PICTURES}


@pytest.mark.parametrize("command", commands("text"), ids=" ".join)
def test_commands_that_are_only_shown_exist_with_their_options(command: list[str]) -> None:
    assert command[0] in COMMANDS
    declared = cli.get_command(click.Context(cli), command[0])
    assert declared is not None
    own = command[: command.index("--")] if "--" in command else command
    known = {name for parameter in declared.params for name in parameter.opts}
    assert {word for word in own if word.startswith("--")} <= known


def test_workflows_that_are_shown_can_be_read(tmp_path: Path) -> None:
    for path in (DOCS / "examples").glob("*.yaml"):
        assert load_workflow(path).workflow.records > 0


def test_documented_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one folder, and in their order, but for those that start runs: these go first, at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    shutil.copytree(DOCS / "examples", tmp_path / "examples")
    for page in pages():
        for fence in _FENCE.finditer(page.read_text()):
            if fence["title"]:
                (tmp_path / fence["title"]).write_text(fence["text"])
    every = commands("console")
    assert len(every) > 25
    starting = [
        (
            command,
            subprocess.Popen(
                [HEADGATE, *command],
                cwd=tmp_path,
                env=os.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ),
        )
        for command in every
        if command[0] in STARTS
    ]
    for command, process in starting:
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == exit_codes.OK, f"{command}: {output}"
    for command in every:
        if command[0] not in STARTS:
            expected = exit_codes.FINDINGS if set(FINDS) & set(command) else exit_codes.OK
            code = run_cli(command)
            output = "".join(capsys.readouterr())
            assert code == expected, f"{command}: {output}"
            assert output or "--out" in command
