"""How the events of the scheduler stream change the state. One function per kind."""

from __future__ import annotations

from engine.events import DENIAL_ORDER, RunInfo, SchedulerEvent
from replay.state import task_events
from replay.state.keyframe import correct
from replay.state.live_tasks import PackedTasks
from replay.state.model import Block, Ceiling, RowGroupProgress, State
from replay.state.payload import amounts, count, mapping, number, text
from replay.state.task_events import Handler, add, withdraw

MAX_WARNINGS = 4
"""The newest ones are kept."""


def blocked(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """`admission_blocked`, `group_capped`, `queue_empty`."""
    kind = event.event_kind
    diagnostics = event.diagnostics
    reasons = amounts(diagnostics.get("reasons"))
    reason = text(event.reason_or_result)
    if reason is None and reasons:
        most = max(reasons.values())
        dominant = sorted(name for name, heads in reasons.items() if heads == most)
        reason = next((name for name in DENIAL_ORDER if name in dominant), dominant[0])
    before = state.block
    state.block = Block(
        kind=kind,  # type: ignore[arg-type]
        since=(
            before.since
            if before is not None and before.kind == kind
            else event.captured_at_monotonic
        ),
        ordinal=ordinal,
        reason=reason,
        queued_count=count(diagnostics.get("queued_count")) or 0,
        reasons=reasons,
        groups={
            name: denial
            for name, denial in mapping(diagnostics.get("groups")).items()
            if type(denial) is str
        },
        available_after=number(diagnostics.get("available_after")),
    )


def queue_drained(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """Whatever blocked the queue is over, as nothing is in it."""
    if state.block is not None and state.block.kind != "queue_empty":
        state.block = None


def job_started(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    limits = mapping(event.diagnostics.get("limits"))
    for resource, limit in limits.items():
        units = count(limit)
        if units is not None:
            state.limits[resource] = units


def run_resumed(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """Whatever was open when the run was interrupted has no end; what was counted goes on."""
    facts = event.diagnostics
    job_started(state, event, ordinal, run)
    state.tasks, state.attempts, state.leased = PackedTasks(), {}, {}
    for group in state.groups.values():
        group.queued = group.leased = group.running = 0
        group.demand, group.leased_amounts, group.debt = {}, {}, {}
    state.ceilings = {
        name: Ceiling(
            name,
            ceiling.provider_model,
            completed=ceiling.completed,
            rate_limited=ceiling.rate_limited,
            failed=ceiling.failed,
        )
        for name, ceiling in state.ceilings.items()
    }
    for aggregate in state.aggregates.values():
        aggregate.in_flight = 0
    done = count(facts.get("row_groups_done")) or 0
    state.row_groups = RowGroupProgress(admitted=done, checkpointed=done)
    state.block = state.outcome = state.stop_reason = None
    state.capacity, state.release_diagnostics, state.out_of_step = {}, {}, False
    state.end_message = ""
    wall = number(facts.get("wall"))
    if wall is not None:
        state.resumptions.append((event.captured_at_monotonic, wall))
    progress = state.progress
    rows_done, rows_dropped = count(facts.get("rows_done")), count(facts.get("rows_dropped"))
    if rows_done is not None:
        progress.rows_done = rows_done
    if rows_dropped is not None:
        progress.rows_dropped = rows_dropped
    if "completed_by_column" in facts:
        progress.completed_by_column = amounts(facts["completed_by_column"])


def job_completed(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    state.outcome = text(event.reason_or_result) or "success"
    stopped = text(event.diagnostics.get("outcome"))
    state.stop_reason = stopped if stopped != "success" else None
    state.end_message = text(event.diagnostics.get("message")) or ""
    state.capacity = dict(mapping(event.diagnostics.get("capacity")))
    state.block = None
    # Foreign producers: a released attempt whose completion was never reported.
    for attempt in [a for a in state.attempts.values() if a.released_at is not None]:
        del state.attempts[attempt.attempt_id]


def row_group_admitted(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    row_group = count(event.diagnostics.get("row_group"))
    row_groups = state.row_groups
    if row_group is not None and row_group not in row_groups.in_flight:
        row_groups.in_flight.append(row_group)
    row_groups.admitted += 1
    row_groups.blocked_reason = None
    target = count(event.diagnostics.get("target"))
    if target is not None:
        row_groups.target = target


def row_group_blocked(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    state.row_groups.blocked_reason = text(event.reason_or_result)
    target = count(event.diagnostics.get("target"))
    if target is not None:
        state.row_groups.target = target


def row_group_target(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    target = count(event.diagnostics.get("target"))
    if target is None:
        target = count(event.diagnostics.get("new_target"))
    if target is not None:
        state.row_groups.target = target


def row_group_checkpointed(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """A row group is written: its rows are done or dropped, and it is no longer in flight."""
    diagnostics = event.diagnostics
    row_group = count(diagnostics.get("row_group"))
    row_groups = state.row_groups
    if row_group in row_groups.in_flight:
        row_groups.in_flight.remove(row_group)
    row_groups.checkpointed += 1
    progress = state.progress
    progress.rows_done += count(diagnostics.get("surviving_rows")) or 0
    progress.rows_done -= count(diagnostics.get("surviving_before")) or 0
    progress.rows_dropped += count(diagnostics.get("dropped_rows")) or 0
    progress.rows_dropped -= count(diagnostics.get("dropped_before")) or 0
    if run.producer != "headgate" and row_group is not None:
        # A foreign producer takes what is left of the row group out of its queue without a word.
        left = [
            task
            for task in state.tasks.values()
            if task.row_group == row_group and task.lease_id is None
        ]
        for task in left:
            withdraw(state, task)
            del state.tasks[task.task_id]


def release_diagnostic(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    add(state.release_diagnostics, {event.reason_or_result or "unknown": 1})


def loop_stood(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """The diagnosis takes the interval from the event; here it must only be one."""
    start, end = number(event.diagnostics.get("from")), number(event.diagnostics.get("to"))
    if start is None or end is None or end < start:
        raise ValueError("no interval")


def warned(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """Those from before the first task are said when a run is started."""
    sentence = text(event.diagnostics.get("message"))
    if event.reason_or_result == "provider_degraded" and sentence is not None:
        del state.warnings[: 1 - MAX_WARNINGS]
        state.warnings.append((event.captured_at_monotonic, sentence))


def nothing(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """A fact that changes no state."""


HANDLERS: dict[str, Handler] = {
    **task_events.HANDLERS,
    "scheduler_job_started": job_started,
    "run_resumed": run_resumed,
    "scheduler_job_completed": job_completed,
    "scheduler_health_snapshot": correct,
    "row_group_admitted": row_group_admitted,
    "row_group_admission_blocked": row_group_blocked,
    "row_group_admission_target_changed": row_group_target,
    "row_group_checkpoint_started": nothing,
    "row_group_write_retried": nothing,
    "run_warning": warned,
    "run_stopping": nothing,
    "row_group_checkpointed": row_group_checkpointed,
    "queue_empty": blocked,
    "admission_blocked": blocked,
    "group_capped": blocked,
    "request_pressure_advisory_skipped": nothing,
    "salvage_redispatched": nothing,
    "queue_drained": queue_drained,
    "release_diagnostic": release_diagnostic,
    "scheduler_loop_heartbeat": nothing,
    "loop_blocked": loop_stood,
    "process_paused": loop_stood,
    "metadata_diagnostic": nothing,
}
