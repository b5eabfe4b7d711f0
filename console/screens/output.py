"""Output: what the watched script prints, as it comes."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from console.paint import Row, StyledLine, clean
from console.screens.event_detail import ReadingScreen, section
from console.theme import Appearance
from engine.events.safe_files import open_regular

REFRESH_SECONDS = 0.5
_TAIL = 128 * 1024
_RAISED = " on raised"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class OutputWindow(ReadingScreen):
    """The end of the file, followed while the window shows it."""

    def __init__(self, appearance: Appearance, path: Path) -> None:
        super().__init__(appearance, output_lines(appearance, path))
        self._appearance = appearance
        self._path = path
        self._seen_bytes = -1

    def on_mount(self) -> None:
        self._pages.show_end()
        self.set_interval(REFRESH_SECONDS, self._refresh)

    async def _refresh(self) -> None:
        size = await asyncio.to_thread(_size, self._path)
        if size != self._seen_bytes:
            self._seen_bytes = size
            self._pages.show(await asyncio.to_thread(output_lines, self._appearance, self._path))


def output_lines(appearance: Appearance, path: Path) -> list[StyledLine]:
    """A title, then the last lines of the file."""
    lines = tail(path) or ["Nothing was printed so far."]
    return [
        section(appearance, f"Output of the script, {clean(path.name)}", 76),
        *(Row().put(f" {line}", f"text{_RAISED}").line() for line in lines),
    ]


def tail(path: Path) -> list[str]:
    """The last lines, as a terminal would leave them: without escape codes and overwritten text."""
    try:
        with open(open_regular(path), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            data = file.read(_TAIL)
    except OSError:
        return []
    lines = data.decode(errors="replace").split("\n")
    if size > _TAIL:
        lines = lines[1:]
    if lines and not lines[-1]:
        lines.pop()
    return [clean(_ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2]) for line in lines]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
