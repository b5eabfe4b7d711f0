"""A run as a Chrome trace (JSON), for Perfetto and everything else that opens those.

A process for each column, in it lanes of task leases with their request attempts inside; a process
with the stalls; one with counters by second (ceilings, queue depth) and an instant for each 429 and
each change of a limit. Times are microseconds since the first event.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import IO, Any

import msgspec

from replay.recording.event_rows import from_json
from replay.recording.query import RecordingQuery
from replay.recording.rows import UNREADABLE, verdict_of
from replay.sources.base import SourceError
from replay.sources.sanitize import harmless_json

RUN, STALLS, FIRST_COLUMN = 1, 2, 10
EVENTS_AT_ONCE = 1_000
NOT_KNOWN = "not known"

_LEASES = """
    SELECT l.lease_id, l.task_id, coalesce(l.task_column, '') AS task_column, l.task_group,
        l.row_group, l.row_index, l.attempt, l.acquired_at, l.released_at, l.result, l.error,
        l.ready_queue_wait, l.task_admission_wait, l.own_time,
        a.attempt_id, a.resource, a.wait_started_at, a.acquired_at, a.started_at, a.completed_at,
        a.released_at, a.outcome
    FROM leases l LEFT JOIN requests a ON a.execution_id = l.execution_id
    ORDER BY l.acquired_at, l.acquired_ordinal, l.lease_id, a.first_ordinal
"""
_ORPHANS = """
    SELECT attempt_id, resource, wait_started_at, acquired_at, started_at, completed_at,
        released_at, outcome
    FROM requests a
    WHERE NOT EXISTS (FROM leases l WHERE l.execution_id = a.execution_id)
    ORDER BY coalesce(wait_started_at, acquired_at, started_at, completed_at)
"""
_STALLS = """
    SELECT verdict, tier, resource, started_at, ended_at, sentence, evidence, detail
    FROM stalls ORDER BY started_at
"""
_INSTANTS = """
    SELECT kind, t, resource, reason, diagnostics FROM events
    WHERE kind IN ('request_rate_limited', 'request_limit_decreased', 'request_limit_increased')
    ORDER BY ordinal
"""
_SERIES = """
    SELECT t, series, key, last FROM series
    WHERE series IN ('limit', 'in_flight', 'waiters', 'queue_depth')
    ORDER BY t, series, key
"""

Slice = dict[str, Any]


def write_trace(query: RecordingQuery, file: IO[bytes]) -> None:
    """Streams: memory is bounded by what is open at once."""
    (facts,) = _rows(query, "SELECT run_id, name, producer, wall_start, seconds FROM run")
    run_id, name, producer, wall_start, seconds = facts
    head = {
        "displayTimeUnit": "ms",
        "otherData": {
            "run_id": run_id,
            "name": name,
            "producer": producer,
            "wall_start": wall_start,
        },
    }
    encoded = harmless_json(msgspec.json.encode(head))
    file.write(encoded[:-1] + b',"traceEvents":[\n')
    separator = b""
    for event in _events(query, seconds):
        file.write(separator + harmless_json(msgspec.json.encode(event)))
        separator = b",\n"
    file.write(b"\n]}\n")


def _events(query: RecordingQuery, end: float) -> Iterator[Slice]:
    yield from _named(RUN, "run", 0)
    yield from _instants(query)
    yield from _counters(query, end)
    yield from _named(STALLS, "stalls", 1)
    yield from _stalls(query)
    yield from _leases(query, end)


def _named(process: int, name: str, sort_index: int) -> Iterator[Slice]:
    for kind, value in (
        ("process_name", {"name": name}),
        ("process_sort_index", {"sort_index": sort_index}),
    ):
        yield {"ph": "M", "name": kind, "pid": process, "tid": 0, "ts": 0, "args": value}


class _Lanes:
    """Threads of one process, so that no two slices of a thread overlap."""

    def __init__(self, process: int) -> None:
        self.process = process
        self._free: list[tuple[float, int]] = []
        self.fresh: list[Slice] = []
        """Names of threads that were added and not yet written."""

    def assign(self, start: float, end: float) -> int:
        """The lowest thread that is free from `start` on; busy until `end`."""
        busy, free = [], []
        while self._free and self._free[0][0] <= start:
            free.append(heapq.heappop(self._free))
        if free:
            lane = min(number for _, number in free)
            busy = [lane_end for lane_end in free if lane_end[1] != lane]
        else:
            lane = len(self._free) + 1
            self.fresh.append(self._meta("thread_name", lane, {"name": f"lane {lane}"}))
            self.fresh.append(self._meta("thread_sort_index", lane, {"sort_index": lane}))
        for lane_end in busy:
            heapq.heappush(self._free, lane_end)
        heapq.heappush(self._free, (end, lane))
        return lane

    def _meta(self, kind: str, lane: int, value: dict[str, Any]) -> Slice:
        return {"ph": "M", "name": kind, "pid": self.process, "tid": lane, "ts": 0, "args": value}


def _leases(query: RecordingQuery, end: float) -> Iterator[Slice]:
    processes: dict[str, _Lanes] = {}
    for _, rows in groupby(_rows(query, _LEASES), key=itemgetter(0, 7)):
        first, attempts = None, []
        for row in rows:
            first = first or row
            if row[14] is not None:
                attempts.append(row[14:])
        assert first is not None
        column = first[2]
        lanes = processes.get(column)
        if lanes is None:
            lanes = processes[column] = _Lanes(FIRST_COLUMN + len(processes))
            yield from _named(lanes.process, f"column {column}", lanes.process)
        yield from _lease(first, attempts, lanes, end)
    lanes = _Lanes(FIRST_COLUMN + len(processes))
    named = False
    for row in _rows(query, _ORPHANS):
        if not named:
            yield from _named(lanes.process, "requests without a task", lanes.process)
            named = True
        span = _span(row, 0.0, end)
        lane = lanes.assign(*span)
        yield from _drain(lanes)
        yield from _attempt(row, span, lanes.process, lane)


def _lease(
    row: Sequence[Any], attempts: list[Sequence[Any]], lanes: _Lanes, end: float
) -> Iterator[Slice]:
    start, released = row[7], row[8]
    until = max(start, end if released is None else released)
    lane = lanes.assign(start, until)
    yield from _drain(lanes)
    arguments = {
        "task": row[1],
        "lease": row[0],
        "group": row[3],
        "row_group": row[4],
        "row": row[5],
        "attempt": row[6],
        "result": row[9] if released is not None else NOT_KNOWN,
        "error": row[10],
        "ready_queue_wait_seconds": row[11],
        "task_admission_wait_seconds": row[12],
        "own_time_seconds": row[13],
    }
    if released is None:
        arguments["end"] = NOT_KNOWN
    yield _slice(row[1] or row[0], "task lease", lanes.process, lane, start, until, arguments)
    busy = start
    for attempt in attempts:
        span = _span(attempt, start, until)
        if span[0] >= busy:
            busy = span[1]
            yield from _attempt(attempt, span, lanes.process, lane)
        else:
            # calls side by side do not nest: each further one has a lane of its own
            beside = lanes.assign(*span)
            yield from _drain(lanes)
            yield from _attempt(attempt, span, lanes.process, beside)


def _attempt(
    row: Sequence[Any], span: tuple[float, float], process: int, lane: int
) -> Iterator[Slice]:
    attempt_id, resource, wait, acquired, started, completed, released, outcome = row
    arguments = {"attempt": attempt_id, "resource": resource, "outcome": outcome}
    if released is None:
        arguments["end"] = NOT_KNOWN
    yield _slice(resource or "request", "request attempt", process, lane, *span, arguments)
    for name, begun, ended in (
        ("waiting", wait, acquired),
        ("in provider", started, completed),
    ):
        if begun is None:
            continue
        first = min(max(begun, span[0]), span[1])
        last = span[1] if ended is None else min(max(ended, first), span[1])
        if last > first:
            yield _slice(name, name, process, lane, first, last, {})


def _span(attempt: Sequence[Any], low: float, high: float) -> tuple[float, float]:
    """From its first to its last known moment, within its lease."""
    _, _, wait, acquired, started, completed, released, _ = attempt
    begun = next((at for at in (wait, acquired, started, completed) if at is not None), low)
    ended = high if released is None else max(released, completed or released)
    start = min(max(begun, low), high)
    return start, min(max(ended, start), high)


def _stalls(query: RecordingQuery) -> Iterator[Slice]:
    lanes = _Lanes(STALLS)
    for row in _rows(query, _STALLS):
        try:
            stall = verdict_of(row)
        except UNREADABLE as error:
            raise SourceError(f"The recording is damaged: {error}", exit_code=4) from error
        lane = lanes.assign(stall.start, stall.end)
        yield from _drain(lanes)
        about = {
            "tier": stall.tier,
            "resource": stall.resource,
            "sentence": stall.sentence,
            "evidence": stall.evidence,
        }
        yield _slice(stall.verdict, "stall", STALLS, lane, stall.start, stall.end, about)


def _instants(query: RecordingQuery) -> Iterator[Slice]:
    for kind, at, resource, reason, diagnostics in _rows(query, _INSTANTS):
        try:
            facts = from_json(diagnostics)
        except UNREADABLE as error:
            raise SourceError(f"The recording is damaged: {error}", exit_code=4) from error
        if kind == "request_rate_limited":
            name = f"429 {resource}"
        else:
            name = f"limit {facts.get('previous')} → {facts.get('current')} {resource}"
        yield {
            "ph": "i",
            "s": "p",
            "name": name,
            "cat": kind,
            "pid": RUN,
            "tid": 0,
            "ts": _micros(at),
            "args": {"resource": resource, "reason": reason, **facts},
        }


def _counters(query: RecordingQuery, end: float) -> Iterator[Slice]:
    """The value at the end of each second in which it changed or is not zero, then one zero."""
    shown: set[tuple[str, str]] = set()
    for second, rows in groupby(_rows(query, _SERIES), key=itemgetter(0)):
        values: dict[tuple[str, str], dict[str, float]] = {}
        for _, series, key, last in rows:
            counter = ("queue depth", key) if series == "queue_depth" else ("ceiling", key)
            values.setdefault(counter, {})[series] = last
        at = _micros(max(0.0, min(second + 1, end)))
        for counter in sorted(shown - values.keys()):
            yield _counter(counter, at, {})
        for counter, present in values.items():
            yield _counter(counter, at, present)
        shown = set(values)


def _counter(counter: tuple[str, str], at: float, values: dict[str, float]) -> Slice:
    kind, key = counter
    names = ("queue_depth",) if kind == "queue depth" else ("limit", "in_flight", "waiters")
    return {
        "ph": "C",
        "name": f"{kind} {key}",
        "pid": RUN,
        "tid": 0,
        "ts": at,
        "args": {name: values.get(name, 0) for name in names},
    }


def _slice(
    name: str,
    category: str,
    process: int,
    lane: int,
    start: float,
    end: float,
    arguments: dict[str, Any],
) -> Slice:
    begun = _micros(start)
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": process,
        "tid": lane,
        "ts": begun,
        "dur": round(_micros(end) - begun, 3),
        "args": {key: value for key, value in arguments.items() if value is not None},
    }


def _drain(lanes: _Lanes) -> Iterator[Slice]:
    yield from lanes.fresh
    lanes.fresh = []


def _micros(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _rows(query: RecordingQuery, sql: str) -> Iterator[Sequence[Any]]:
    return query.run(sql)[1]
