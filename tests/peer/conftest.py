"""Runs of the real Data Designer, whose interpreter HEADGATE_PEER_PYTHON names (`make test-peer`).

Without it nothing here is collected: the other tests need nothing outside the repository.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peer.desk import Desk, Row, open_desk

collect_ignore_glob = [] if "HEADGATE_PEER_PYTHON" in os.environ else ["test_*.py"]


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Opens desks, each with a folder and providers of its own; all are closed at the end."""
    with ExitStack() as stack:
        opened = 0

        def open_one(seconds: float) -> Desk:
            nonlocal opened
            opened += 1
            return stack.enter_context(open_desk(tmp_path / f"desk{opened}", seconds))

        yield open_one


@pytest.fixture(scope="session")
def rows_without_headgate(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """What their script loads where nobody watches and no provider refuses."""
    with open_desk(tmp_path_factory.mktemp("bare") / "desk", seconds=0.01) as desk:
        desk.run("create")
        return desk.loaded


@pytest.fixture(scope="session")
def stormy(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A run through the storm without headgate, with the events that Data Designer writes."""
    with open_desk(tmp_path_factory.mktemp("stormy") / "desk", seconds=0.1) as desk:
        with desk.started("create", write_scheduler_events=True) as script:
            with desk.storm():
                pass
            assert script.wait(120) == 0
        return desk
