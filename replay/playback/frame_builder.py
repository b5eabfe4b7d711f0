"""The parts of a frame, each from a state and the rows derived up to it. Nothing here is kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from engine.events import ColumnInfo, RunInfo
from replay.diagnosis.verdicts import clock, count_text
from replay.playback.frame import GroupRow, LeaseBar, Segment
from replay.sources.base import Liveness
from replay.state.model import Failure, Progress, RowGroupProgress, State
from replay.state.rows import AttemptRow, LeaseRow, RollupRow, lease_row, open_attempt_row
from replay.state.task import Task
from replay.state.waits import Waits, waits

_counted = partial(count_text, grouped=True)


def group_rows(run: RunInfo, state: State, at: float) -> tuple[GroupRow, ...]:
    """In order of the columns they feed."""
    labels: dict[str, list[str]] = {}
    resources = {column.group: column.request_resource for column in run.columns}
    for column in run.columns:
        labels.setdefault(column.group, []).append(column.name)
    ready, deferred = state.tasks.count_by_group("ready"), state.tasks.count_by_group("deferred")
    oldest = state.tasks.oldest_queued_by_group()
    blocked = state.block.groups if state.block is not None else {}
    order = [key for key in labels if key in state.groups]
    order += sorted(state.groups.keys() - labels.keys())
    return tuple(
        GroupRow(
            key=key,
            label=", ".join(labels.get(key, [key.rpartition("/")[2]])),
            queued=state.groups[key].queued,
            leased=state.groups[key].leased,
            running=state.groups[key].running,
            ready=ready.get(key, 0),
            deferred=deferred.get(key, 0),
            oldest_wait=max(0.0, at - oldest[key]) if key in oldest else None,
            blocked_by=_blocked_by(state, key, resources.get(key), blocked, at),
        )
        for key in order
    )


def _blocked_by(
    state: State, key: str, resource: str | None, blocked: Mapping[str, str], at: float
) -> str | None:
    """Why tasks of the group wait in the queue; None where none does.

    A cooldown of their model is the reason, whatever slots its other tasks hold meanwhile.
    """
    if state.groups[key].queued <= 0:
        return None
    ceiling = state.ceilings.get(resource or "")
    if ceiling is not None and ceiling.blocked_until is not None and ceiling.blocked_until > at:
        return ceiling.cooldown_reason
    return blocked.get(key)


@dataclass(frozen=True, slots=True)
class Rates:
    """Speed of the run over the last seconds, and the time it still needs; None where unknown."""

    rows_per_second: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    eta_error_seconds: float | None = None
    """Half of the 95 % interval of the remaining time; None where too little is known for it."""


RATE_BLOCKS = 6
"""Equal parts of the time of a rate, whose differences say how sure it is."""
LEAST_BLOCK_SECONDS = 2.0
STUDENT_95 = 2.571
"""Two-sided 95 % of Student's distribution with `RATE_BLOCKS` - 1 degrees of freedom."""
RATE_SECONDS = 60
"""What rates are of, whatever past a screen shows."""
QUIET_SECONDS = 5.0
"""Time without a completed task from which there is no rate to speak of."""


def quiet_seconds(state: State, at: float, began: float) -> float | None:
    """Time since a task last completed, where it is long and the run is not over."""
    if state.outcome is not None or not state.tasks:
        return None
    last = state.progress.last_done_at
    quiet = at - (began if last is None else last)
    return quiet if quiet >= QUIET_SECONDS else None


def rates(
    run: RunInfo, state: State, rows: Sequence[RollupRow], seconds: float, quiet: bool
) -> Rates:
    """How fast the run goes, by the series of its last `seconds`.

    Rows are done only when their row group is checkpointed, in jumps. So the rate is that of tasks:
    each column's completed tasks as a fraction of its total, averaged over the columns that make
    requests (where there are none: over all columns with a task per row, else over all), in rows.
    Where the size of the run is not known, it is that of checkpointed rows, without an ETA. A run
    that has ended went as fast as all its rows over all its time. While it is `quiet`, there is
    none.
    """
    if seconds < 1 or quiet:
        return Rates(None, None, None)
    sums: dict[tuple[str, str], float] = {}
    for row in rows:
        key = (row.series, row.key)
        sums[key] = sums.get(key, 0.0) + row.mean * row.bins
    tokens = sums.get(("tokens", ""), 0.0) / seconds
    known_tokens = state.progress.prompt_tokens + state.progress.completion_tokens > 0
    tokens_per_second = tokens if known_tokens else None
    totals = _totals(run)
    if state.outcome is not None:
        whole = max(state.time - run.monotonic_start, seconds)
        if known_tokens:
            progress = state.progress
            tokens_per_second = (progress.prompt_tokens + progress.completion_tokens) / whole
        return Rates(state.progress.rows_done / whole, tokens_per_second, None)
    if run.records is None or not totals:
        return Rates(sums.get(("rows_done", ""), 0.0) / seconds, tokens_per_second, None)
    progress = state.progress
    scale = run.records / len(totals)
    gained = scale * sum(
        sums.get(("tasks_done", name), 0.0) / total for name, total in totals.items()
    )
    done = scale * sum(
        progress.completed_by_column.get(name, 0) / total for name, total in totals.items()
    )
    rate = gained / seconds
    left = run.records - max(done, progress.rows_done + progress.rows_dropped)
    if rate <= 0:
        return Rates(rate, tokens_per_second, None)
    eta = max(0.0, left) / rate
    unsure = relative_error(rows, totals, seconds)
    return Rates(rate, tokens_per_second, eta, None if unsure is None else eta * unsure)


def relative_error(
    rows: Sequence[RollupRow], totals: Mapping[str, int], seconds: float
) -> float | None:
    """Half of the 95 % interval of the rate of tasks, as a part of the rate.

    By batch means: as unequal as the parts of the time were, as unsure is their mean.
    """
    if not rows or seconds < RATE_BLOCKS * LEAST_BLOCK_SECONDS:
        return None
    first = max(row.bin + row.bins for row in rows) - seconds
    gained = [0.0] * RATE_BLOCKS
    for row in rows:
        total = totals.get(row.key) if row.series == "tasks_done" else None
        if total:
            block = int((row.bin - first) / seconds * RATE_BLOCKS)
            gained[max(0, min(block, RATE_BLOCKS - 1))] += row.mean * row.bins / total
    mean = statistics.fmean(gained)
    return STUDENT_95 * statistics.stdev(gained) / RATE_BLOCKS**0.5 / mean if mean > 0 else None


def errors(state: State) -> tuple[Failure, ...]:
    """That which cost most rows first."""
    ordered = sorted(
        state.failures.values(),
        key=lambda failure: (-failure.rows_dropped, -failure.times, failure.first_at),
    )
    return tuple(msgspec.structs.replace(failure) for failure in ordered)


def _totals(run: RunInfo) -> dict[str, int]:
    """Tasks to be done, by the columns that progress is measured by."""
    cells = [column for column in run.columns if column.task_type == "cell"]
    asking = [column for column in cells if column.request_resource is not None]
    counted: Sequence[ColumnInfo] = asking or cells or run.columns
    totals = {}
    for column in counted:
        total = run.records if column.task_type == "cell" else run.row_groups
        if total:
            totals[column.name] = total
    return totals


def lease_bars(
    state: State,
    leases: Sequence[LeaseRow],
    attempts: Sequence[AttemptRow],
    ordinal: int,
    over: bool,
    window: tuple[float, float],
    limit: int,
) -> tuple[LeaseBar, ...]:
    """The newest `limit` bars in the window as of the event `ordinal`, by start.

    `leases` and `attempts` are rows of the recording, which may end after that event: those are
    taken from the state instead. `over`: nothing follows, so what is open will never be known.
    """
    unpacked = state.tasks.unpacked_tasks()
    held = {task.lease_id: task for task in unpacked if task.lease_id is not None}
    bars: list[tuple[LeaseRow, bool]] = []
    for row in leases:
        ended = row.released_ordinal
        if row.acquired_ordinal > ordinal or row.lease_id in held:
            continue
        if ended is None or ended <= ordinal:
            bars.append((row, ended is None))
    for task in held.values():
        open_row = _open_lease(task)
        if open_row is not None and open_row.acquired_at <= window[1]:
            bars.append((open_row, over))
    bars.sort(key=lambda bar: (bar[0].acquired_at, bar[0].acquired_ordinal))
    by_execution: dict[str, list[AttemptRow]] = {}
    wanted = {row.execution_id for row, _ in bars[-limit:]}
    for attempt in _attempts(state, attempts, ordinal):
        if attempt.execution_id is not None and attempt.execution_id in wanted:
            by_execution.setdefault(attempt.execution_id, []).append(attempt)
    return tuple(
        LeaseBar(
            lease_id=row.lease_id,
            task_id=row.task_id,
            column=row.column,
            group=row.group,
            row_group=row.row_group,
            start=row.acquired_at,
            end=row.released_at,
            result="unknown" if unknown else row.result,
            segments=_segments(by_execution.get(row.execution_id or "", [])),
            ready_at=row.ready_at,
            enqueued_at=row.enqueued_at,
            selected_at=row.selected_at,
            spawned_at=row.spawned_at,
            row=row.row,
            attempt=row.attempt,
            error=row.error,
        )
        for row, unknown in bars[-limit:]
    )


def bar_waits(bar: LeaseBar, now: float) -> Waits:
    """The waits of the lease that the bar shows; what is open counts until `now`."""
    lease = LeaseRow(
        lease_id=bar.lease_id,
        task_id=bar.task_id,
        column=bar.column,
        group=bar.group,
        row_group=bar.row_group,
        row=bar.row,
        attempt=bar.attempt,
        execution_id=None,
        ready_at=bar.ready_at,
        enqueued_at=bar.enqueued_at,
        selected_at=bar.selected_at,
        acquired_at=bar.start,
        spawned_at=bar.spawned_at,
        released_at=bar.end,
        result=bar.result,
        error=bar.error,
        acquired_ordinal=0,
        released_ordinal=None,
    )
    by_attempt: dict[str, list[Segment]] = {}
    for segment in bar.segments:
        by_attempt.setdefault(segment.attempt_id, []).append(segment)
    return waits(lease, [_attempt_of(segments) for segments in by_attempt.values()], now)


def _attempt_of(segments: Sequence[Segment]) -> AttemptRow:
    """An attempt as far as its stretches tell of it; they stand in their order."""
    starts = {segment.kind: segment.start for segment in segments}
    ends = {segment.kind: segment.end for segment in segments}
    last = segments[-1]
    return AttemptRow(
        attempt_id=last.attempt_id,
        resource=last.resource,
        execution_id=None,
        column=None,
        lease_id=None,
        wait_started_at=starts.get("waiting"),
        acquired_at=starts.get("leased", ends.get("waiting")),
        started_at=starts.get("in_provider"),
        completed_at=starts.get("returned", ends.get("in_provider")),
        released_at=last.end,
        outcome=last.outcome,
        first_ordinal=0,
        last_ordinal=None,
    )


def _open_lease(task: Task) -> LeaseRow | None:
    return lease_row(task, None, None)


def _attempts(state: State, rows: Sequence[AttemptRow], ordinal: int) -> list[AttemptRow]:
    """As of `ordinal`: what ended, and what was open."""
    known = [
        row
        for row in rows
        if row.first_ordinal <= ordinal
        and row.attempt_id not in state.attempts
        and (row.last_ordinal is None or row.last_ordinal <= ordinal)
    ]
    known += [open_attempt_row(attempt) for attempt in state.attempts.values()]
    known.sort(key=lambda row: row.first_ordinal)
    return known


def _segments(attempts: Sequence[AttemptRow]) -> tuple[Segment, ...]:
    """Stretches between the known moments of each attempt; those of no length are left out."""
    segments: list[Segment] = []
    for row in attempts:
        ended = row.released_at
        if ended is not None and row.completed_at is not None:
            ended = max(ended, row.completed_at)
        moments = [
            ("waiting", row.wait_started_at),
            ("leased", row.acquired_at),
            ("in_provider", row.started_at),
            ("returned", row.completed_at),
        ]
        known = [(kind, at) for kind, at in moments if at is not None]
        for position, (kind, start) in enumerate(known):
            end = known[position + 1][1] if position + 1 < len(known) else ended
            if end is None or end > start:
                segments.append(
                    Segment(kind, start, end, row.outcome, row.attempt_id, row.resource)  # type: ignore[arg-type]
                )
    return tuple(segments)


def limits(state: State) -> tuple[tuple[str, int, int], ...]:
    """Each scheduler resource with its leased units and its limit."""
    return tuple((name, state.leased.get(name, 0), limit) for name, limit in state.limits.items())


def progress_copy(progress: Progress) -> Progress:
    """The fold goes on in the original, also in what it counts by name."""
    counts = {
        name: dict(value)
        for name in progress.__struct_fields__
        if isinstance(value := getattr(progress, name), dict)
    }
    return msgspec.structs.replace(progress, **counts)


def row_groups_copy(row_groups: RowGroupProgress) -> RowGroupProgress:
    """A copy that stays as it is when the state goes on."""
    return msgspec.structs.replace(row_groups, in_flight=list(row_groups.in_flight))


def mended(lines: int) -> tuple[str, ...]:
    """Of lines that were read although something in them was no JSON or no text."""
    if not lines:
        return ()
    return (f"{_counted(lines, 'line')} held NaN or broken text, read as null or U+FFFD.",)


LATE_ROWS_SECONDS = 1.5
"""A recorder commits several times a second: what is further behind is said."""


def late_rows(lag: float, end: float) -> tuple[str, ...]:
    """Of a recorder that is `lag` seconds behind the state, at the run time `end`."""
    if lag < LATE_ROWS_SECONDS:
        return ()
    return (
        f"The recorder is {lag:.0f} s behind: charts, blame, bars and events end at {clock(end)}.",
    )


def notes(
    run: RunInfo, state: State, liveness: Liveness, complete: bool, broken: int, late: int
) -> tuple[str, ...]:
    """Plain sentences about what is missing or in doubt."""
    sentences: list[str] = []
    if liveness == "lost":
        sentences.append(
            "The producer is gone: no end was written. What was open then is unknown."
            if complete
            else "This recording was never completed. What was open at its end is unknown."
        )
    for at, sentence in state.warnings:
        sentences.append(f"{clock(at - run.monotonic_start)}: {sentence}.")
    if state.lost_events:
        places = "1 place" if len(state.gaps) == 1 else f"{len(state.gaps)} places"
        sentences.append(
            f"{_counted(state.lost_events, 'event is', 'events are')} missing in {places}: "
            "nothing is concluded across a gap."
        )
    if broken:
        sentences.append(f"{_counted(broken, 'line')} could not be read and left out.")
    out_of_order = (
        f"{_counted(late, 'event')} came too late to be put where "
        f"{'it belongs' if late == 1 else 'they belong'} in time."
    )
    if late and not run.lacks:
        sentences.append(out_of_order)
    odd = sum(state.malformed.values())
    if odd:
        sentences.append(f"{_counted(odd, 'event')} could not be used.")
    unknown = sum(state.unknown_kinds.values())
    if unknown:
        kinds = ", ".join(sorted(state.unknown_kinds)[:3])
        sentences.append(f"{_counted(unknown, 'event')} of unknown kinds ({kinds}).")
    if state.orphans:
        sentences.append(
            f"{_counted(state.orphans, 'event')} of tasks or calls whose first event is missing."
        )
    if run.lacks:
        # Who tells of waits when they are over always tells late: no alarm, a property.
        rest = f" {out_of_order}" if late else ""
        sentences.append(f"Not in this stream: {'; '.join(run.lacks)}.{rest}")
    return tuple(sentences)
