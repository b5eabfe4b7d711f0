"""`result_of`: how a run ended, once nothing of it goes on."""

from __future__ import annotations

from engine.capacity_plan import AsyncCapacityPlan
from engine.rows.admission import RowGroupAdmission, RowGroups
from engine.rows.checkpoints import Checkpoints
from engine.scheduling.plan import Outcome, RunResult
from engine.scheduling.stopping import RunStop
from engine.scheduling.tracker import CompletionTracker


def result_of(
    stop: RunStop,
    checkpoints: Checkpoints,
    row_groups: RowGroupAdmission,
    specs: RowGroups,
    tracker: CompletionTracker,
    capacity: AsyncCapacityPlan | None,
) -> RunResult:
    """The outcome, with a message where it is not a success.

    Args:
        stop: Whether the run was stopped, and why.
        checkpoints: What was written.
        row_groups: What is still open, or has not begun.
        specs: The row groups of the run, by index.
        tracker: Which rows of the open row groups were given up.
        capacity: What the last event says of the capacity that was used.
    """
    unfinished = checkpoints.rows_unfinished + sum(
        specs[index].rows - len(tracker.dropped_rows(index)) for index in row_groups.in_flight
    )
    complete = row_groups.next is None and not row_groups.in_flight and not unfinished
    outcome: Outcome = "success" if complete else "cancelled"
    message = stop.message
    if stop.cause == "run_failed":
        outcome = "failed"
    elif stop.cause == "stopped" or (message and outcome == "cancelled"):
        outcome = "stopped"
    if checkpoints.failed and not message:
        message = checkpoints.loss(row_groups.in_flight)
    elif outcome == "stopped":
        message += f"; {_row_counts(checkpoints.rows_done, unfinished)}"
    elif outcome == "cancelled" and not message:
        message = _row_counts(checkpoints.rows_done, unfinished)
    return RunResult(
        outcome,
        checkpoints.rows_done,
        checkpoints.rows_dropped,
        message,
        unfinished,
        capacity,
    )


def _row_counts(done: int, unfinished: int) -> str:
    """What a stop left of the data."""
    written = f"{done:,} finished rows are written" if done != 1 else "1 finished row is written"
    return f"{written}, {unfinished:,} begun rows are not finished" if unfinished else written
