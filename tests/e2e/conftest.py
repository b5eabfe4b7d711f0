"""What several end-to-end tests start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.provider_case import Case, Ended, judge
from tests.e2e.scripts import EVENTS
from tests.fixtures.data_designer_stand_in import write_stand_in


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the stand-in, in which a script finds it."""
    write_stand_in(tmp_path, EVENTS)
    return tmp_path


@pytest.fixture
def judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Case], Ended]:
    """Runs a case and holds the run against it."""
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    return lambda case: judge(case, tmp_path, capsys)
