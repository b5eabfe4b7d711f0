"""`CustomGenerator`: a cell made by the user's own function."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import PermanentTaskError, RetryableTaskError, UserError
from engine.generators.base import CellContext, ColumnGenerator, ModelCalls
from engine.generators.endpoint import Endpoint, shared_metadata
from engine.identity import RequestResourceKey
from engine.metadata import SchedulingMetadata
from engine.workflow.schema import CustomColumn


class RowModels:
    """The `models` argument of a user's function: the aliases that its column declares."""

    def __init__(self, column: str, endpoints: Mapping[str, Endpoint], calls: ModelCalls) -> None:
        self._column = column
        self._endpoints = endpoints
        self._calls = calls
        self.failure: Exception | None = None
        """Last error of a call, to distinguish it from an error of the function itself."""

    async def text(
        self,
        alias: str,
        prompt: str,
        system: str | None = None,
        *,
        within_seconds: float | None = None,
    ) -> str:
        """The answer of the model behind `alias`.

        Args:
            alias: One of the aliases that the column declares.
            prompt: The prompt.
            system: The system prompt.
            within_seconds: Most seconds for the answer, with waits for admission; None for no
                limit.

        Raises:
            TimeoutError: There was no answer in that time.
        """
        endpoint = self._endpoints.get(alias)
        try:
            if endpoint is None:
                declared = ", ".join(self._endpoints) or "none"
                raise PermanentTaskError(
                    "UnknownModel",
                    f'column "{self._column}" asks for a model that it does not declare '
                    f"(declared: {declared})",
                )
            request = endpoint.request(prompt, system, within_seconds)
            return (await self._calls.call(request)).text
        except Exception as error:
            self.failure = error
            raise


class CustomGenerator(ColumnGenerator):
    """Runs sync functions in a thread, or on the loop where `inline` is set; awaits async ones.

    A function or callable object with a `get_scheduling_metadata()` of its own says which resource
    its tasks work on.
    """

    def __init__(
        self,
        column: CustomColumn,
        function: Callable[..., Any],
        endpoints: Mapping[str, Endpoint],
        inline: bool = False,
    ) -> None:
        """Raises `UserError` for a function that can't be called with a row."""
        super().__init__(column.name)
        self._function = function
        self._needs = column.dependencies()
        self._endpoints = {alias: endpoints[alias] for alias in column.models}
        self._inline = inline
        self._is_async = _is_async(function)
        self._wants_models = _wants_models(function, column.name)
        if self._wants_models and not self._is_async:
            raise UserError(
                f'the function of column "{column.name}" takes `models`, so it must be an '
                "`async def` that awaits its calls"
            )

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        """The metadata of the function object, else that of the models that it may call."""
        own = getattr(self._function, "get_scheduling_metadata", None)
        if own is not None:
            metadata: SchedulingMetadata = own()
            return metadata
        shared = shared_metadata(list(self._endpoints.values()))
        return shared or super().get_scheduling_metadata()

    def request_resource(self) -> RequestResourceKey | None:
        resources = {endpoint.resource for endpoint in self._endpoints.values()}
        return resources.pop() if len(resources) == 1 else None

    async def generate(self, context: CellContext) -> Any:
        row = {name: context.values[name] for name in self._needs}
        models = RowModels(self.column, self._endpoints, context.models)
        try:
            if self._wants_models:
                return await self._function(row, models)
            if self._is_async:
                return await self._function(row)
            if self._inline:
                return self._function(row)
            value, failure = await asyncio.to_thread(self._outcome, row)
            if failure is not None:
                raise failure
            return value
        except RetryableTaskError:
            raise
        except (Exception, SystemExit) as error:
            if error is models.failure:
                raise
            raise PermanentTaskError(type(error).__name__, self._sentence(error)) from None

    def _outcome(self, row: dict[str, Any]) -> tuple[Any, BaseException | None]:
        """Value and error of the function. An error is not raised: a future can't carry a
        StopIteration."""
        try:
            return self._function(row), None
        except (Exception, SystemExit) as error:
            return None, error

    def _sentence(self, error: BaseException) -> str:
        """Where the function failed, without the exception's message, which may have row values."""
        frames = traceback.extract_tb(error.__traceback__)
        code = getattr(inspect.unwrap(self._function), "__code__", None)
        lines = [f.lineno for f in frames if code is not None and f.filename == code.co_filename]
        where = f" at line {lines[-1]}" if lines else ""
        name = getattr(self._function, "__name__", type(self._function).__name__)
        return f'the function {name} of column "{self.column}" failed{where}'


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def _wants_models(function: Callable[..., Any], column: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin without a signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if keyword_only or len(required) > 2 or not (positional or takes_any):
        raise UserError(
            f'the function of column "{column}" must take a row, and may take `models` after it'
        )
    return len(positional) > 1 and (len(required) == 2 or positional[1].name == "models")
