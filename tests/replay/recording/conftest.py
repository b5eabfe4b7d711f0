"""A recording to craft others from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from replay.runs.materialize import materialize
from tests.replay.fuzz.hostile import own_lines


@pytest.fixture(scope="package")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The recording of a short run, which stays as it is."""
    path = tmp_path_factory.mktemp("good") / "run.jsonl"
    path.write_bytes(b"\n".join(own_lines(3, row_groups=2)))
    with materialize(path, lambda _: None) as recording:
        yield recording
