"""That the desk is fit to prove anything: their environment, their answers, the storm."""

from __future__ import annotations

import os
import subprocess

from tests.peer.desk import LLM_COLUMNS, RECORDS, STORM_SECONDS, Desk, Row


def test_their_environment_has_no_headgate() -> None:
    python = os.environ["HEADGATE_PEER_PYTHON"]
    for module in ("engine", "replay", "console"):
        done = subprocess.run(
            [python, "-c", f"import {module}"], cwd="/", stderr=subprocess.PIPE, check=False
        )
        assert b"ModuleNotFoundError" in done.stderr, module


def test_a_storm_changes_no_row(stormy: Desk, rows_without_headgate: list[Row]) -> None:
    desk = stormy
    assert desk.loaded == rows_without_headgate
    assert len(desk.loaded) == RECORDS
    assert all(row[column] for row in desk.loaded for column in LLM_COLUMNS)
    assert desk.refused[-1] - desk.refused[0] > STORM_SECONDS
    outcomes = {(record.provider, record.outcome) for record in desk.served}
    assert outcomes == {("alpha", "answer"), ("beta", "answer"), ("beta", "rate_limited")}
