"""Tokens and money are counted, never guessed, and a limit stops the run once."""

from __future__ import annotations

import pytest

from engine.models.usage import Price, Usage, read_usage
from engine.run.spending import Spending, Spent, read_spent

PRICE = Price(1.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        (Usage(1_000_000, 500_000), PRICE, 2.0),
        (Usage(1_000_000, 0, cached_tokens=400_000), PRICE, 0.8),
        (Usage(1_000_000, 0, cached_tokens=400_000), Price(1.0, 2.0), 1.0),
        (Usage(10, 10, cost=0.25), PRICE, 0.25),
        (Usage(10, 10, cost=0.25), None, 0.25),
        (Usage(10, None), PRICE, None),
        (Usage(10, 10), None, None),
        (Usage(), PRICE, None),
    ],
)
def test_what_a_call_costs(usage: Usage, price: Price | None, cost: float | None) -> None:
    assert usage.cost_at(price) == pytest.approx(cost)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (None, Usage()),
        ("text", Usage()),
        ({"prompt_tokens": "12", "completion_tokens": 3.0}, Usage(12, 3)),
        ({"prompt_tokens": -1, "completion_tokens": True}, Usage()),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 8,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 5},
                "cost": 0.001,
            },
            Usage(9, 8, 4, 5, 0.001),
        ),
        ({"prompt_tokens_details": [], "completion_tokens_details": 3, "cost": "1"}, Usage()),
        ({"cost": float("nan")}, Usage()),
        ({"cost": -1}, Usage()),
    ],
)
def test_usage_is_read_as_it_comes(said: object, read: Usage) -> None:
    assert read_usage(said) == read


def reasons_of(spending: Spending) -> list[str]:
    reasons: list[str] = []
    spending.on_exceeded = reasons.append
    return reasons


def test_a_limit_of_tokens_is_told_once() -> None:
    spending = Spending(Spent(), max_tokens=100)
    reasons = reasons_of(spending)
    spending.add(Usage(30, 30), None)
    assert reasons == []
    spending.add(Usage(30, 30), None)
    spending.add(Usage(30, 30), None)
    assert len(reasons) == 1
    assert "120 tokens" in reasons[0]
    assert "--max-tokens" in reasons[0]


def test_a_limit_of_money() -> None:
    spending = Spending(Spent(), max_cost=0.5)
    reasons = reasons_of(spending)
    spending.add(Usage(1, 1), 0.4)
    assert reasons == []
    spending.add(Usage(1, 1), 0.2)
    assert "$0.6000" in reasons[0]


def test_a_call_of_unknown_cost_reaches_a_limit_of_money() -> None:
    spending = Spending(Spent(), max_cost=0.5)
    reasons = reasons_of(spending)
    spending.add(Usage(1, 1), None)
    assert "not known" in reasons[0]


def test_earlier_parts_of_a_run_count() -> None:
    kept: list[Spent] = []
    spending = Spending(Spent(10, 20, 1.5, 0), max_tokens=31)
    spending.on_change = kept.append
    reasons = reasons_of(spending)
    spending.check()
    assert reasons == []
    spending.add(Usage(1, None), 0.25)
    assert kept == [Spent(11, 20, 1.75, 0)]
    assert len(reasons) == 1


def test_what_was_kept_is_read_again() -> None:
    import msgspec

    spent = Spent(1, 2, 0.125, 3)
    assert read_spent(msgspec.msgpack.encode(spent)) == spent
    assert read_spent(b"") == read_spent(b"\xc1") == Spent()
