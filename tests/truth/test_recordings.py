"""What is said of recorded situations, each with its truth, gets no worse.

`cases/grades.json` has the grade of each; `python -m tests.truth.recordings tests/truth/cases
--grades` writes it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from tests.effort import effort
from tests.truth.expectations import EXPECTATIONS
from tests.truth.facts import Run
from tests.truth.recordings import GRADES, answer_of, truths
from tests.truth.rules import Grade, score

CASES = Path(__file__).with_name("cases")
FLOOR: dict[str, Grade] = json.loads((CASES / GRADES).read_text())
RUNS = {run.file: (truth.situation, run) for truth in truths(CASES) for run in truth.recordings}
STEP = effort(3, 1)
"""Every third is asked in `make test`."""


@pytest.mark.parametrize("file", sorted(RUNS)[::STEP])
def test_an_answer_is_as_good_as_it_was(file: str) -> None:
    situation, run = RUNS[file]
    result = score(run, EXPECTATIONS[situation], answer_of(CASES, run))
    order = get_args(Grade)
    assert order.index(result.grade) <= order.index(FLOOR[file]), result.reasons


def test_each_recording_has_its_grade_and_its_truth() -> None:
    assert FLOOR.keys() == RUNS.keys() == {path.name for path in CASES.glob("*.xz")}


def test_the_recordings_of_one_run_agree_on_what_the_server_did() -> None:
    by_situation: dict[str, list[Run]] = {}
    for situation, run in RUNS.values():
        if run.source != "own":
            by_situation.setdefault(situation, []).append(run)
    for runs in by_situation.values():
        calls = [{name: endpoint.calls for name, endpoint in run.server.items()} for run in runs]
        assert all(other == calls[0] for other in calls)
