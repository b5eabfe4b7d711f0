"""The proofs over one instant, at states that only a damaged stream brings about."""

from __future__ import annotations

import pytest

from replay.diagnosis.proofs import Pressing, is_eligible
from replay.state.model import Group, State


@pytest.mark.parametrize(("held", "eligible"), [(3, True), (4, False)])
def test_a_group_whose_demand_no_event_told_counts_for_its_own_share(
    held: int, eligible: bool
) -> None:
    peer = Group("b", queued=1, demand={"submission": 1})
    own = Group("a", queued=1, leased_amounts={"submission": held})
    state = State(groups={"a": own, "b": peer}, limits={"submission": 8})
    assert is_eligible(state, "a", {"submission": 1}, Pressing(state, {}, {})) is eligible


def test_alone_a_group_whose_demand_no_event_told_may_have_all() -> None:
    own = Group("a", queued=1, leased_amounts={"submission": 7})
    state = State(groups={"a": own}, limits={"submission": 8})
    assert is_eligible(state, "a", {"submission": 1}, Pressing(state, {}, {}))
