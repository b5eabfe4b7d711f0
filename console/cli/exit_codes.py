"""Exit codes, as the README documents them."""

from __future__ import annotations

OK = 0
FINDINGS = 1
"""Found something, or rows were dropped."""
MISUSE = 2
RUN_FAILED = 3
DAMAGED = 4
BUG = 70
NOT_WRITTEN = 74
"""Output could not be written: a full disk, a closed stream."""
INTERRUPTED = 130
NOT_EXECUTABLE = 126
"""`exec` found the command but can't start it; as of a shell."""
NOT_FOUND = 127
"""`exec` found no such command; as of a shell."""


class ConsoleEnded(Exception):
    """The console is gone and its user did not leave it: a failure (the cause) or a signal."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
