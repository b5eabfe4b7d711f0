"""The closed vocabulary of event kinds, by stream."""

from __future__ import annotations

SCHEDULER_KINDS: frozenset[str] = frozenset(
    """
    scheduler_job_started scheduler_job_completed scheduler_health_snapshot dependency_ready
    ready_enqueued row_group_admitted row_group_admission_blocked
    row_group_admission_target_changed row_group_checkpointed selected queue_empty
    admission_blocked group_capped request_pressure_advisory_skipped task_lease_acquired
    admission_denied worker_spawned worker_spawn_failed stale_selection retry_deferred
    non_retryable_dropped cancelled salvage_redispatched queue_drained task_completed
    task_lease_released release_diagnostic
    """.split()
)

REQUEST_KINDS: frozenset[str] = frozenset(
    """
    request_resource_registered request_effective_cap_changed request_queue_formed
    request_wait_started request_wait_completed request_wait_timeout request_wait_cancelled
    request_acquire_denied request_lease_acquired model_request_started model_request_completed
    request_queue_drained request_rate_limited request_limit_decreased request_limit_increased
    request_soft_ceiling_recovered request_fully_recovered request_lease_released
    request_release_diagnostic
    """.split()
)

# Additions of this engine to the published vocabulary; other readers may ignore them.
SCHEDULER_ADDITIONS: frozenset[str] = frozenset(
    {
        "scheduler_loop_heartbeat",
        "row_group_checkpoint_started",
        "recording_gap",
        "metadata_diagnostic",
    }
)
REQUEST_ADDITIONS: frozenset[str] = frozenset({"request_wait_reason_changed"})

ALL_SCHEDULER_KINDS = SCHEDULER_KINDS | SCHEDULER_ADDITIONS
ALL_REQUEST_KINDS = REQUEST_KINDS | REQUEST_ADDITIONS


def stream_of(kind: str) -> str | None:
    """`scheduler` or `request` for a known kind, else None."""
    if kind in ALL_SCHEDULER_KINDS:
        return "scheduler"
    if kind in ALL_REQUEST_KINDS:
        return "request"
    return None
