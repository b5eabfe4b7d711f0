"""The lists of modules in the import rules are whole: a new module falls under them at once. And no
name of the engine before this one comes back."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

LEGACY = re.compile(
    r"[Tt]hrottle|SchedulingHint|_model_aliases_for_generator|is_llm_bound|llm_wait"
    r"|TrackingSemaphore|\b\w*_semaphore\b"
)
FIELD_NAME = "`llm_wait`"
"""So people of Data Designer find the name of a task slot that their runs show."""


def contract(name: str) -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rule,) = (setting for setting in settings["contracts"] if setting["name"] == name)
    assert isinstance(rule, dict)
    return rule


def modules(package: str, but: str) -> set[str]:
    """What stands directly in it."""
    inside = (ROOT / package).iterdir()
    names = {
        path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    return {f"{package}.{name}" for name in names - {"__init__", but}}


def test_replay_is_kept_from_all_of_the_engine_but_its_events() -> None:
    rule = contract("replay knows of the engine its events and nothing else")
    assert set(rule["forbidden_modules"]) == modules("engine", "events")


def test_the_console_is_kept_from_it_but_for_its_command_line() -> None:
    rule = contract("of the console only the command line knows the engine")
    assert set(rule["forbidden_modules"]) == modules("engine", "events")
    assert set(rule["source_modules"]) == modules("console", "cli")


def test_no_legacy_name_is_used_in_code_or_docs() -> None:
    files = [
        *(
            path
            for folder in ("engine", "replay", "console")
            for path in (ROOT / folder).rglob("*.py")
        ),
        *(ROOT / "plans").rglob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
    ]
    matches = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files
        for match in LEGACY.finditer(path.read_text().replace(FIELD_NAME, ""))
    ]
    assert matches == []
