"""`ValidationColumn`: a check of other columns of the row, and what follows when it fails."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engine.errors import PermanentTaskError, RetryableTaskError, UserError
from engine.workflow.columns.base import BaseColumn, BuildContext, ColumnName, checked_templates
from engine.workflow.columns.closed_sql import (
    MOST_QUERY_SECONDS,
    SqlError,
    check_single_query,
    closed_connection,
    first_line,
    quoted_name,
)
from engine.workflow.columns.endpoint import Endpoint
from engine.workflow.columns.generator import (
    CellContext,
    ColumnGenerator,
    Rejection,
)
from engine.workflow.columns.rendering import ColumnTemplate
from engine.workflow.columns.user_functions import checked_reference, failure_sentence

ROW_REJECTED = "RowRejected"
"""The type of error of a row that does not pass."""


class ValidationColumn(BaseColumn):
    """A check of each row, in SQL or Python. A row that fails is dropped, kept, or has columns made
    again first. The value is true for a row that passes."""

    type: Literal["validation"] = "validation"
    """A check of the row."""
    columns: list[ColumnName] = Field(min_length=1)
    """What the check looks at."""
    sql: str | None = None
    """A condition of DuckDB's SQL over `columns`, such as `length(answer) > 20`. NULL fails. It
    reaches no file and may take 5 seconds."""
    function: str | Callable[..., Any] | None = None
    """A function `module:function` of a row with `columns`: true passes; false, or text with the
    reason, fails. It may be `async`."""
    reason: str | None = None
    """What a model is told that has to write again; a template. Without it, what the function says,
    or the condition."""
    regenerate: list[ColumnName] = Field([])
    """Columns that are made again when the check fails, with those between them and this one. A
    model is told what was wrong; other columns wait for the check before they use these."""
    attempts: int = Field(3, ge=1, le=20)
    """How often the columns of `regenerate` are made again."""
    on_failure: Literal["drop", "keep"] = "drop"
    """What becomes of a row that fails in the end: `keep` keeps it with the value false."""

    example: ClassVar[str] = (
        "{ name: long_enough, type: validation, columns: [reply], sql: 'length(reply) > 20', "
        "regenerate: [reply], attempts: 2 }"
    )

    _check_template = field_validator("reason")(checked_templates)

    @field_validator("function")
    @classmethod
    def _is_reference(
        cls, value: str | Callable[..., Any] | None
    ) -> str | Callable[..., Any] | None:
        return None if value is None else checked_reference(value)

    @model_validator(mode="after")
    def _single_check(self) -> ValidationColumn:
        if (self.sql is None) == (self.function is None):
            raise ValueError("a validation needs exactly one of sql, function")
        return self

    @field_validator("sql")
    @classmethod
    def _is_sql_condition(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "columns" in info.data:
            try:
                check_single_query(condition_query(value, info.data["columns"]))
            except SqlError as error:
                raise ValueError(f"the SQL of a validation can't be used: {error}") from None
        return value

    def templates(self) -> dict[str, str]:
        return {} if self.reason is None else {"reason": self.reason}

    def own_dependencies(self) -> set[str]:
        return {*self.columns, *self.regenerate}

    def reference(self) -> str | Callable[..., Any] | None:
        return self.function

    def renewed(self) -> Sequence[str]:
        return self.regenerate

    def filters_rows(self) -> bool:
        return self.on_failure == "drop" or bool(self.regenerate)

    def generator(self, build: BuildContext) -> ColumnGenerator:
        again = [build.built[name] for name in build.between(self.regenerate, self.name)]
        for generator in again:
            if generator.task_type == "batch":
                raise UserError(
                    f'column "{self.name}", regenerate: "{generator.column}" is made for a whole '
                    "row group at once, and can't be made again for one row"
                )
        predicate: Predicate
        if self.sql is not None:
            predicate = SqlPredicate(self.name, self.sql, self.columns, build.inline)
        else:
            predicate = FunctionPredicate(
                self.name, build.functions[self.name], self.columns, build.inline
            )
        return ValidationGenerator(self, predicate, again)


class ValidationGenerator(ColumnGenerator):
    """Checks a row, and has columns made again until it passes or the attempts are used up."""

    def __init__(
        self, column: ValidationColumn, predicate: Predicate, again: Sequence[ColumnGenerator]
    ) -> None:
        super().__init__(column.name)
        self._predicate = predicate
        self._again = again
        self._renewed = frozenset(column.regenerate)
        self._attempts = column.attempts if column.regenerate else 0
        self._keep = column.on_failure == "keep"
        self._reason = None if column.reason is None else ColumnTemplate(column.name, column.reason)
        self._rejections: dict[int, int] = {}
        """By row that was made again: how often."""
        self._unfinished: dict[int, tuple[str, dict[str, Any]]] = {}
        """By row that is being made again: the reason, and the values that were rejected."""

    def endpoints(self) -> Sequence[Endpoint]:
        return [endpoint for generator in self._again for endpoint in generator.endpoints()]

    def placeholder(self) -> Any:
        return True

    async def generate(self, context: CellContext) -> bool:
        row = context.row
        values = dict(context.values)
        if row in self._unfinished:  # an earlier execution ended in the middle
            await self._make_again(context, values)
        while True:
            reason = await self._predicate.reason(values)
            if reason is None:
                break
            if self._rejections.get(row, 0) >= self._attempts:
                break
            if self._reason is not None:
                reason = self._reason.render(values)
            self._rejections[row] = self._rejections.get(row, 0) + 1
            self._unfinished[row] = reason, {name: values[name] for name in self._renewed}
            await self._make_again(context, values)
        tries = self._rejections.pop(row, 0)
        if reason is None or self._keep:
            return reason is None
        again = f" after it was made again {tries} times" if tries else ""
        raise PermanentTaskError(
            ROW_REJECTED, f'the row does not pass the check of column "{self.column}"{again}'
        )

    async def _make_again(self, context: CellContext, values: dict[str, Any]) -> None:
        reason, rejected = self._unfinished[context.row]
        number = self._rejections[context.row]

        def update(column: str, value: Any) -> None:
            values[column] = value
            context.update(column, value)

        for generator in self._again:
            name = generator.column
            rejection = Rejection(number, rejected[name], reason) if name in rejected else None
            cell = CellContext(context.row, values, context.models, context.seed, rejection, update)
            update(name, await generator.cell(cell))
        del self._unfinished[context.row]


class Predicate:
    """A check of the values of a row."""

    async def reason(self, values: Mapping[str, Any]) -> str | None:
        """Why the row fails; None for one that passes."""
        raise NotImplementedError


class SqlPredicate(Predicate):
    """A condition in SQL, in a database of its own that reaches nothing else."""

    def __init__(self, column: str, sql: str, columns: Sequence[str], inline: bool) -> None:
        """Raises `UserError` for a condition that can't be computed."""
        import duckdb

        self._columns = columns
        self._query = condition_query(sql, columns)
        self._inline = inline
        self._reason = f"it must fulfil: {sql}"
        self._connection = closed_connection()
        self._free = asyncio.Lock()
        try:
            self._connection.execute(f"EXPLAIN {self._query}", [None] * len(columns))
        except duckdb.PermissionException:
            raise UserError(
                f'column "{column}", sql: it reaches for a file, the network or an extension'
            ) from None
        except (duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException) as error:
            # Whether the types fit shows with the values of a row.
            if isinstance(error, duckdb.BinderException) and "column" not in str(error).lower():
                return
            raise UserError(f'column "{column}", sql: {first_line(error)}') from None
        except duckdb.Error:
            return

    async def reason(self, values: Mapping[str, Any]) -> str | None:
        arguments = [values[name] for name in self._columns]
        if self._inline:
            return self._checked(arguments)
        loop = asyncio.get_running_loop()
        async with self._free:
            limit = loop.call_later(MOST_QUERY_SECONDS, self._connection.interrupt)
            try:
                return await asyncio.to_thread(self._checked, arguments)
            finally:
                limit.cancel()

    def _checked(self, arguments: list[Any]) -> str | None:
        import duckdb

        try:
            row = self._connection.execute(self._query, arguments).fetchone()
        except duckdb.InterruptException:
            raise PermanentTaskError(
                "SqlLimit", f"the check takes more than {MOST_QUERY_SECONDS:g} s"
            ) from None
        except (duckdb.Error, RuntimeError, UnicodeError):
            # Such as text that is no number; the message would repeat it.
            return f"{self._reason} (which can't be computed for it)"
        return None if row is not None and row[0] is True else self._reason


class FunctionPredicate(Predicate):
    """A function of the user."""

    def __init__(
        self, column: str, function: Callable[..., Any], columns: Sequence[str], inline: bool
    ) -> None:
        self._column = column
        self._function = function
        self._columns = columns
        self._inline = inline
        self._is_async = inspect.iscoroutinefunction(function)

    async def reason(self, values: Mapping[str, Any]) -> str | None:
        row = {name: values[name] for name in self._columns}
        try:
            if self._is_async:
                verdict = await self._function(row)
            elif self._inline:
                verdict = self._function(row)
            else:
                verdict = await asyncio.to_thread(self._function, row)
        except RetryableTaskError:
            raise
        except (Exception, SystemExit) as error:
            sentence = failure_sentence(self._function, self._column, error)
            raise PermanentTaskError(type(error).__name__, sentence) from None
        if isinstance(verdict, str):
            return verdict or "it does not pass the check"
        if isinstance(verdict, bool):
            return None if verdict else "it does not pass the check"
        raise PermanentTaskError(
            "WrongValue",
            f'the function of column "{self._column}" must return true, false or a reason, not '
            f"{type(verdict).__name__}",
        )


def condition_query(sql: str, columns: Sequence[str]) -> str:
    """The SELECT that evaluates a condition; its parameters are the values of `columns`."""
    arguments = ", ".join(f"? AS {quoted_name(name)}" for name in columns)
    return f"SELECT CAST((\n{sql}\n) AS BOOLEAN) FROM (SELECT {arguments})"
