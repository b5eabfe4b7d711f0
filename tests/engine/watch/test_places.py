"""`Places`: the frame that says most of a stack."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from engine.watch.places import Places

CODE = {
    "user": "def work(call):\n    secret = 'a row value'\n    return call()\n",
    "library": "def fetch(call):\n    return call()\n",
    "own": "class Generator:\n    column = 'lag'\n    def generate(self, call):\n"
    "        return call()\n",
}


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Code of the user, of an installed library, and of a scheduler."""
    files = {
        "user": tmp_path / "functions.py",
        "library": tmp_path / "site-packages" / "library.py",
        "own": tmp_path / "own" / "generators.py",
    }
    result = {}
    for name, file in files.items():
        result[name] = {"__name__": file.stem}
        exec(compile(CODE[name], file, "exec"), result[name])
    return result


def innermost(run: Callable[[Callable[[], FrameType]], FrameType]) -> FrameType:
    return run(lambda: sys._getframe(1))


def column_of(frame: FrameType) -> str | None:
    return getattr(frame.f_locals.get("self"), "column", None)


def test_the_users_own_line_is_told_and_its_column(
    modules: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    places = Places(column_of, (str(tmp_path / "own"),))
    work, fetch = modules["user"]["work"], modules["library"]["fetch"]
    generator = modules["own"]["Generator"]()
    frame = innermost(lambda look: generator.generate(partial(work, partial(fetch, look))))
    payload = places.of(frame).as_payload(3)
    assert payload == {
        "module": "functions",
        "function": "work",
        "file": "functions.py",
        "line": 3,
        "column": "lag",
        "count": 3,
    }
    assert "row value" not in json.dumps(payload)


def test_a_stack_of_the_standard_library_alone_is_told_by_its_innermost_frame() -> None:
    stacks: dict[int, FrameType] = {}
    leave = threading.Event()
    # The body of the thread is the library's own, as in a pool that idles.
    thread = threading.Timer(0.0, leave.wait)
    thread.start()
    try:
        while "wait" not in _names(stacks := sys._current_frames(), thread.ident or 0):
            pass
        places = Places(lambda frame: None, ())
        assert places.of(stacks[thread.ident or 0]).module == "threading"
        assert not places.is_users(stacks[thread.ident or 0])
    finally:
        leave.set()
        thread.join()


def _names(stacks: dict[int, FrameType], thread: int) -> list[str]:
    names = []
    frame = stacks.get(thread)
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def test_a_look_into_frames_that_fails_costs_the_column_alone(
    modules: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    def fails(frame: FrameType) -> str | None:
        raise RuntimeError

    places = Places(fails, (str(tmp_path / "own"),))
    generator = modules["own"]["Generator"]()
    work = modules["user"]["work"]
    frame = innermost(lambda look: generator.generate(partial(work, look)))
    assert "column" not in places.of(frame).as_payload(1)


def test_a_module_that_was_loaded_from_a_workflow_is_called_as_its_file(
    modules: dict[str, dict[str, Any]],
) -> None:
    modules["user"]["__name__"] = "headgate_user_functions_0123456789ab"
    frame = innermost(modules["user"]["work"])
    assert Places(lambda frame: None, ()).of(frame).module == "functions"
