"""`Recorder`: takes events from the run's threads and writes them from a thread of its own.

A run's thread only copies an event's fields and appends them to a queue. What belongs to which run,
encoding and writing happen at most every 20 ms in the one thread that owns all runs.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import signal
import sys
import threading
import time
from collections import deque
from typing import Any

from headgate_bootstrap.control import Control
from headgate_bootstrap.heartbeat import Heartbeat
from headgate_bootstrap.journal import RunJournal
from headgate_bootstrap.run import (
    COMPLETED,
    ENDS,
    HEALTH,
    NUMBERED,
    STARTED,
    Run,
    open_run,
    producer_id_of,
)

TICK_SECONDS = 0.02
MOST_QUEUED = 20_000
"""Events that may wait for the writer; of what comes then only the ends are taken."""
MOST_WAITING = 60_000
"""Beyond so many not even the ends are taken: the user's memory is not ours to fill."""
MOST_EARLY = 2_000
"""Request events of a run that has not begun: registrations, checks that a model answers."""
EXIT_SECONDS = 10.0
SETTLE_SECONDS = 0.2
"""A run's end waits so long for its events to be written: the script may leave without a word."""

CALL_ENDED = "model_request_completed"
WITH_SNAPSHOT = frozenset({HEALTH, "admission_blocked", "group_capped"})
"""Of the scheduler's snapshots, which each event repeats, readers use these."""
WITHOUT_PRESSURE = frozenset(
    """
    request_queue_formed request_queue_drained request_wait_completed request_lease_released
    model_request_started model_request_completed
    """.split()
)
"""Request events whose pressure snapshot says nothing that their neighbours' do not."""


class Preparation:
    """What one resource provider is made for: no run, or one run after another."""

    def __init__(self, dataset: str | None, made_at: float = 0.0) -> None:
        """`made_at`: monotonic seconds; what nobody owns and is older is of no run of this."""
        self.dataset = dataset
        self.made_at = made_at
        self.run: Run | None = None
        self.heartbeat: Heartbeat | None = None


class Recorder:
    """`take` is for any thread and never raises; all else belongs to the writer's thread."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._clear()
        atexit.register(self._exit)
        os.register_at_fork(after_in_child=self._forked)

    def _clear(self) -> None:
        self._queue: deque[tuple[Preparation | None, bool, dict[str, Any]]] = deque()
        self._wake = threading.Event()
        self._settling: deque[threading.Event] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._refused = 0
        self._runs: list[Run] = []
        self._early: deque[tuple[str | Preparation | None, dict[str, Any]]] = deque(
            maxlen=MOST_EARLY
        )

    # For any thread

    def prepare(self, dataset: str | None) -> Preparation:
        """A run may follow. Raises `RuntimeError` where no thread can be started any more."""
        if self._thread is None:
            self._closed = False
            self._thread = threading.Thread(target=self._work, name="headgate", daemon=True)
            self._thread.start()
        return Preparation(dataset, time.monotonic())

    def take(self, preparation: Preparation | None, is_request: bool, event: object) -> None:
        """`preparation` is None where the event may be of any run."""
        try:
            if self._closed:
                return
            if len(self._queue) >= MOST_WAITING:
                self._refused += 1
                return
            fields = _fields(event)
            kind = fields["event_kind"]
            if is_request:
                if kind in WITHOUT_PRESSURE:
                    fields["pressure_snapshot"] = None
                if kind == CALL_ENDED:
                    _add_status(fields)
            else:
                if kind not in WITH_SNAPSHOT:
                    fields["snapshot"] = None
                if preparation is not None:
                    self._watch(preparation, kind, fields["captured_at_monotonic"])
            if len(self._queue) >= MOST_QUEUED and kind not in ENDS:
                fields = {name: fields[name] for name in NUMBERED}
            self._queue.append((preparation, is_request, fields))
            if not self._wake.is_set():
                self._wake.set()
            if kind == COMPLETED and not is_request:
                written = threading.Event()
                self._settling.append(written)
                self._wake.set()
                written.wait(SETTLE_SECONDS)
        except Exception as error:
            self._control.warn("event", f"events were lost to {type(error).__name__}")

    def _watch(self, preparation: Preparation, kind: str, at: float) -> None:
        """The loop of a run is watched from its start to its end."""
        heartbeat = preparation.heartbeat
        if kind == STARTED:
            if heartbeat is not None:
                heartbeat.stop()
            preparation.heartbeat = self._begin_watch(preparation)
        elif heartbeat is not None:
            heartbeat.sign(at)
            if kind == COMPLETED:
                preparation.heartbeat = None
                heartbeat.stop()

    def _begin_watch(self, preparation: Preparation) -> Heartbeat | None:
        """None where no loop runs in this thread, or it can't be watched."""

        def take(fields: dict[str, Any]) -> None:
            if not self._closed:
                self._queue.append((preparation, False, fields))
                self._wake.set()

        try:
            return Heartbeat(self._control.watch, take)
        except Exception:
            return None

    # The writer's thread

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._closed:
            self._wake.wait(TICK_SECONDS if self._ending() else None)
            if not self._closed and not self._settling:
                time.sleep(TICK_SECONDS)
            self._wake.clear()
            settling = [self._settling.popleft() for _ in range(len(self._settling))]
            self.write()
            for written in settling:
                written.set()

    def _ending(self) -> bool:
        return any(run.ends_at is not None for run in self._runs)

    def write(self) -> None:
        """Sort what was taken into its runs, and write each run's lines."""
        for _ in range(len(self._queue)):
            preparation, is_request, fields = self._queue.popleft()
            try:
                self._sort(preparation, is_request, fields)
            except Exception as error:
                self._control.warn("event", f"events were lost to {type(error).__name__}")
        refused, self._refused = self._refused, 0
        if refused and self._runs:
            self._runs[-1].journal.shed_events += refused
        now = time.monotonic()
        for run in list(self._runs):
            lines, run.lines = run.lines, []
            try:
                run.journal.append(lines)
                if run.journal.refusal:
                    self._tell_refusal(run.journal)
                if run.ends_at is not None and run.ends_at <= now:
                    self._end(run)
            except Exception as error:
                self._control.warn("journal", f"events were lost to {type(error).__name__}")

    def _tell_refusal(self, journal: RunJournal) -> None:
        self._control.warn(
            "disk",
            f"{journal.path} takes no more ({journal.refusal}): the run goes on, but is recorded "
            "with gaps",
        )

    def _sort(
        self, preparation: Preparation | None, is_request: bool, fields: dict[str, Any]
    ) -> None:
        if not is_request and preparation is not None:
            if fields["event_kind"] == STARTED:
                self._begin(preparation, fields)
            if preparation.run is not None:
                preparation.run.add(False, fields)
            return
        producer_id = producer_id_of(fields)
        if producer_id is not None:
            owners = [run for run in self._runs if run.producer_id == producer_id]
            if not owners:
                self._early.append((producer_id, fields))
        elif preparation is not None and preparation.run is not None:
            owners = [preparation.run]
        else:
            # A check that a model answers, or a limit that all share: tasks have a run's id.
            owners = [run for run in self._runs if run.ends_at is None]
            if preparation is not None or fields.get("request_attempt_id") is not None:
                owners = []
            self._early.append((preparation, fields))
        for run in owners:
            run.add(True, fields)

    def _begin(self, preparation: Preparation, started: dict[str, Any]) -> None:
        if preparation.run is not None:
            self._end(preparation.run)
        preparation.run = None
        producer_id = producer_id_of(started)
        mine = (None, producer_id, preparation)
        early = [
            fields
            for owner, fields in self._early
            if owner in mine
            and (owner is not None or fields["captured_at_monotonic"] >= preparation.made_at)
        ]
        others = [entry for entry in self._early if entry[0] not in mine]
        self._early = deque(others, MOST_EARLY)
        first = min([started, *early], key=lambda fields: fields["captured_at_monotonic"])
        try:
            start = first["captured_at_monotonic"]
            run = open_run(self._control, preparation.dataset, start, started)
        except OSError as error:
            self._control.warn(
                "folder", f"a run could not be recorded: {error.filename}: {error.strerror}"
            )
            return
        preparation.run = run
        self._runs.append(run)
        for fields in early:
            run.add(True, fields)

    def _end(self, run: Run) -> None:
        run.end()
        self._runs.remove(run)

    # The process

    def _exit(self) -> None:
        """The script is over, and its runs with it."""
        thread = self._thread
        if thread is None or self._closed:
            return
        self._closed = True
        self._wake.set()
        thread.join(EXIT_SECONDS)
        if not thread.is_alive():
            self.write()
            self.close()

    def close(self) -> None:
        """End what has not ended; of a recorder whose thread is over."""
        for run in list(self._runs):
            self._end(run)

    def _forked(self) -> None:
        """A child by `fork`: its parent's runs are none of its own, their files are let go."""
        runs = self._runs
        self._clear()
        self._closed = True
        for run in runs:
            try:
                run.journal.abandon()
            except OSError:
                continue


def _fields(event: Any) -> dict[str, Any]:
    """A copy of what the event has; what its fields hold is never changed by anyone."""
    if hasattr(event, "__dict__"):
        return dict(vars(event))
    return {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}


def _add_status(fields: dict[str, Any]) -> None:
    """The status of a failed answer: the event has its class alone, but is told while the error of
    the call is being handled."""
    status = getattr(sys.exc_info()[1], "status_code", None)
    if isinstance(status, int):
        fields["diagnostics"] = {**(fields.get("diagnostics") or {}), "status": status}
