"""`RuntimeCorrelationProvider`: which task the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar, Token

from engine.events.types import RuntimeCorrelation


class _Scope:
    """The stretch from `set` to `reset`; copies of the context share it."""

    __slots__ = ("correlation",)

    def __init__(self, correlation: RuntimeCorrelation) -> None:
        self.correlation: RuntimeCorrelation | None = correlation


_current: ContextVar[_Scope | None] = ContextVar("runtime_correlation", default=None)

CorrelationToken = Token[_Scope | None]


class RuntimeCorrelationProvider:
    """Set, reset and read the correlation of the current context.

    Child asyncio tasks inherit it until it is reset: what they do after the task has ended is not
    the task's. Threads and callbacks must be given it explicitly.
    """

    def set(self, correlation: RuntimeCorrelation) -> CorrelationToken:
        return _current.set(_Scope(correlation))

    def reset(self, token: CorrelationToken) -> None:
        """In the context of the `set` that gave the token."""
        scope = _current.get()
        if scope is not None:
            scope.correlation = None
        _current.reset(token)

    def current(self) -> RuntimeCorrelation | None:
        scope = _current.get()
        return scope.correlation if scope is not None else None
