"""Errors that cross module borders. Messages are for people: one sentence, no secrets."""

from __future__ import annotations


class UserError(Exception):
    """A user's mistake: `str(error)` says in one clear sentence what is wrong and what to do."""


class TaskError(Exception):
    """What may be told of a task that failed: `error_type`, and `message`, which is sanitised. Of
    any other exception only its type is told."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message


class RetryableTaskError(TaskError):
    """A task failed in a way that another execution may mend; it is deferred, not dropped."""

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
        """What the cause asks for; None leaves the delay to the retry policy."""
        self.uses_attempt = uses_attempt
        """False where nothing went wrong with the task itself: it may come back without end."""


class PermanentTaskError(TaskError):
    """A task failed in a way that no other execution can mend; its row is dropped."""
