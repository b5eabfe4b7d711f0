"""`CustomColumn`: a value made by the user's own function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from engine.errors import PermanentTaskError, RetryableTaskError, UserError
from engine.metadata import SchedulingMetadata
from engine.workflow.columns.base import BaseColumn, BuildContext
from engine.workflow.columns.endpoint import Endpoint
from engine.workflow.columns.generator import (
    BatchContext,
    CellContext,
    ColumnGenerator,
    ModelCalls,
    TaskType,
)
from engine.workflow.columns.user_functions import checked_reference, failure_sentence


class CustomColumn(BaseColumn):
    """A Python function of the row: `module:function` beside the workflow file, or a callable."""

    type: Literal["custom"] = "custom"
    """A value that the user's function makes."""
    function: str | Callable[..., Any]
    """Takes a row as a dictionary of the columns in `depends_on`, and may take `models` after it,
    whose `await models.text(alias, prompt)` asks a model. It may be `async`."""
    batch: bool = False
    """Call the function once for a whole row group: with a list of rows, for a list of as many
    values."""
    models: list[str] = Field([])
    """Aliases that the function may call."""

    example: ClassVar[str] = (
        "{ name: length, type: custom, function: 'functions:length', depends_on: [ticket] }"
    )

    _check = field_validator("function")(checked_reference)

    def aliases(self) -> Sequence[str]:
        return self.models

    def reference(self) -> str | Callable[..., Any] | None:
        return self.function

    def generator(self, build: BuildContext) -> ColumnGenerator:
        return CustomGenerator(self, build.functions[self.name], build.chat, build.inline)


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
        self.task_type: TaskType = "batch" if column.batch else "cell"
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

    def endpoints(self) -> Sequence[Endpoint]:
        return list(self._endpoints.values())

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        """The metadata of the function object, else that of the models that it may call."""
        own = getattr(self._function, "get_scheduling_metadata", None)
        if own is not None:
            metadata: SchedulingMetadata = own()
            return metadata
        return super().get_scheduling_metadata()

    async def generate(self, context: CellContext) -> Any:
        row = {name: context.values[name] for name in self._needs}
        return await self._called(row, context.models)

    async def generate_batch(self, context: BatchContext) -> list[Any]:
        assert context.models is not None
        rows = [{name: row[name] for name in self._needs} for row in context.values]
        values = await self._called(rows, context.models)
        if not isinstance(values, list | tuple) or len(values) != len(rows):
            returned = f"{len(values)} values" if isinstance(values, list | tuple) else "no list"
            raise PermanentTaskError(
                "WrongBatch",
                f'the function of column "{self.column}" must return a list of as many values as '
                f"there are rows ({len(rows)}), and returned {returned}",
            )
        return list(values)

    async def _called(self, argument: Any, calls: ModelCalls) -> Any:
        models = RowModels(self.column, self._endpoints, calls)
        try:
            if self._wants_models:
                return await self._function(argument, models)
            if self._is_async:
                return await self._function(argument)
            if self._inline:
                return self._function(argument)
            value, failure = await asyncio.to_thread(self._outcome, argument)
            if failure is not None:
                raise failure
            return value
        except RetryableTaskError:
            raise
        except (Exception, SystemExit) as error:
            if error is models.failure:
                raise
            sentence = failure_sentence(self._function, self.column, error)
            raise PermanentTaskError(type(error).__name__, sentence) from None

    def _outcome(self, argument: Any) -> tuple[Any, BaseException | None]:
        """Value and error of the function. An error is not raised: a future can't carry a
        StopIteration."""
        try:
            return self._function(argument), None
        except (Exception, SystemExit) as error:
            return None, error


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
