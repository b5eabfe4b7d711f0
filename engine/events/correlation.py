"""`RuntimeCorrelationProvider`: which task does the running code belong to?"""

from __future__ import annotations

from contextvars import ContextVar, Token

from engine.events.types import RuntimeCorrelation


class _Scope:
    """Holds the correlation from `set` to `reset`. Copies of the context share it, so that `reset`
    also reaches child tasks that still run."""

    __slots__ = ("correlation",)

    def __init__(self, correlation: RuntimeCorrelation) -> None:
        self.correlation: RuntimeCorrelation | None = correlation


_current: ContextVar[_Scope | None] = ContextVar("runtime_correlation", default=None)

CorrelationToken = Token[_Scope | None]


class RuntimeCorrelationProvider:
    """Sets, resets and reads the correlation of the current context.

    Child asyncio tasks inherit it until it is reset: work that outlives the task is not attributed
    to it. Pass the correlation to threads and callbacks explicitly.
    """

    def set(self, correlation: RuntimeCorrelation) -> CorrelationToken:
        return _current.set(_Scope(correlation))

    def reset(self, token: CorrelationToken) -> None:
        """Call it in the context of the `set` that returned the token."""
        scope = _current.get()
        if scope is not None:
            scope.correlation = None
        _current.reset(token)

    def current(self) -> RuntimeCorrelation | None:
        scope = _current.get()
        return scope.correlation if scope is not None else None
