"""`SharingApp`: what is carried away from a view: its command, what it says, and its data."""

from __future__ import annotations

import errno
import re
import shlex
from pathlib import Path
from typing import Any

from console.filter_history import FilterHistory
from console.focus_names import name_of
from console.paint import clean
from console.range_app import RangeApp
from console.screens.drill import DrillScreen
from console.screens.filters import Filtered
from console.screens.questions import ExportDialog, ExportFormat
from console.session_thread import SessionLike
from console.surroundings import Surroundings
from engine.events.run_index import index_home

_FILE_NAME = re.compile(r"[^\w.-]+")
_MOST_FILES = 1_000


class SharingApp(RangeApp):
    """The app's part for copying a command or a text, and for exports of the view."""

    def __init__(self, session: SessionLike, *, surroundings: Surroundings, **options: Any) -> None:
        """
        Args:
            session: The session to show.
            surroundings: Clocks and folders.
            options: As for the classes above.
        """
        super().__init__(session, surroundings=surroundings, **options)
        self._copies = surroundings.copies or index_home().parent
        self._exports = surroundings.exports
        self.filter_history = FilterHistory(self._copies / "filters.json")

    @property
    def view_command(self) -> str:
        """The command that opens this view again."""
        frame, page = self._frame, self.page
        words = ["headgate", "replay", str(self.title)]
        if frame is not None and self.range is not None:
            low, high = self.range.low - frame.t0, self.range.high - frame.t0
            words += ["--at", f"{low:.3f}-{high:.3f}"]
        elif frame is not None:
            words += ["--at", f"#{frame.ordinal}"]
        if isinstance(page, DrillScreen):
            words += ["--open", name_of(page.focus_on)]
        elif page is not None:
            words += ["--screen", page.page_name.lower()]
        if isinstance(page, Filtered) and page.filter_text:
            words += ["--where", page.filter_text]
        return shlex.join(words)

    def action_copy_view(self) -> None:
        self._copy(self.view_command)

    def action_copy_verdict(self) -> None:
        page, frame = self.page, self._frame
        if page is None or frame is None:
            return
        content = page.markdown(frame)
        self._copy(f"{content}\n\n`{self.view_command}`\n")

    def _copy(self, text: str) -> None:
        """Ask the terminal to put it on the clipboard (OSC 52), which not every terminal does, so
        it is written to a file too."""
        self.copy_to_clipboard(text)
        path = self._copies / "copied.txt"
        try:
            self._copies.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            where = f"the terminal was asked to copy it; {path}: {error.strerror}"
        else:
            where = f"copied by the terminal, if it can (OSC 52); also in {path}"
        self.notify(f"{clean(text.splitlines()[0])}\n{clean(where)}", title="Copied", markup=False)

    def action_export(self) -> None:
        if self.screen is self.page:
            self.push_screen(ExportDialog(self.appearance), self._export)

    def _export(self, form: ExportFormat | None) -> None:
        """Write what is shown into the folder from which the console was started."""
        page, frame = self.page, self._frame
        if form is None or page is None or frame is None:
            return
        if form == "svg":
            text = self.export_screenshot(title=clean(f"{self.title}"))
        else:
            sheet = page.sheet(frame)
            text = sheet.csv() if form == "csv" else sheet.json()
        name = _FILE_NAME.sub("-", f"{frame.run.name or frame.run.run_id}-{page.page_name.lower()}")
        try:
            path = _write_new(self._exports, name, form, text)
        except OSError as error:
            self.notify(clean(f"{self._exports}: {error.strerror}"), title="Not exported")
        else:
            self.notify(clean(str(path)), title="Exported", markup=False)


def _write_new(folder: Path, name: str, suffix: str, text: str) -> Path:
    """Write a file that does not exist yet; where the name is taken, a number follows it."""
    for number in range(1, _MOST_FILES):
        path = folder / (f"{name}.{suffix}" if number == 1 else f"{name}-{number}.{suffix}")
        try:
            with path.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(errno.EEXIST, f"there are {_MOST_FILES} files named {name} already")
