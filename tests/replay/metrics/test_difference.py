"""Two numbers, and what may be said about them."""

from __future__ import annotations

import pytest

from replay.metrics.difference import Noise, differ

FIVE = [1.0, 1.1, 1.05, 1.02, 1.07]


@pytest.mark.parametrize(
    ("b", "said"),
    [
        (100.0, "same"),
        (100.1, "too_close"),
        (99.9, "too_close"),
        (105.0, "too_close"),
        (106.0, "seems_worse"),
        (94.0, "seems_better"),
    ],
)
def test_of_single_runs_nothing_is_better_or_worse(b: float, said: str) -> None:
    difference = differ("wall_time", "s", "lower", 100.0, b, "unknown")
    assert (difference.judgement, difference.noise) == (said, "unknown")


def test_without_a_better_direction_a_small_difference_is_too_close_as_well() -> None:
    assert differ("provider_time", "s", None, 1.0, 1.001, "unknown").judgement == "too_close"
    assert differ("provider_time", "s", None, 1.0, 2.0, "unknown").judgement == "different"


def test_a_share_of_almost_nothing_is_too_close_however_often_it_doubled() -> None:
    of_nothing = differ("queue_order", "share", "lower", 0.001, 0.004, "unknown", least=0.02)
    assert of_nothing.judgement == "too_close"
    assert differ("retries", "", "lower", 1.0, 4.0, "unknown").judgement == "seems_worse"


def test_without_noise_the_smallest_difference_is_one() -> None:
    difference = differ("wall_time", "s", "lower", 100.0, 100.1, "none")
    assert (difference.judgement, difference.noise) == ("worse", "none")


@pytest.mark.parametrize(
    ("factor", "said", "noise"),
    [(1.01, "same", "within"), (1.2, "worse", "beyond"), (0.8, "better", "beyond")],
)
def test_iterations_tell_noise(factor: float, said: str, noise: str) -> None:
    other = [factor * item for item in FIVE]
    difference = differ("wall_time", "s", "lower", 1.05, 1.05 * factor, "measured", (FIVE, other))
    assert (difference.judgement, difference.noise) == (said, noise)
    assert difference.interval_a == (1.0, 1.1)


@pytest.mark.parametrize("few", [[], [1.0], FIVE[:3]])
@pytest.mark.parametrize("noise", ["measured", "unknown"])
def test_too_few_iterations_tell_none(few: list[float], noise: Noise) -> None:
    difference = differ("wall_time", "s", "lower", 1.05, 2.0, noise, (FIVE, few))
    assert (difference.judgement, difference.noise) == ("seems_worse", "unknown")


def test_what_one_side_lacks_has_no_direction() -> None:
    difference = differ("cuts", "cuts", "lower", None, 3.0, "none", missing=("no request events",))
    assert (difference.change, difference.judgement) == (None, "unknown")
    assert difference.missing_reasons == ("no request events",)
