from __future__ import annotations

import random
import statistics
from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import PermanentTaskError
from tests.effort import effort
from tests.engine.workflow.columns.cells import batch, generator, generators, workflow

DRAWS = effort(1500, 20_000)
CAPITALS = {"of": "country", "values": {"France": ["Paris", "Lyon"], "Chile": {"Santiago": 1}}}
SOURCES: list[dict[str, Any]] = [
    {"values": ["a", 2, None]},
    {"categories": {"often": 3, "seldom": 1}},
    {"integers": {"low": 1, "high": 99}},
    {"uniform": {"low": -1, "high": 1}},
    {"gaussian": {"mean": 0, "stddev": 2}},
    {"bernoulli": {"p": 0.5}},
    {"datetime": {"start": "2024-01-01", "end": "2025-01-01"}},
    {"subcategory": CAPITALS},
    {"uuid": True},
]


def drawn(source: dict[str, Any], rows: int = DRAWS) -> list[Any]:
    return batch(generator({"type": "sampler", **source}), range(rows))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: next(iter(source)))
def test_a_value_depends_on_seed_row_and_column_alone(source: dict[str, Any]) -> None:
    column = {"type": "sampler", **source}
    sampler = generator(column, "country")
    parents = [{"country": "France"}] * 60
    whole = batch(sampler, range(60), parents)
    rows = list(range(60))
    random.Random(3).shuffle(rows)
    shuffled = batch(generator(column, "country"), rows, parents)
    assert dict(zip(rows, shuffled, strict=True)) == dict(enumerate(whole))
    assert batch(sampler, range(60), parents, seed=2) != whole
    other = generators(
        {"name": "country", "type": "sampler", "values": ["France"]}, {"name": "y", **column}
    )["y"]
    assert batch(other, range(60), parents) != whole


def test_uniform_numbers_fill_their_bounds() -> None:
    numbers = drawn({"uniform": {"low": 2, "high": 4}})
    assert 2 <= min(numbers) < 2.05
    assert 3.95 < max(numbers) <= 4
    assert statistics.mean(numbers) == pytest.approx(3, abs=0.06)
    rounded = drawn({"uniform": {"low": 2, "high": 4, "decimals": 1}}, 100)
    assert all(round(number, 1) == number for number in rounded)


def test_gaussian_numbers_have_their_mean_and_keep_their_bounds() -> None:
    numbers = drawn({"gaussian": {"mean": 10, "stddev": 2}})
    assert statistics.mean(numbers) == pytest.approx(10, abs=0.2)
    assert statistics.stdev(numbers) == pytest.approx(2, abs=0.15)
    bounded = drawn({"gaussian": {"mean": 10, "stddev": 2, "low": 9, "high": 11, "decimals": 0}})
    assert set(bounded) == {9, 10, 11}
    assert all(isinstance(number, int) for number in bounded)


def test_bernoulli_is_true_as_often_as_it_says() -> None:
    values = drawn({"bernoulli": {"p": 0.2}})
    assert set(values) == {True, False}
    assert sum(values) / len(values) == pytest.approx(0.2, abs=0.04)
    assert set(drawn({"bernoulli": {"p": 0}}, 50)) == {False}
    assert set(drawn({"bernoulli": {"p": 1}}, 50)) == {True}


def test_moments_lie_in_their_steps() -> None:
    span = {"start": "2024-02-28", "end": "2024-03-01"}
    assert set(drawn({"datetime": span | {"unit": "day"}}, 200)) == {
        "2024-02-28",
        "2024-02-29",
        "2024-03-01",
    }
    hours = drawn({"datetime": span | {"unit": "hour"}}, 200)
    assert all(text.endswith(":00:00") for text in hours)
    zoned = drawn({"datetime": {"start": "2024-01-01T00:00:00Z", "end": "2024-01-02T00:00Z"}}, 50)
    assert all(datetime.fromisoformat(text).utcoffset() is not None for text in zoned)


def test_a_subcategory_follows_the_other_column() -> None:
    sampler = generator({"type": "sampler", "subcategory": CAPITALS}, "country")
    parents = [{"country": ("France", "Chile")[row % 2]} for row in range(200)]
    values = batch(sampler, range(200), parents)
    assert set(values[::2]) == {"Paris", "Lyon"}
    assert set(values[1::2]) == {"Santiago"}
    made = workflow(
        {"name": "x", "type": "sampler", "subcategory": CAPITALS},
        {"name": "country", "type": "sampler", "values": ["Chile"]},
    )
    assert made.graph.depends_on["x"] == ("country",)


def test_an_unknown_category_is_told_without_its_value() -> None:
    sampler = generator({"type": "sampler", "subcategory": CAPITALS}, "country")
    with pytest.raises(PermanentTaskError) as caught:
        batch(sampler, [0], [{"country": "private words"}])
    assert 'no values for a value of column "country"' in caught.value.message
    assert "private" not in caught.value.message


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"uniform": {"low": 2, "high": 1}}, "high must not be below low"),
        ({"gaussian": {"mean": 0, "stddev": -1}}, "greater than or equal to 0"),
        ({"gaussian": {"mean": 0, "stddev": 1, "low": 9}}, "four standard deviations"),
        ({"bernoulli": {"p": 1.5}}, "less than or equal to 1"),
        ({"datetime": {"start": "2024-01-02", "end": "2024-01-01"}}, "end must not be before"),
        ({"datetime": {"start": "2024-01-02Z", "end": "soon"}}, "valid datetime"),
        (
            {"datetime": {"start": "2024-01-01T00:00:00Z", "end": "2024-01-02"}},
            "both have a time zone",
        ),
        ({"subcategory": {"of": "country", "values": {"France": []}}}, 'no values for "France"'),
        ({"subcategory": {"of": "country", "values": {"a": {"b": 0}}}}, "above 0"),
        ({"subcategory": CAPITALS, "uuid": True}, "exactly one"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(source: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        workflow({"name": "x", "type": "sampler", **source})
