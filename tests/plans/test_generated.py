"""The tables of `plans/` say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plans.generate import TABLES, generated, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_generated_tables_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == generated(text), "run `make plans`"


def test_every_table_is_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in pages())
    assert all(f"<!-- generated: {name} -->" in text for name in TABLES)
