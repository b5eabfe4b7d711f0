"""What several end-to-end tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.scripts import EVENTS
from tests.fixtures.data_designer_stand_in import write_stand_in


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the stand-in, in which a script finds it."""
    write_stand_in(tmp_path, EVENTS)
    return tmp_path
