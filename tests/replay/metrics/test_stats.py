from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.metrics.stats import describe, judge, median_interval, quantile, without_extremes

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


def test_a_single_value_has_no_spread() -> None:
    item = describe([3.0])
    assert (item.count, item.mean, item.p50, item.p95, item.min, item.max, item.stddev) == (
        1,
        3.0,
        3.0,
        3.0,
        3.0,
        3.0,
        0.0,
    )


def test_known_values() -> None:
    known = describe([4.0, 1.0, 2.0, 3.0])
    assert (known.mean, known.p50, known.min, known.max) == (2.5, 2.5, 1.0, 4.0)
    assert math.isclose(known.stddev, math.sqrt(5 / 3))
    assert math.isclose(known.p95, 3.85)


def test_nothing_to_describe_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        describe([])
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


@settings(max_examples=100)
@given(numbers)
def test_quantiles_lie_within_and_ascend(values: list[float]) -> None:
    ordered = sorted(values)
    quantiles = [quantile(ordered, fraction) for fraction in (0.0, 0.25, 0.5, 0.95, 1.0)]
    assert quantiles[0] == ordered[0]
    assert quantiles[-1] == ordered[-1]
    assert all(a <= b + 1e-6 for a, b in itertools.pairwise(quantiles))


@settings(max_examples=100)
@given(numbers)
def test_the_interval_holds_its_median(values: list[float]) -> None:
    interval = median_interval(values)
    assert interval.low <= interval.median <= interval.high


def test_few_values_admit_how_little_they_say() -> None:
    assert median_interval([1.0]).confidence == 0.0
    five = median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (five.low, five.high, five.confidence) == (1.0, 5.0, 0.9375)
    many = median_interval([float(n) for n in range(20)])
    assert (many.low, many.high) == (5.0, 14.0)
    assert many.confidence >= 0.95


def test_a_verdict_that_hangs_on_one_value_is_none() -> None:
    assert judge([2.0, 2.1, 2.2, 2.1, 2.0], at_least=2.0) == "passed"
    assert judge([1.0, 1.1, 1.2, 1.1, 1.0], at_least=2.0) == "failed"
    assert judge([1.9, 1.9, 1.9, 1.9, 9.0], at_least=2.0) == "inconclusive"
    assert judge([1.0, 1.0, 1.0, 1.0, 1.3], at_most=1.05) == "inconclusive"
    assert judge([], at_most=1.0) == "unknown"


def test_extremes_of_two_values_stay() -> None:
    assert without_extremes([2.0, 1.0]) == [1.0, 2.0]
    assert without_extremes([3.0, 1.0, 2.0]) == [2.0]
