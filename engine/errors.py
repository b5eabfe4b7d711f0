"""Errors that cross modules. Their messages are for people: one sentence, no secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class UserError(Exception):
    """A user's mistake: `str(error)` says in one clear sentence what is wrong and what to do."""


class FailureDetails(NamedTuple):
    """What a provider said of a failure. All of it may be reported."""

    failure: Any
    """A `FailureClass` of `engine.events.failures`, which this module must not import."""
    status: int | None = None
    code: str | None = None
    """The provider's own code, or its type of error where it gives no code."""
    param: str | None = None

    def payload(self) -> dict[str, int | str]:
        """As events carry it."""
        facts = {
            "class": self.failure,
            "status": self.status,
            "code": self.code,
            "param": self.param,
        }
        return {name: value for name, value in facts.items() if value is not None}


class TaskError(Exception):
    """A task failed. `error_type` and `message`, which is sanitised, may be reported; of any other
    exception only the type is."""

    details: FailureDetails | None = None

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
        blames_task: Callable[[], bool | None] | None = None,
        details: FailureDetails | None = None,
    ) -> None:
        super().__init__(error_type, message)
        self.details = details
        self.blames_task = blames_task
        """Whether the failure was of this task rather than of a provider that is out, judged by
        what the provider answered to others since; None while that is not known. Without it,
        `uses_attempt` says so at once."""
        self.delay_seconds = delay_seconds
        """Delay that the cause asks for; None leaves it to the retry policy."""
        self.uses_attempt = uses_attempt
        """False if nothing was wrong with the task itself: such retries are not limited."""


class PermanentTaskError(TaskError):
    """A task failed, and no other execution can succeed; its row is dropped."""
