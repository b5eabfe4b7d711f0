"""`Run`: one run that is being recorded: its folder, its numbering and its lines."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from headgate_bootstrap.control import Control
from headgate_bootstrap.heartbeat import HEARTBEAT
from headgate_bootstrap.journal import Line, RunJournal, encode, gap_line

LATE_SECONDS = 0.25
"""So long after a run's end its journal still takes events."""

PACKAGE = "data-designer"
STARTED = "scheduler_job_started"
COMPLETED = "scheduler_job_completed"
HEALTH = "scheduler_health_snapshot"
ENDS = frozenset(
    """
    task_lease_released task_completed retry_deferred non_retryable_dropped cancelled
    request_lease_released model_request_completed request_wait_timeout request_wait_cancelled
    request_acquire_denied scheduler_job_started scheduler_job_completed
    """.split()
)
"""Never shed as long as there is any room."""
WATCHED = frozenset({HEARTBEAT, "loop_blocked", "process_paused"})
"""What headgate itself says of the loop: outside the producer's numbering."""
OUTCOMES = {"success": "success", "cancelled": "cancelled"}
NUMBERED = frozenset({"event_kind", "captured_at_monotonic", "sequence", "captured_correlation"})
"""All that is left of an event for which there was no room."""


class Run:
    """A run that is being recorded. It belongs to the thread that writes."""

    def __init__(self, producer_id: str | None, journal: RunJournal) -> None:
        self.producer_id = producer_id
        self.journal = journal
        self.lines: list[Line] = []
        self.ends_at: float | None = None
        """Monotonic time after which nothing is added; None until the run has ended."""
        self._scheduler_sequence = 0
        self._requests = 0
        self._outcome: str | None = None
        self._message = ""

    def add(self, is_request: bool, fields: dict[str, Any]) -> None:
        """Add an event as a line, or as a gap where it can't be one."""
        stream = "request" if is_request else "scheduler"
        kind, at = fields["event_kind"], fields["captured_at_monotonic"]
        if is_request:
            self._requests += 1
            number = self._requests
        else:
            number = fields["sequence"]
            self._scheduler_sequence = number or self._scheduler_sequence
        if fields.keys() == NUMBERED:
            self._lose(gap_line(stream, number, number, "overrun", at))
            return
        if kind == COMPLETED and not is_request:
            result = str(fields.get("reason_or_result"))
            self._outcome = OUTCOMES.get(result, "failed")
            self._message = str((fields.get("diagnostics") or {}).get("error_type") or "")
            self.ends_at = time.monotonic() + LATE_SECONDS
        present = {name: value for name, value in fields.items() if value is not None}
        try:
            data = encode({"stream": stream, **present})
        except (TypeError, ValueError, RecursionError):
            self._lose(gap_line(stream, number, number, "unencodable", at))
            return
        kept = kind in ENDS or kind in WATCHED
        self.lines.append(Line(data, stream, number, at, kept, kind == HEALTH))

    def end(self) -> None:
        """Write the last line: the run is over, or its script is."""
        outcome = self._outcome or "cancelled"
        message = self._message if self._outcome else "The script ended before this run did."
        self.journal.end(outcome, message, self._scheduler_sequence, self._requests)

    def _lose(self, gap: Line) -> None:
        """One line for neighbours that are lost alike."""
        self.journal.shed_events += 1
        before = self.lines[-1] if self.lines else None
        if before is not None and before.gap is not None and gap.gap is not None:
            first, last, cause = before.gap
            if before.stream == gap.stream and gap.gap[0] == last + 1 and gap.gap[2] == cause:
                self.lines[-1] = gap_line(gap.stream, first, gap.gap[1], cause, before.at)
                return
        self.lines.append(gap)


def open_run(control: Control, dataset: str | None, start: float, started: dict[str, Any]) -> Run:
    """Begin to record a run in a folder of its own. Raises `OSError` where there can be none.

    Args:
        control: Where folders go.
        dataset: The name that the user gave the dataset.
        start: Monotonic seconds of its first event.
        started: The fields of the event that begins it.
    """
    now = time.time()
    wall_start = now - (time.monotonic() - start)
    name = control.name or _name(dataset, control.script)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
    run_id = f"{stamp}-{slug[:40]}-{secrets.token_hex(2)}"
    versions = {**control.versions, "python": platform.python_version()}
    with contextlib.suppress(PackageNotFoundError):
        versions[PACKAGE] = version(PACKAGE)
    facts = started.get("diagnostics") or {}
    # Of a resumed dataset `num_records` counts the rows that stand there already as well.
    records = facts.get("row_group_total_rows") or facts.get("num_records")
    run = {
        "run_id": run_id,
        "name": name,
        "producer": "data_designer",
        "producer_version": versions.get(PACKAGE, ""),
        "wall_start": wall_start,
        "monotonic_start": start,
        "edges_inferred": True,
        "request_sequence_semantics": "per_producer",
    }
    record = {
        "run_id": run_id,
        "name": name,
        "state": "running",
        "wall_start": wall_start,
        "versions": versions,
        "producer": "data_designer",
        "records": records if isinstance(records, int) else None,
        "pid": os.getpid(),
    }

    def folders(nth: int) -> str:
        path = control.out or os.path.join(control.runs, run_id)
        return path if nth == 1 else f"{path}-{nth}"

    journal = RunJournal(folders, {"run": run, "dialect": "data_designer"}, record)
    _register(control, run_id, name, journal.path)
    control.tell_run(run_id, journal.path)
    return Run(producer_id_of(started), journal)


def producer_id_of(fields: dict[str, Any]) -> str | None:
    """The run that the producer says an event is of: known before the run starts."""
    correlation = fields.get("captured_correlation")
    return correlation.get("run_id") if isinstance(correlation, dict) else None


def _register(control: Control, run_id: str, name: str, folder: str) -> None:
    """Let `headgate runs` find it, also when the parent has gone.

    A pointer is as `engine/events/run_index.py` writes it.
    """
    try:
        os.makedirs(control.index, exist_ok=True)
        pointer = os.path.join(control.index, run_id)
        facts = {"run_id": run_id, "path": folder, "name": name}
        with open(pointer, "wb") as file:
            file.write(encode(facts))
    except OSError:
        return


def _name(dataset: str | None, script: str) -> str:
    """The dataset's name where the user gave it one; else the script's."""
    if dataset == "preview-dataset":
        return f"{script} preview"
    return script if dataset in (None, "", "dataset") else str(dataset)
