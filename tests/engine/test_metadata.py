from __future__ import annotations

from typing import Any

import pytest

from engine.metadata import DEFAULT_METADATA, SchedulingMetadata, SchedulingMetadataError


def test_the_default_is_local_with_weight_one() -> None:
    assert SchedulingMetadata("local", ("local", "default"), 1) == DEFAULT_METADATA


@pytest.mark.parametrize(
    ("kind", "identity"),
    [
        ("local", ("local", "cpu")),
        ("model", ("model", "alpha", "gen-8b", "chat")),
        ("custom_model", ("custom_model", "team", "tool", "v2")),
    ],
)
def test_every_kind_accepts_its_own_shape(kind: Any, identity: tuple[str, ...]) -> None:
    assert SchedulingMetadata(kind, identity, 3).identity == identity


@pytest.mark.parametrize(
    ("kind", "identity", "weight", "code"),
    [
        ("gpu", ("gpu", "0"), 1, "invalid_kind"),
        ("local", ("local",), 1, "invalid_identity"),
        ("local", ("cpu", "local"), 1, "invalid_identity"),
        ("local", ["local", "cpu"], 1, "invalid_identity"),
        ("model", ("model", "alpha", "", "chat"), 1, "invalid_identity"),
        ("model", ("model", "alpha", "gen-8b"), 1, "invalid_identity"),
        ("custom_model", ("custom_model", "a", 2, "v1"), 1, "invalid_identity"),
        ("local", ("local", "<Pool at 0x7f3a1c2b40>"), 1, "non_deterministic_identity"),
        ("local", ("local", "cpu"), 0, "non_positive_weight"),
        ("local", ("local", "cpu"), 1.5, "non_positive_weight"),
        ("local", ("local", "cpu"), True, "non_positive_weight"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(
    kind: Any, identity: Any, weight: Any, code: str
) -> None:
    with pytest.raises(SchedulingMetadataError) as caught:
        SchedulingMetadata(kind, identity, weight)
    assert caught.value.code == code
    assert caught.value.message
    assert caught.value.fallback is None
