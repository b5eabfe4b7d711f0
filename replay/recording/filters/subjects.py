"""What can be filtered, and what a filter means there: as SQL, and as a predicate."""

from __future__ import annotations

import operator
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from replay.recording.filters.grammar import (
    AllOf,
    AnyOf,
    Compare,
    Contains,
    FilterError,
    Node,
    Not,
    number,
    parse,
)

Row = Mapping[str, object]
"""A row by the columns of its view."""
Predicate = Callable[[Row], bool]

_UPPER, _LOWER = string.ascii_uppercase, string.ascii_lowercase
_FOLD = str.maketrans(_UPPER, _LOWER)
"""Only ASCII: Python and DuckDB disagree on the small letters of some other characters."""
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ":": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Field:
    """A name that filters know, and the column of the view that it stands for."""

    name: str
    column: str
    kind: Literal["text", "number"] = "text"
    part: Literal["all", "first", "row"] = "all"
    """Of `provider/model/domain` the first part; of a task's id the number that it ends with."""

    @property
    def sql(self) -> str:
        """The field as an SQL expression."""
        if self.part == "first":
            return f"split_part(\"{self.column}\", '/', 1)"
        if self.part == "row":
            return f"TRY_CAST(regexp_extract(\"{self.column}\", '/([0-9]{{1,15}})$', 1) AS BIGINT)"
        return f'"{self.column}"'

    def value(self, row: Row) -> object:
        """The field's value in a row that is a mapping by column."""
        value = row.get(self.column)
        if value is None or self.part == "all":
            return value
        if self.part == "first":
            return str(value).partition("/")[0]
        _, slash, tail = str(value).rpartition("/")
        if slash and tail.isascii() and tail.isdigit() and len(tail) <= 15:
            return int(tail)
        return None


@dataclass(frozen=True, slots=True)
class Subject:
    """Rows of one kind, with the fields that they have."""

    name: str
    view: str
    fields: tuple[Field, ...]

    def field(self, name: str, position: int) -> Field:
        """The field of this name. Raises `FilterError` at `position` if there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        names = ", ".join(field.name for field in self.fields)
        raise FilterError(f"{self.name} have no {name}; they have {names}", position)

    @property
    def texts(self) -> tuple[Field, ...]:
        """The fields that a word is looked for in."""
        return tuple(field for field in self.fields if field.kind == "text" and field.part == "all")

    def where(self, text: str) -> str:
        """The filter as an SQL condition on the view; it is never null. Raises `FilterError`."""
        return self._sql(parse(text))

    def predicate(self, text: str) -> Predicate:
        """The filter as a predicate on rows of the view. Raises `FilterError`."""
        return self._predicate(parse(text))

    def _sql(self, node: Node) -> str:
        if isinstance(node, Contains):
            word = _literal(_fold(node.text))
            parts = [
                f"coalesce(contains({_folded(field.sql)}, {word}), false)" for field in self.texts
            ]
            return f"({' OR '.join(parts)})"
        if isinstance(node, Not):
            return f"(NOT {self._sql(node.node)})"
        if isinstance(node, AllOf):
            return f"({' AND '.join(map(self._sql, node.nodes)) or 'true'})"
        if isinstance(node, AnyOf):
            return f"({' OR '.join(map(self._sql, node.nodes))})"
        field = self.field(node.field, node.position)
        if field.kind == "number":
            sign = "=" if node.operator == ":" else node.operator
            limit = f"CAST('{_number(node)!r}' AS DOUBLE)"
            return f"coalesce(CAST({field.sql} AS DOUBLE) {sign} {limit}, false)"
        pattern = _literal(_like(node))
        negation = "NOT " if _text_operator(node) == "!=" else ""
        return f"coalesce({_folded(field.sql)} {negation}LIKE {pattern} ESCAPE '\\', false)"

    def _predicate(self, node: Node) -> Predicate:
        if isinstance(node, Contains):
            word, texts = _fold(node.text), self.texts
            return lambda row: any(
                value is not None and word in _fold(str(value))
                for value in (field.value(row) for field in texts)
            )
        if isinstance(node, Not):
            inner = self._predicate(node.node)
            return lambda row: not inner(row)
        if isinstance(node, AllOf):
            all_of = [self._predicate(part) for part in node.nodes]
            return lambda row: all(matches(row) for matches in all_of)
        if isinstance(node, AnyOf):
            any_of = [self._predicate(part) for part in node.nodes]
            return lambda row: any(matches(row) for matches in any_of)
        field = self.field(node.field, node.position)
        if field.kind == "number":
            return _compare_numbers(field, node)
        pattern = re.compile(_regex(node), re.DOTALL)
        expected = _text_operator(node) != "!="

        def matches_text(row: Row) -> bool:
            value = field.value(row)
            if value is None:
                return False
            return (pattern.fullmatch(_fold(str(value))) is not None) is expected

        return matches_text


def _compare_numbers(field: Field, node: Compare) -> Predicate:
    limit, holds = _number(node), _OPERATORS[node.operator]

    def matches_number(row: Row) -> bool:
        value = field.value(row)
        return isinstance(value, int | float) and holds(float(value), limit)

    return matches_number


def _number(node: Compare) -> float:
    value = number(node.value)
    if value is None:
        raise FilterError(
            f"{node.field} is a number: write 17, 2s, 250ms or 3m", node.value_position
        )
    return value


def _text_operator(node: Compare) -> str:
    if node.operator not in (":", "=", "!="):
        raise FilterError(f"{node.field} is text: use : or !=", node.position + len(node.field))
    return node.operator


def _parts(node: Compare) -> list[str]:
    """The texts between the wildcards."""
    value = _fold(node.value)
    return [value] if node.quoted else value.split("*")


def _like(node: Compare) -> str:
    return "%".join(re.sub(r"([\\%_])", r"\\\1", part) for part in _parts(node))


def _regex(node: Compare) -> str:
    return ".*".join(re.escape(part) for part in _parts(node))


def _fold(text: str) -> str:
    return text.translate(_FOLD)


def _folded(sql: str) -> str:
    return f"translate(CAST({sql} AS VARCHAR), '{_UPPER}', '{_LOWER}')"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


EVENTS = Subject(
    "events",
    "events",
    (
        Field("kind", "kind"),
        Field("stream", "stream"),
        Field("column", "task_column"),
        Field("task", "task_id"),
        Field("attempt", "attempt_id"),
        Field("lease", "lease_id"),
        Field("resource", "resource"),
        Field("provider", "resource", part="first"),
        Field("reason", "reason"),
        Field("row", "task_id", "number", "row"),
        Field("rowgroup", "row_group", "number"),
        Field("ordinal", "ordinal", "number"),
        Field("at", "t", "number"),
    ),
)
STALLS = Subject(
    "stalls",
    "stalls",
    (
        Field("verdict", "verdict"),
        Field("tier", "tier"),
        Field("resource", "resource"),
        Field("provider", "resource", part="first"),
        Field("sentence", "sentence"),
        Field("wait", "seconds", "number"),
        Field("at", "started_at", "number"),
        Field("until", "ended_at", "number"),
    ),
)
LEASES = Subject(
    "leases",
    "leases",
    (
        Field("column", "task_column"),
        Field("task", "task_id"),
        Field("group", "task_group"),
        Field("lease", "lease_id"),
        Field("result", "result"),
        Field("error", "error"),
        Field("row", "row_index", "number"),
        Field("rowgroup", "row_group", "number"),
        Field("attempt", "attempt", "number"),
        Field("wait", "ready_to_lease_gap", "number"),
        Field("held", "held", "number"),
        Field("at", "acquired_at", "number"),
    ),
)
RUNS = Subject(
    "runs",
    "runs",
    (
        Field("name", "name"),
        Field("id", "id"),
        Field("state", "state"),
        Field("outcome", "outcome"),
        Field("producer", "producer"),
        Field("folder", "folder"),
        Field("rows", "rows_done", "number"),
        Field("dropped", "rows_dropped", "number"),
        Field("records", "records", "number"),
        Field("duration", "seconds", "number"),
        Field("size", "bytes", "number"),
        Field("age", "age", "number"),
    ),
)
QUEUE = Subject(
    "groups",
    "groups",
    (
        Field("group", "label"),
        Field("key", "key"),
        Field("reason", "reason"),
        Field("queued", "queued", "number"),
        Field("running", "running", "number"),
        Field("waiting", "calls_waiting", "number"),
        Field("calling", "calls_in_provider", "number"),
        Field("deferred", "deferred", "number"),
        Field("wait", "oldest_wait", "number"),
    ),
)
ERRORS = Subject(
    "errors",
    "errors",
    (
        Field("error", "error"),
        Field("class", "class"),
        Field("resource", "resource"),
        Field("provider", "resource", part="first"),
        Field("column", "column"),
        Field("times", "times", "number"),
        Field("rows", "rows_dropped", "number"),
        Field("first", "first_at", "number"),
        Field("at", "last_at", "number"),
    ),
)
"""Rows of the state at an instant, which have no view: groups and errors are filtered on screen."""
SUBJECTS = (EVENTS, STALLS, LEASES, RUNS)


def subject_of(view: str) -> Subject | None:
    """The subject whose rows a view has."""
    return next((subject for subject in SUBJECTS if subject.view == view), None)
