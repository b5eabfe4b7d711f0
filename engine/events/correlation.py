"""`RuntimeCorrelationProvider`: which task the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar, Token

from engine.events.types import RuntimeCorrelation

_current: ContextVar[RuntimeCorrelation | None] = ContextVar("runtime_correlation", default=None)


class RuntimeCorrelationProvider:
    """Set, reset and read the correlation of the current context.

    Child asyncio tasks inherit it; threads and callbacks must be given it explicitly.
    """

    def set(self, correlation: RuntimeCorrelation) -> Token[RuntimeCorrelation | None]:
        return _current.set(correlation)

    def reset(self, token: Token[RuntimeCorrelation | None]) -> None:
        _current.reset(token)

    def current(self) -> RuntimeCorrelation | None:
        return _current.get()
