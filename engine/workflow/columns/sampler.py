"""`SamplerColumn`: a value drawn for each row."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from engine.errors import PermanentTaskError
from engine.strict_model import StrictModel
from engine.workflow.columns.base import BaseColumn, BuildContext, ColumnName
from engine.workflow.columns.generator import BatchContext, ColumnGenerator, TaskType, cell_random

Draw = Callable[[random.Random, Mapping[str, Any]], Any]
"""A value from a source, for the values of the row so far."""
_MOST_REDRAWS = 10_000


class _Range(StrictModel):
    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        low, high = getattr(self, "low", None), getattr(self, "high", None)
        if low is not None and high is not None and high < low:
            raise ValueError("high must not be below low")
        return self


class Integers(_Range):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    """The smallest."""
    high: int
    """The largest."""

    def draw(self) -> Draw:
        return lambda source, row: source.randint(self.low, self.high)


class Uniform(_Range):
    """Numbers between `low` and `high`, all equally likely."""

    low: float
    """Lower bound."""
    high: float
    """Upper bound."""
    decimals: int | None = Field(None, ge=0, le=15)
    """Places after the point; None for all."""

    def draw(self) -> Draw:
        return lambda source, row: _rounded(source.uniform(self.low, self.high), self.decimals)


class Gaussian(_Range):
    """Numbers of a normal distribution; those outside `low` and `high` are drawn again."""

    mean: float
    """Mean of the distribution."""
    stddev: float = Field(ge=0)
    """Standard deviation."""
    low: float | None = None
    """Smallest value; None for no bound."""
    high: float | None = None
    """Largest value; None for no bound."""
    decimals: int | None = Field(None, ge=0, le=15)
    """Places after the point; None for all."""

    @model_validator(mode="after")
    def _reachable(self) -> Gaussian:
        reach = 4 * self.stddev
        below = self.high is not None and self.high < self.mean - reach
        above = self.low is not None and self.low > self.mean + reach
        if below or above:
            raise ValueError("low and high must not lie beyond four standard deviations")
        return self

    def draw(self) -> Draw:
        def value(source: random.Random, row: Mapping[str, Any]) -> float | int:
            for _ in range(_MOST_REDRAWS):
                number = source.gauss(self.mean, self.stddev)
                inside = (self.low is None or number >= self.low) and (
                    self.high is None or number <= self.high
                )
                if inside:
                    return _rounded(number, self.decimals)
            low = self.mean if self.low is None else self.low
            return _rounded(low if self.high is None else min(low, self.high), self.decimals)

        return value


class Bernoulli(StrictModel):
    """True with probability `p`, else false."""

    p: float = Field(ge=0, le=1)
    """Probability of true."""

    def draw(self) -> Draw:
        return lambda source, row: source.random() < self.p


class Datetimes(StrictModel):
    """Moments from `start` to `end`, both included, as text in ISO 8601."""

    start: datetime
    """The earliest, in ISO 8601."""
    end: datetime
    """The latest."""
    unit: Literal["second", "minute", "hour", "day"] = "second"
    """Steps from `start` in which moments lie; with `day` the value is a date."""

    @model_validator(mode="after")
    def _ordered(self) -> Datetimes:
        if (self.start.tzinfo is None) != (self.end.tzinfo is None):
            raise ValueError("start and end must both have a time zone, or neither")
        if self.end < self.start:
            raise ValueError("end must not be before start")
        return self

    def draw(self) -> Draw:
        step = timedelta(**{f"{self.unit}s": 1})
        steps = (self.end - self.start) // step

        def value(source: random.Random, row: Mapping[str, Any]) -> str:
            moment = self.start + source.randint(0, steps) * step
            return moment.date().isoformat() if self.unit == "day" else _iso(moment)

        return value


class Subcategories(StrictModel):
    """Values that depend on the value of another column."""

    of: ColumnName
    """The column whose value decides."""
    values: dict[str, list[Any] | dict[str, float]] = Field(min_length=1)
    """By value of that column, as text: a list of values, or a mapping of values to weights."""

    @field_validator("values")
    @classmethod
    def _not_empty(
        cls, value: dict[str, list[Any] | dict[str, float]]
    ) -> dict[str, list[Any] | dict[str, float]]:
        for parent, choices in value.items():
            if not choices:
                raise ValueError(f'there are no values for "{parent}"')
            if isinstance(choices, dict):
                _check_weights(list(choices.values()))
        return value

    def draw(self) -> Draw:
        draws = {parent: _choice(choices) for parent, choices in self.values.items()}

        def value(source: random.Random, row: Mapping[str, Any]) -> Any:
            draw = draws.get(str(row[self.of]))
            if draw is None:
                raise PermanentTaskError(
                    "UnknownCategory",
                    f'subcategory names no values for a value of column "{self.of}"',
                )
            return draw(source, row)

        return value


class SamplerColumn(BaseColumn):
    """A value drawn for each row; exactly one of the sources says from what. It depends on the seed
    of the run, the row and the name of the column, in whatever order cells are made."""

    type: Literal["sampler"] = "sampler"
    """A value drawn at random."""
    values: list[Any] | None = Field(None, min_length=1)
    """One of these values."""
    weights: list[float] | None = None
    """One per value of `values`; equal where left out."""
    categories: dict[str, float] | None = Field(None, min_length=1)
    """Value to weight: the short form of `values` with `weights`."""
    integers: Integers | None = None
    """A whole number."""
    uniform: Uniform | None = None
    """A number, all equally likely."""
    gaussian: Gaussian | None = None
    """A number of a normal distribution."""
    bernoulli: Bernoulli | None = None
    """True or false."""
    datetime: Datetimes | None = None
    """A moment."""
    subcategory: Subcategories | None = None
    """One of values that depend on another column."""
    uuid: bool = False
    """A UUID (version 4) as text."""

    example: ClassVar[str] = "{ name: topic, type: sampler, categories: { billing: 3, login: 1 } }"

    @model_validator(mode="after")
    def _single_source(self) -> SamplerColumn:
        sources = [name for name in _SOURCES if getattr(self, name) not in (None, False)]
        if len(sources) != 1:
            raise ValueError(f"a sampler needs exactly one of {', '.join(_SOURCES)}")
        if self.weights is not None:
            if self.values is None:
                raise ValueError("weights go with values")
            if len(self.weights) != len(self.values):
                raise ValueError(
                    f"there are {len(self.weights)} weights for {len(self.values)} values"
                )
        weights = self.weights or list((self.categories or {}).values())
        if weights:
            _check_weights(weights)
        return self

    def own_dependencies(self) -> set[str]:
        return set() if self.subcategory is None else {self.subcategory.of}

    def may_be_empty(self, empty_values: frozenset[str]) -> bool:
        listed = [*(self.values or ()), *(self.categories or ())]
        return super().may_be_empty(empty_values) or any(
            value is None or value == "" for value in listed
        )

    def draw(self) -> Draw:
        """How a value is drawn."""
        if self.values is not None:
            return _choice(self.values, self.weights)
        if self.categories is not None:
            return _choice(self.categories)
        for source in (
            self.integers,
            self.uniform,
            self.gaussian,
            self.bernoulli,
            self.datetime,
            self.subcategory,
        ):
            if source is not None:
                return source.draw()
        return lambda source, row: str(uuid.UUID(int=source.getrandbits(128), version=4))

    def generator(self, build: BuildContext) -> ColumnGenerator:
        return SamplerGenerator(self)


_SOURCES = (
    "values",
    "categories",
    "integers",
    "uniform",
    "gaussian",
    "bernoulli",
    "datetime",
    "subcategory",
    "uuid",
)


class SamplerGenerator(ColumnGenerator):
    """Draws for a whole row group at once."""

    task_type: TaskType = "batch"

    def __init__(self, column: SamplerColumn) -> None:
        super().__init__(column.name)
        self._draw = column.draw()

    async def generate_batch(self, context: BatchContext) -> list[Any]:
        rows = context.values or [{}] * len(context.rows)
        return [
            self._draw(cell_random(context.seed, self.column, number), values)
            for number, values in zip(context.rows, rows, strict=True)
        ]


def _choice(choices: list[Any] | dict[str, float], weights: list[float] | None = None) -> Draw:
    if isinstance(choices, dict):
        weights = list(choices.values())
    values = list(choices)
    cumulative = list(accumulate(weights or [1.0] * len(values)))
    return lambda source, row: source.choices(values, cum_weights=cumulative)[0]


def _check_weights(weights: list[float]) -> None:
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ValueError("weights must be 0 or more, and at least one of them above 0")


def _rounded(number: float, decimals: int | None) -> float | int:
    if decimals is None:
        return number
    return round(number) if decimals == 0 else round(number, decimals)


def _iso(moment: datetime) -> str:
    text = moment.isoformat(timespec="seconds")
    return text.replace("+00:00", "Z") if moment.tzinfo is UTC else text
