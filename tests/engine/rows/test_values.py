"""Values of cells are read again as they were, with their types."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rows.values import UnkeepableValue, pack, unpack

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(-(2**63), 2**63), inner)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def same(first: Any, second: Any) -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, float):
        return first == second or (math.isnan(first) and math.isnan(second))
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[k], second[k]) for k in first)
    return bool(first == second)


@given(PLAIN)
def test_what_is_kept_is_the_same_value(value: Any) -> None:
    (read,) = unpack(pack([value]))
    assert same(read, value)


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**70),
        "\ud800 lone",
        (1, ("a", None)),
        {1, 2},
        frozenset({"a"}),
        datetime.datetime(2026, 3, 4, 5, 6, 7, 8),
        datetime.datetime(2026, 3, 4, tzinfo=datetime.UTC),
        datetime.date(2026, 3, 4),
        datetime.time(5, 6, 7),
        datetime.timedelta(days=-1, microseconds=3),
        decimal.Decimal("1.10"),
        uuid.UUID(int=7),
    ],
)
def test_types_that_no_json_has(value: Any) -> None:
    (read,) = unpack(pack([value]))
    assert (read, type(read)) == (value, type(value))


class Own:
    pass


class Text(str):
    pass


@pytest.mark.parametrize("value", [Own(), Text("a"), {(1, 2): 3}, [Own()], lambda: 1, object])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(UnkeepableValue):
        pack([value])


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91", b"\xc7\x01\x63a", b"\x91\xc7\x02\x0b1 "])
def test_bytes_that_are_no_value(data: bytes) -> None:
    with pytest.raises(ValueError, match="packed value"):
        unpack(data)
