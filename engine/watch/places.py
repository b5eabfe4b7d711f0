"""`Places`: where in the code is a thread?"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple


class CodePlace(NamedTuple):
    """A place in code."""

    module: str
    function: str
    file: str
    line: int
    column: str | None = None
    thread: str | None = None
    """`other` where it is not the loop's thread."""
    library: bool | None = None
    """True where none of the user's own code is in the stack."""

    def as_payload(self, count: int) -> dict[str, Any]:
        present = {name: value for name, value in self._asdict().items() if value is not None}
        return {**present, "count": count}


class Places:
    """Selects the most informative frame of a stack: the innermost one of the user's own code."""

    def __init__(
        self, column_of: Callable[[FrameType], str | None], own_folders: tuple[str, ...]
    ) -> None:
        self._column_of = column_of
        self._own_folders = own_folders
        self._standard = (os.path.dirname(os.__file__) + os.sep, "<frozen ")
        self._kinds: dict[str, str] = {}

    def of(self, innermost: FrameType) -> CodePlace:
        """The user's frame; else the innermost one outside the standard library; else that."""
        users = others = None
        column: str | None = None
        frame: FrameType | None = innermost
        while frame is not None and (users is None or column is None):
            kind = self._kind(frame)
            if kind == "user" and users is None:
                users = frame
            elif kind != "standard" and others is None:
                others = frame
            if column is None and kind not in ("user", "standard"):
                column = self._column(frame)
            frame = frame.f_back
        chosen = users or others or innermost
        file = chosen.f_code.co_filename
        module = str(chosen.f_globals.get("__name__", ""))
        if module.startswith("headgate_user_"):
            module = os.path.splitext(os.path.basename(file))[0]
        return CodePlace(
            module,
            chosen.f_code.co_name,
            os.path.basename(file),
            chosen.f_lineno or 0,
            column,
            library=None if users is not None else True,
        )

    def is_users(self, innermost: FrameType) -> bool:
        """Does the thread work for the user's code, and not wait in the standard library?"""
        if self._kind(innermost) == "standard" and innermost.f_code.co_name in _WAITS:
            return False
        frame: FrameType | None = innermost
        while frame is not None:
            if self._kind(frame) == "user":
                return True
            frame = frame.f_back
        return False

    def _column(self, frame: FrameType) -> str | None:
        try:
            return self._column_of(frame)
        except Exception:  # it looks into frames that others own
            return None

    def _kind(self, frame: FrameType) -> str:
        file = frame.f_code.co_filename
        kind = self._kinds.get(file)
        if kind is None:
            kind = self._kinds[file] = self._kind_of(file, frame.f_globals.get("__name__"))
        return kind

    def _kind_of(self, file: str, module: object) -> str:
        if f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file:
            return "library"
        if file.startswith(self._standard):
            return "standard"
        if file.startswith(self._own_folders) or str(module).startswith("data_designer"):
            return "library"
        return "user"


_WAITS = frozenset(
    """
    accept acquire as_completed connect get join put recv recv_into result run_forever select sleep
    wait wait_for worker _worker _wait_for_tstate_lock
    """.split()
)
"""Functions of the standard library in which a thread waits."""
