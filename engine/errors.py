"""Errors that cross modules. Their messages are for people: one sentence, no secrets."""

from __future__ import annotations


class UserError(Exception):
    """A user's mistake: `str(error)` says in one clear sentence what is wrong and what to do."""


class TaskError(Exception):
    """A task failed. `error_type` and `message`, which is sanitised, may be reported; of any other
    exception only the type is."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message


class RetryableTaskError(TaskError):
    """A task failed, and another execution may succeed; it is deferred, not dropped."""

    def __init__(
        self,
        error_type: str,
        message: str,
        delay_seconds: float | None = None,
        *,
        uses_attempt: bool = True,
    ) -> None:
        super().__init__(error_type, message)
        self.delay_seconds = delay_seconds
        """Delay that the cause asks for; None leaves it to the retry policy."""
        self.uses_attempt = uses_attempt
        """False if nothing was wrong with the task itself: such retries are not limited."""


class PermanentTaskError(TaskError):
    """A task failed, and no other execution can succeed; its row is dropped."""
