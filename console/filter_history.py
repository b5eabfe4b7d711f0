"""`FilterHistory`: the filters that were used, newest first, kept in a file of the user."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

MOST_KEPT = 30


class FilterHistory:
    """The filters of each subject, newest first."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: where they are kept; None keeps them only as long as the console runs."""
        self._path = path
        self._by_subject: dict[str, list[str]] = {}
        if path is not None:
            with suppress(OSError, ValueError):
                self._by_subject = _read(path)

    def of(self, subject: str) -> list[str]:
        return self._by_subject.get(subject, [])

    def add(self, subject: str, text: str) -> None:
        """Put it first. A file that can't be written is no reason to stop."""
        if not text:
            return
        earlier = [other for other in self.of(subject) if other != text]
        self._by_subject[subject] = [text, *earlier][:MOST_KEPT]
        if self._path is not None:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                whole = self._path.with_name(f"{self._path.name}.{os.getpid()}")
                whole.write_text(json.dumps(self._by_subject), "utf-8")
                whole.replace(self._path)


def _read(path: Path) -> dict[str, list[str]]:
    """Raises `ValueError` where it is not what this class writes."""
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, dict):
        raise ValueError("no object")
    return {
        str(name): [str(text) for text in texts][:MOST_KEPT]
        for name, texts in content.items()
        if isinstance(texts, list)
    }
