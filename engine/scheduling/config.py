"""`TaskAdmissionConfig`: which policy shares the task slots?

It is internal; a workflow chooses with `run.task_shares` and `run.provider_aware`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.identity import RequestPressureSnapshotProvider
from engine.scheduling.bounded_borrow import (
    BoundedBorrowTaskAdmissionPolicy,
    BoundedBorrowTaskAdmissionPolicyConfig,
)
from engine.scheduling.policy import (
    FairSharePolicy,
    StrictFairTaskAdmissionPolicy,
    TaskAdmissionPolicy,
)
from engine.scheduling.provider_aware import ProviderAwareTaskAdmissionPolicy

SharePolicy = Literal["strict_fair", "bounded_borrow"]


@dataclass(frozen=True)
class TaskAdmissionConfig:
    """`shares` names the policy that divides each resource among the groups; `provider_aware` adds
    advice from request pressure to either."""

    shares: SharePolicy = "strict_fair"
    provider_aware: bool = True
    bounded_borrow: BoundedBorrowTaskAdmissionPolicyConfig = field(
        default_factory=BoundedBorrowTaskAdmissionPolicyConfig
    )
    pressed_waiters: int = 1
    stage_leases_per_request_slot: int = 2
    """Task leases one model may hold, in multiples of its static cap: enough workers to have the
    next call ready when a slot frees, too few to fill every task slot with waiters on one model."""
    adaptive_row_groups: bool = False
    """Start with one row group in flight, and admit another whenever task slots would stay free."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-compatible form, for the recording."""
        borrow = self.bounded_borrow
        return {
            "shares": self.shares,
            "provider_aware": self.provider_aware,
            "bounded_borrow": {
                "strict_share_rounding": borrow.strict_share_rounding,
                "default_borrow_ceiling": borrow.default_borrow_ceiling,
                "borrow_ceilings": {
                    f"{group.label} {resource.label}": ceiling
                    for (group, resource), ceiling in borrow.borrow_ceilings.items()
                },
                "repay_when_withheld": borrow.repay_when_withheld,
            },
            "pressed_waiters": self.pressed_waiters,
            "stage_leases_per_request_slot": self.stage_leases_per_request_slot,
            "adaptive_row_groups": self.adaptive_row_groups,
        }


def build_policy(
    config: TaskAdmissionConfig, pressure: RequestPressureSnapshotProvider
) -> TaskAdmissionPolicy:
    """The policy that `config` describes. `pressure` is asked only by a provider-aware one."""
    shares: FairSharePolicy = (
        BoundedBorrowTaskAdmissionPolicy(config.bounded_borrow)
        if config.shares == "bounded_borrow"
        else StrictFairTaskAdmissionPolicy()
    )
    if not config.provider_aware:
        return shares
    return ProviderAwareTaskAdmissionPolicy(shares, pressure, config.pressed_waiters)
