"""Checks on the streams as such: numbers, times, vocabulary, where the run begins and ends."""

from __future__ import annotations

from engine.events import (
    ALL_REQUEST_KINDS,
    ALL_SCHEDULER_KINDS,
    Event,
    RunInfo,
    SchedulerEvent,
)
from engine.events.kinds import OUTSIDE_NUMBERING
from replay.state.model import State
from replay.state.payload import count, text
from replay.verify.rules import Position, RuleBook

GAPS_KEPT = 10_000
AFTER_THE_END = frozenset({"scheduler_loop_heartbeat", "recording_gap"})


class StreamChecks:
    """Sees every event, also where a loss keeps the fold from being trusted."""

    def __init__(self, book: RuleBook) -> None:
        self._book = book
        self._last = {"scheduler": 0, "request": 0}
        self._time = float("-inf")
        self._announced: list[tuple[str, int, int]] = []
        self.gaps: list[tuple[str, int, int, Position | None]] = []
        """(stream, first lost, last lost, the event behind)."""
        self._more_gaps = 0
        self.kinds: dict[str, int] = {}
        self.completed_at: float | None = None
        self.started = 0
        self.first_kind: str | None = None

    def check(self, event: Event, run: RunInfo) -> None:
        """Sees each event once, in order."""
        kind = event.event_kind
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        scheduler = type(event) is SchedulerEvent
        stream = "scheduler" if scheduler else "request"
        sequence = event.sequence
        if sequence == self._last[stream] + 1:
            self._last[stream] = sequence
        elif kind not in OUTSIDE_NUMBERING or sequence != 0:
            self._jump(stream, event, run)
        now = event.captured_at_monotonic
        if sequence == 0 and kind in OUTSIDE_NUMBERING:
            pass  # another thread than the loop's may have said it
        elif now < self._time:
            self._book.report(
                "time",
                f"{stream} time goes back",
                f"{kind} is {self._time - now:.6f} s earlier than an event before it",
                note=self._book.foreign,
            )
        else:
            self._time = now
        if scheduler:
            self._bounds(kind, event)  # type: ignore[arg-type]

    def _jump(self, stream: str, event: Event, run: RunInfo) -> None:
        sequence, last = event.sequence, self._last[stream]
        self._last[stream] = max(last, sequence)
        if semantics(run, stream) != "gapless":
            return
        if sequence <= last:
            self._book.report(
                "sequence",
                f"{stream} number repeated",
                f"{event.event_kind} has number {sequence} after {last}",
            )
        elif len(self.gaps) < GAPS_KEPT:
            self.gaps.append((stream, last + 1, sequence - 1, self._book.position))
        else:
            self._more_gaps += 1

    def _bounds(self, kind: str, event: SchedulerEvent) -> None:
        now = event.captured_at_monotonic
        if kind == "recording_gap":
            facts = event.diagnostics
            first, last = count(facts.get("first_lost")), count(facts.get("last_lost"))
            if first is not None and last is not None and len(self._announced) < GAPS_KEPT:
                self._announced.append((text(facts.get("stream")) or "", first, last))
            return
        if self.first_kind is None and kind != "metadata_diagnostic":
            self.first_kind = kind
        if kind == "run_resumed":
            self.completed_at = None
        elif self.completed_at is not None and kind not in AFTER_THE_END:
            self._book.report("run_bounds", "an event after the end", f"{kind} after the run's end")
        if kind == "scheduler_job_started":
            self.started += 1
            if self.started > 1:
                self._book.report("run_bounds", "a second start", "the run starts again")
        elif kind == "scheduler_job_completed":
            self.completed_at = now

    def finish(self, state: State, run: RunInfo, ended: bool) -> None:
        """Judge the gaps, whose announcement may come behind them. `ended`: nothing will follow."""
        book = self._book
        for stream, first, last, position in self.gaps:
            announced = any(
                name == stream and start <= first and last <= end
                for name, start, end in self._announced
            )
            number = "number" if first == last else "numbers"
            which = f"{first}" if first == last else f"{first} to {last}"
            announcement = (
                "as a recording_gap says" if announced else "and no recording_gap says so"
            )
            book.report(
                "sequence",
                f"{stream} events are missing" + ("" if announced else ", unannounced"),
                f"{number} {which} missing, {announcement}",
                position=position,
            )
        if self._more_gaps:
            book.report("sequence", "more gaps", f"{self._more_gaps} more gaps")
        for stream in ("scheduler", "request"):
            if semantics(run, stream) == "gapless":
                book.looked_at["sequence"] += self._last[stream]
            else:
                book.mark_unchecked(
                    "sequence", f"this producer's {stream} numbers are not one row without gaps"
                )
        events = sum(self.kinds.values())
        book.looked_at["time"] = book.looked_at["vocabulary"] = events
        self._vocabulary(state)
        if not any(kind in ALL_SCHEDULER_KINDS for kind in self.kinds):
            book.mark_unchecked("run_bounds", "there is no scheduler stream")
            return
        book.looked_at["run_bounds"] = self.started + (self.completed_at is not None)
        if self.first_kind not in ("scheduler_job_started", "run_resumed") and not self.gaps:
            book.report(
                "run_bounds", "no start", f"the scheduler stream begins with {self.first_kind}"
            )
        if self.completed_at is None:
            book.mark_unchecked(
                "run_bounds",
                "the run has no end here: its producer was lost" if ended else "the run goes on",
            )

    def _vocabulary(self, state: State) -> None:
        known = ALL_SCHEDULER_KINDS | ALL_REQUEST_KINDS
        for kind, times in self.kinds.items():
            if kind not in known:
                self._book.report(
                    "vocabulary",
                    f"unknown kind {kind}",
                    f"{times} of kind {kind}",
                    note=self._book.foreign,
                )
        for kind, times in state.malformed.items():
            self._book.report(
                "vocabulary", f"unusable {kind}", f"{times} {kind} with a payload of no use"
            )


def semantics(run: RunInfo, stream: str) -> str:
    """What the sequence numbers of `stream` mean in this run."""
    if stream == "scheduler":
        return run.scheduler_sequence_semantics
    return run.request_sequence_semantics
