"""What the plans call by name exists, their links lead somewhere, and new pages are narrow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.plans.generate import PLANS

ROOT = PLANS.parent
PAGES = sorted(PLANS.rglob("*.md"))
MOST_COLUMNS = 100
WIDE = frozenset({"recording"})
"""Pages with longer lines; no other may join them."""
_PATH = re.compile(r"`((?:engine|replay|console|tests|plans|docs)/[\w/.-]*?)`")
_CLASS = re.compile(r"`((?:[A-Z][a-z]+){2,})`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


def sources() -> str:
    return "\n".join(
        path.read_text()
        for wing in ("engine", "replay", "console", "tests")
        for path in (ROOT / wing).rglob("*.py")
    )


def prose(page: Path) -> list[str]:
    """Lines outside fences and tables."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    return [line for line in text.splitlines() if not line.startswith(("|", "    ", "!["))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_paths_exist(page: Path) -> None:
    for path in _PATH.findall(page.read_text()):
        assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_classes_exist() -> None:
    known = frozenset(re.findall(r"\w+", sources()))
    named = {name for page in PAGES for name in _CLASS.findall(page.read_text())}
    assert len(named) > 20
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_are_narrow(page: Path) -> None:
    wide = [line for line in prose(page) if len(line) > MOST_COLUMNS]
    assert wide == [] or page.stem in WIDE
