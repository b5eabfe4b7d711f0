"""Benchmark artifacts that somebody edited, tore or made up: refused or read, never a crash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.cli.bench.run import Request, run_scenario
from engine.benchmark.catalogue import SCENARIOS
from tests.replay.fuzz.exercise import ask, assert_harmless, look_at
from tests.replay.fuzz.hostile import bounded, streams


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole one, with its recording beside it."""
    out = tmp_path_factory.mktemp("bench") / "out"
    request = Request(SCENARIOS["heavy-root"], ("strict-fair",), out, 4, 1, smoke=True)
    run_scenario(request, say=lambda line: None)
    (path,) = out.glob("*.json")
    return path


@bounded(12)
@given(data=st.data())
def test_an_artifact(artifact: Path, data: st.DataObject) -> None:
    line = json.dumps(json.loads(artifact.read_text())).encode()
    damaged = artifact.with_name("damaged.json")
    damaged.write_bytes(data.draw(streams([line])))
    try:
        look_at(damaged)
        for arguments in (("compare", artifact, damaged), ("why", damaged)):
            code, said = ask(*arguments)
            assert code in (0, 1, 2, 4), said
            assert "Traceback" not in said
            assert_harmless(said)
    finally:
        damaged.unlink()


def test_the_whole_one_is_read(artifact: Path, tmp_path: Path) -> None:
    """What is damaged above is not refused for another reason."""
    copy = Path(shutil.copytree(artifact.parent, tmp_path / "copy")) / artifact.name
    assert look_at(copy)
    assert ask("compare", artifact, copy)[0] == 0
