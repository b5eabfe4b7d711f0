"""The diagrams: each picture is of its source, and what they name exists."""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

import pytest

from engine.events.kinds import EVENT_KINDS
from tests.plans.generate import PLANS

ROOT = PLANS.parent
DIAGRAMS = PLANS / "diagrams"
SOURCES = sorted(DIAGRAMS.glob("*.puml"))
NO_CLASSES = frozenset({"PlantUML", "DejaVu"})
_CLASS = re.compile(r"\b(?:[A-Z][a-z]+){2,}\b")
_SNAKE = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
_MEMBERS = re.compile(r"^(?:class|interface) (\w+) \{\n(.*?)^\}", re.M | re.S)
_EVENTS = frozenset(kind.name for kind in EVENT_KINDS)


@cache
def classes() -> dict[str, set[str]]:
    """Class -> its fields, methods and what it sets of itself, over all that have this name."""
    result: dict[str, set[str]] = {}
    for wing in ("engine", "replay", "console"):
        for path in (ROOT / wing).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    result.setdefault(node.name, set()).update(members(node))
    return result


def members(node: ast.ClassDef) -> set[str]:
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(part.name)
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            names.add(part.target.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            names.add(part.attr)
    return names


@cache
def words() -> frozenset[str]:
    """Every name in the sources."""
    text = "\n".join(
        path.read_text()
        for wing in ("engine", "replay", "console")
        for path in (ROOT / wing).rglob("*.py")
    )
    return frozenset(re.findall(r"\w+", text))


def body(path: Path) -> str:
    """A diagram without its title, notes in prose and styles."""
    text = path.read_text()
    return re.sub(r"^(?:title|!include) .*$", "", text, flags=re.M)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_picture_is_of_this_source(source: Path) -> None:
    picture = source.with_suffix(".svg")
    assert picture.exists(), "run `make diagrams`"
    digest = hashlib.sha256((DIAGRAMS / "style.iuml").read_bytes() + source.read_bytes())
    assert f"<!-- source {digest.hexdigest()} -->" in picture.read_text(), "run `make diagrams`"
    assert "Syntax Error" not in picture.read_text()


def test_every_picture_has_a_source() -> None:
    assert {path.stem for path in DIAGRAMS.glob("*.svg")} == {path.stem for path in SOURCES}
    assert len(SOURCES) >= 9


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_class_that_is_named_exists(source: Path) -> None:
    named = set(_CLASS.findall(body(source))) - NO_CLASSES
    assert named - classes().keys() == set()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_field_and_method_is_one_of_its_class(source: Path) -> None:
    for name, inside in _MEMBERS.findall(body(source)):
        listed = {name for line in inside.splitlines() for name in re.findall(r"^\s*(\w+)", line)}
        assert listed - classes()[name] == set(), name


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_event_and_every_other_name_exists(source: Path) -> None:
    named = set(_SNAKE.findall(body(source)))
    assert named - words() == set()


def test_every_event_of_a_state_machine_is_an_event() -> None:
    for name in ("task-states", "attempt-states"):
        labels = re.findall(r"--> \S+ : (.*)$", body(DIAGRAMS / f"{name}.puml"), re.M)
        assert labels
        assert {event for label in labels for event in label.split(", ")} <= _EVENTS


def test_the_pages_show_every_diagram() -> None:
    text = "".join(path.read_text() for path in PLANS.glob("*.md"))
    for source in SOURCES:
        assert f"diagrams/{source.stem}.svg" in text, source.stem
