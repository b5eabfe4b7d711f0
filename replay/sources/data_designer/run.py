"""What a Data Designer file says about its run as a whole: columns, rows of tasks, DAG edges."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from engine.events import ColumnInfo, RunInfo, RuntimeCorrelation
from engine.events.kinds import OUTSIDE_NUMBERING
from replay.sources.data_designer.wire import WireLine
from replay.state.payload import count, number

_CLOCK = "wall clock"
_HEARTBEAT = "loop heartbeat"
_LACKS = (
    _HEARTBEAT,
    "changes of wait reasons",
    _CLOCK,
    "error types of deferred tasks",
    "start of row group checkpoints",
    "token counts",
    "dependencies (inferred from the order in which tasks become ready)",
)
STARTED = "scheduler_job_started"
HEARTBEAT = "scheduler_loop_heartbeat"
_LACKS_REQUESTS = "request stream (attempts, waits, leases)"
_MAX_ROWS = 20_000
"""Rows of a row group, beyond which rows are not looked for."""
_MAX_ENTRIES = 1_000_000


class RowIndex:
    """Finds the row of a cell task: its id is a hash over column, row group, row and task type.

    The candidates of one column and row group are hashed when its first task is asked for.
    """

    def __init__(self) -> None:
        self._size = 0
        self._stride = 0
        self._rows: dict[tuple[str, int], dict[str, int]] = {}
        self._entries = 0

    def find(self, correlation: RuntimeCorrelation | None, task_id: str | None) -> int | None:
        """The row over all row groups, from 0; None for a batch task or an id of another making."""
        if correlation is None or task_id is None or correlation.task_type != "cell":
            return None
        column, row_group = correlation.task_column, correlation.row_group
        if column is None or row_group is None or self._size == 0:
            return None
        rows = self._rows.get((column, row_group))
        if rows is None:
            rows = self._enumerate(column, row_group)
        index = rows.get(task_id)
        return None if index is None else row_group * self._stride + index

    def reset(self, size: int, stride: int) -> None:
        """Set the rows of the largest row group, and the rows from one's start to the next's."""
        self._size = size if stride > 0 and size <= _MAX_ROWS else 0
        self._stride = stride
        self._rows.clear()
        self._entries = 0

    def forget(self, row_group: int) -> None:
        """Its tasks are over: their candidates need not be kept."""
        for key in [key for key in self._rows if key[1] == row_group]:
            self._entries -= len(self._rows.pop(key))

    def _enumerate(self, column: str, row_group: int) -> dict[str, int]:
        prefix = hashlib.sha1(f"{column}\0{row_group}\0".encode(), usedforsecurity=False)
        rows = {}
        for index in range(self._size):
            digest = prefix.copy()
            digest.update(b"%d\0cell" % index)
            rows["task-" + digest.hexdigest()[:16]] = index
        self._rows[column, row_group] = rows
        self._entries += len(rows)
        while self._entries > _MAX_ENTRIES and len(self._rows) > 1:
            self._entries -= len(self._rows.pop(next(iter(self._rows))))
        return rows


class LearnedRun:
    """Learns the run from its lines in the order in which they were written."""

    def __init__(
        self, name: str, run_id: str | None = None, announced: RunInfo | None = None
    ) -> None:
        """`run_id`: the run that is meant, in the producer's words; None means the first one.

        `announced`: what is known of the run apart from its lines.
        """
        self.rows = RowIndex()
        self.other_runs: dict[str, None] = {}
        """Ids of other runs in the same file, in the order of their first lines."""
        self.started = False
        """The line that begins the run, with its columns, was read."""
        self.has_requests = False
        self._has_heartbeat = False
        self.followed = False
        """Another run began behind this one."""
        self._name = name
        self._run_id = run_id
        self._announced = announced
        self._run: RunInfo | None = None
        self._edges: dict[str, dict[str, None]] = {}
        self._labels: dict[str, str] = {}
        self._ready: list[tuple[str, int | None, int | None]] = []
        self._ready_sequence = 0
        self._stale = False

    @property
    def run(self) -> RunInfo | None:
        if self._stale and self._run is not None:
            self._run = self._refined(self._run)
            self._stale = False
        return self._run

    def learn(self, line: WireLine) -> bool:
        """False where the line belongs to another run than this one."""
        correlation = line.captured_correlation
        if correlation is not None:
            run_id = correlation.run_id
            if self._run_id is None:
                self._run_id = run_id
            if run_id != self._run_id:
                self.other_runs.setdefault(run_id)
                self.followed = self.followed or self._run is not None
                return False
            if self._run is None:
                self._begin(run_id, line.captured_at_monotonic)
        if line.is_request:
            if not self.has_requests:
                self.has_requests = self._stale = True
            return True
        if line.event_kind in OUTSIDE_NUMBERING:  # headgate's own
            if line.event_kind == HEARTBEAT and not self._has_heartbeat:
                self._has_heartbeat = self._stale = True
            return True
        self._learn_order(line, correlation)
        if line.event_kind == STARTED:
            self._started(line)
        elif line.event_kind == "ready_enqueued" and correlation is not None:
            column = correlation.task_column
            if column is not None and column not in self._labels:
                label = line.details.group
                if label is not None:
                    self._labels[column] = label
                    self._stale = True
        return True

    def _learn_order(self, line: WireLine, correlation: RuntimeCorrelation | None) -> None:
        """A cell that completes makes its dependents ready in the same breath: their
        `dependency_ready` and `ready_enqueued` stand directly before its `task_completed`."""
        kind = line.event_kind
        unbroken = line.sequence == self._ready_sequence + 1
        self._ready_sequence = line.sequence
        if kind == "ready_enqueued" and unbroken:
            return
        if kind == "dependency_ready" and correlation is not None and correlation.task_column:
            if not unbroken:
                self._ready.clear()
            row = self.rows.find(correlation, line.task_id)
            self._ready.append((correlation.task_column, correlation.row_group, row))
            return
        if not self._ready:
            return
        if kind == "task_completed" and unbroken and correlation is not None:
            cause = correlation.task_column
            row = self.rows.find(correlation, line.task_id)
            for column, row_group, ready_row in self._ready:
                same_row = row is None or ready_row is None or row == ready_row
                if cause and cause != column and row_group == correlation.row_group and same_row:
                    self._add_edge(cause, column)
        self._ready.clear()

    def _add_edge(self, upstream: str, column: str) -> None:
        edges = self._edges.setdefault(column, {})
        if upstream not in edges:
            edges[upstream] = None
            self._stale = True

    def _begin(self, run_id: str, at: float) -> None:
        if self._announced is not None:
            self._run = self._announced
        else:
            self._run = RunInfo(run_id, self._name, "data_designer", monotonic_start=at)
        self._run = msgspec.structs.replace(
            self._run,
            edges_inferred=True,
            request_sequence_semantics="per_producer",
            lacks=self._lacks(self._run),
        )

    def _lacks(self, run: RunInfo) -> tuple[str, ...]:
        lacks = _LACKS if self.has_requests else (_LACKS_REQUESTS, *_LACKS)
        has = {_CLOCK: run.wall_start is not None, _HEARTBEAT: self._has_heartbeat}
        return tuple(fact for fact in lacks if not has.get(fact))

    def _started(self, line: WireLine) -> None:
        if self._run is None:
            return
        self.started = True
        facts = dict(line.details.facts)
        scheduling = facts.pop("column_scheduling", None)
        rows = [row for row in scheduling if isinstance(row, dict)] if scheduling else []
        limits = _counts(facts.pop("resource_limits", None))
        buffer_size = count(facts.get("buffer_size")) or 0
        largest = count(facts.get("row_group_max_size")) or buffer_size
        self.rows.reset(largest, buffer_size)
        admitted = {str(row.get("column")): row.get("group_admitted_limit") for row in rows}
        self._run = msgspec.structs.replace(
            self._run,
            records=rows_to_make(facts),
            row_groups=count(facts.get("row_group_count")) or None,
            columns=tuple(_column(row) for row in rows),
            resource_limits=limits,
            configuration={**facts, "group_admitted_limit": admitted},
        )
        self._stale = True

    def _refined(self, run: RunInfo) -> RunInfo:
        by_hash = {
            column.group_hash: self._labels[column.name]
            for column in run.columns
            if column.name in self._labels
        }
        columns = tuple(
            msgspec.structs.replace(
                column,
                depends_on=tuple(self._edges.get(column.name, ())),
                group=by_hash.get(column.group_hash, column.group),
            )
            for column in run.columns
        )
        return msgspec.structs.replace(run, columns=columns, lacks=self._lacks(run))


def rows_to_make(facts: dict[str, Any]) -> int | None:
    """Rows of this run, by its start. `num_records` counts those of a resumed dataset as well."""
    return count(facts.get("row_group_total_rows")) or count(facts.get("num_records")) or None


def _column(row: dict[str, Any]) -> ColumnInfo:
    name = str(row.get("column"))
    kind = str(row.get("group_kind") or "")
    digest = str(row.get("group_identity_hash") or "")
    request_resource = row.get("request_resource")
    strategy = str(row.get("strategy") or "")
    weight = number(row.get("group_weight"))
    return ColumnInfo(
        name=name,
        kind=strategy,
        task_type="cell" if strategy == "cell_by_cell" else "batch",
        group=_proved_group(kind, name, request_resource, digest),
        group_kind=kind,
        group_hash=digest,
        group_weight=1.0 if weight is None else weight,
        resources=_counts(row.get("resource_request")),
        request_resource=request_resource if isinstance(request_resource, str) else None,
    )


def _proved_group(kind: str, column: str, request_resource: Any, digest: str) -> str:
    """The group's label where its hash proves it; else empty until an event names the group."""
    identity: tuple[str, ...] = ("local", "default", column)
    if isinstance(request_resource, str):
        provider, _, rest = request_resource.partition("/")
        model, _, domain = rest.rpartition("/")
        identity = (kind, provider, model, domain, column)
    computed = hashlib.sha1("\0".join(identity).encode(), usedforsecurity=False).hexdigest()[:16]
    return "/".join(identity) if computed == digest else ""


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {key: amount for key, amount in value.items() if count(amount) is not None}
