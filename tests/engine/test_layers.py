"""The lists of modules in the import rules are whole: a new module falls under them at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def contract(name: str) -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (found,) = (one for one in settings["contracts"] if one["name"] == name)
    assert isinstance(found, dict)
    return found


def modules(package: str, but: str) -> set[str]:
    """What stands directly in it."""
    inside = (ROOT / package).iterdir()
    names = {one.stem for one in inside if one.suffix == ".py" or (one / "__init__.py").exists()}
    return {f"{package}.{name}" for name in names - {"__init__", but}}


def test_replay_is_kept_from_all_of_the_engine_but_its_events() -> None:
    rule = contract("replay reads engine.events and nothing else of the engine")
    assert set(rule["forbidden_modules"]) == modules("engine", "events")


def test_the_console_is_kept_from_it_but_for_its_command_line() -> None:
    rule = contract("of the console only console.cli imports the rest of the engine")
    assert set(rule["forbidden_modules"]) == modules("engine", "events")
    assert set(rule["source_modules"]) == modules("console", "cli")
