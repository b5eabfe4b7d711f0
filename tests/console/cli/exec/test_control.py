"""What `headgate exec` reads from a command line."""

from __future__ import annotations

import pytest

from console.cli.exec.command import isolating, script_name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python desk.py create 60", "desk"),
        ("python -u some/where/desk.py", "desk"),
        ("uv run desk.py --fast", "desk"),
        ("python -m pkg.desk --out x", "desk"),
        ("bash nightly.sh", "nightly"),
        ("python", "python"),
        ("/opt/bin/generate --all", "generate"),
    ],
)
def test_a_run_without_a_name_is_called_as_its_script(command: str, name: str) -> None:
    assert script_name(tuple(command.split())) == name


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("python -I desk.py", "-I"),
        ("python3.12 -sE desk.py", "-sE"),
        ("python -u -S -I desk.py", "-S -I"),
        ("python -X dev -W ignore -I desk.py", "-I"),
        ("python -Xdev -WError desk.py", ""),
        ("python -Ic pass", "-I"),
        ("python -", ""),
        ("python - -I", ""),
        ("python desk.py -I", ""),
        ("python -m pkg -I", ""),
        ("python -c pass -I", ""),
        ("bash -I desk.py", ""),
    ],
)
def test_options_that_hide_the_bootstrap(command: str, options: str) -> None:
    assert isolating(tuple(command.split())) == options
