"""What a test opens is not put on the list of its developer's own runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _index_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("HEADGATE_HOME")
    os.environ["HEADGATE_HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    if before is None:
        del os.environ["HEADGATE_HOME"]
    else:
        os.environ["HEADGATE_HOME"] = before
