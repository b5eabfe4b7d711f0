"""Verdicts of the producer's own process: its event loop was held up, or it did not run at all."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from engine.events import RunInfo
from replay.diagnosis.verdicts.base import Context, Display, Verdict, fact
from replay.diagnosis.verdicts.words import duration_text, enumeration
from replay.state.payload import count, mapping, number, text

_COLUMNS_NAMED = 3
_FRAMES_KEPT = 5
SHORT_SECONDS = 0.25
"""A shorter standstill of the loop is none that anybody has to hear of."""


class StackFrame(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a thread of the producer was when its watchdog looked."""

    function: Annotated[str, fact("Function, with its module")]
    file: Annotated[str, fact("File, without its folder")]
    line: Annotated[int, fact("Line in it")]
    count: Annotated[int, fact("How often the watchdog found it there")]
    column: Annotated[str | None, fact("Column whose task was executed, where known")] = None

    @property
    def location(self) -> str:
        return f"{self.file}:{self.line}"


class StandstillVerdict(Verdict, kw_only=True):
    """Standstills of the loop that follow each other closely."""

    is_stall = False
    explains = frozenset({"any"})
    needs_live_loop = False

    reason: Annotated[str, fact("How the producer's watchdog names it; empty without one")] = ""
    intervals: Annotated[
        list[list[float]], fact("Begin and end of each, a hundred at most", "monotonic s")
    ] = msgspec.field(default_factory=list)

    def joined(self, other: Verdict) -> Verdict:
        """This one with the facts of another one that follows it."""
        return self


class EventLoopLag(StandstillVerdict, tag="event_loop_lag", kw_only=True):
    """Something held the producer's event loop, so that nothing else could go on."""

    tier = "A"
    phrase = "event loop held up"
    proof = (
        "the producer's watchdog saw the loop stand, by its own word; or a heartbeat came 0.1 s or"
        " more after it was due, and the loop did not run from then on. Everything in that time is"
        " the loop's. From 0.5 s in all, of standstills less than 1 s apart"
    )
    display = Display("E", "failure", "slash")
    proved_from = "loop heartbeat"

    custom_columns: Annotated[
        list[str] | None, fact("Columns that run the user's code; null where it is not told")
    ] = None
    frames: Annotated[
        list[StackFrame], fact("Where the loop's thread was, the most frequent first")
    ] = msgspec.field(default_factory=list)

    def joined(self, other: Verdict) -> Verdict:
        if not isinstance(other, EventLoopLag):
            return self
        counts: dict[tuple[str, str, int, str | None], int] = {}
        for frame in (*self.frames, *other.frames):
            key = (frame.function, frame.file, frame.line, frame.column)
            counts[key] = counts.get(key, 0) + frame.count
        frames = [
            StackFrame(function, file, line, number, column)
            for (function, file, line, column), number in counts.items()
        ]
        frames.sort(key=lambda frame: (-frame.count, frame.function, frame.line))
        return msgspec.structs.replace(
            self, frames=frames[:_FRAMES_KEPT], reason=self.reason or other.reason
        )

    @property
    def column(self) -> str | None:
        """The column whose code held the loop up, where a sample shows it."""
        return next((frame.column for frame in self.frames if frame.column), None)

    def advice_here(self, resource: str) -> str:
        column, columns = self.column, self.custom_columns
        if column is not None:
            return f"{self._remedy(f'column {column}')}"
        if columns:
            more = ", …" if len(columns) > _COLUMNS_NAMED else ""
            names = ", ".join(columns[:_COLUMNS_NAMED]) + more
            return f"{self._remedy(f'custom columns ({names})')}"
        if columns is None:
            return (
                "Something synchronous ran on the event loop. If a column runs code of yours (this"
                " stream does not say), make that asynchronous, or have its work done in a thread"
                " or a process."
            )
        return (
            "Something synchronous ran on the event loop, and this run has no custom columns: look"
            " for what else held up its process, such as a slow disk, a busy machine or one that"
            " was suspended."
        )

    def _remedy(self, whose: str) -> str:
        if self.reason == "interpreter_lock":
            return (
                f"Have the computation of {whose} done in a process of its own: it keeps the"
                " interpreter's lock, so that threads do not help."
            )
        if self.reason == "computing":
            return f"Have the computation of {whose} done in a thread or, better, a process."
        return (
            f"Make {whose} asynchronous, or have the work done in a thread or a process: it held"
            " up the event loop."
        )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        times = len(self.intervals)
        often = f", {times} times" if times > 1 else ""
        or_stopped = "" if self.reason else ", or its process stood still,"
        text = (
            f"The event loop was held up{or_stopped} for {duration_text(seconds)}{often}: in that"
            " time nothing at all could be started, sent or received."
        )
        if not self.frames:
            return text
        frame = self.frames[0]
        whose = f" of column {self.column}" if self.column else ""
        did = {
            "waiting": "slept or waited",
            "computing": "computed",
            "interpreter_lock": "computed and kept the interpreter's lock",
        }.get(self.reason, "was at work")
        return f"{text} {frame.function}{whose} ({frame.location}) {did}."

    def facts(self, start: float) -> list[str]:
        if not self.frames:
            return []
        return [
            "seen at: " + enumeration([f"{f.location} in {f.function}" for f in self.frames[:3]])
        ]


class ProcessStopped(StandstillVerdict, tag="process_stopped", kw_only=True):
    """The producer's process did not run: stopped, suspended, or without a core."""

    tier = "E"
    phrase = "the run's own process did not run"
    proof = (
        "the producer's event loop and its watchdog thread were late together, and its processor"
        " time stood still meanwhile. From 0.5 s in all"
    )
    display = Display("X", "slow", "double")
    proved_from = "loop heartbeat"

    core_wait: Annotated[
        float | None, fact("Time in which it wanted to run and had no processor core", "s")
    ] = None
    suspended_seconds: Annotated[
        float | None, fact("Time for which the machine was suspended, by the wall clock", "s")
    ] = None

    def joined(self, other: Verdict) -> Verdict:
        if not isinstance(other, ProcessStopped):
            return self
        return msgspec.structs.replace(
            self,
            core_wait=_sum(self.core_wait, other.core_wait),
            suspended_seconds=_sum(self.suspended_seconds, other.suspended_seconds),
        )

    def advice_here(self, resource: str) -> str:
        if self.reason == "starved":
            return (
                "Give this process processor time: another one uses the machine, or a quota of its"
                " container limits it."
            )
        if self.reason == "suspended":
            return "Keep the machine awake while a run goes on."
        return (
            "Look for what stopped the process: a signal (Ctrl+Z, SIGSTOP), a debugger, a frozen"
            " container or a paused virtual machine. No provider and no setting of the run has to"
            " do with it."
        )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        times = f", {len(self.intervals)} times" if len(self.intervals) > 1 else ""
        if self.reason == "starved":
            text = "was starved: it wanted to run and got no processor core"
        elif self.reason == "suspended" and self.suspended_seconds is not None:
            slept = duration_text(self.suspended_seconds)
            return f"The machine was suspended for {slept}: nothing ran meanwhile."
        else:
            text = "stood still"
        return (
            f"The run's own process {text} for {duration_text(seconds)}{times}; what its providers"
            " did meanwhile is not known."
        )


def custom_columns(run: RunInfo) -> list[str] | None:
    """Names of the columns that run the user's code; None where the stream does not tell."""
    custom = [column.name for column in run.columns if column.kind == "custom"]
    known = bool(custom) or (bool(run.columns) and run.producer == "headgate")
    return custom if known else None


def frames_of(facts: dict[str, Any]) -> list[StackFrame]:
    """The frames of a watchdog's event; what is not understood is left out."""
    listed = facts.get("frames")
    frames = []
    for entry in listed if isinstance(listed, list) else []:
        frame = mapping(entry)
        function, file = text(frame.get("function")), text(frame.get("file"))
        line, times = count(frame.get("line")), count(frame.get("count"))
        if function is None or file is None or line is None:
            continue
        module = text(frame.get("module"))
        name = f"{module}.{function}" if module else function
        frames.append(StackFrame(name, file, line, times or 1, text(frame.get("column"))))
    return frames[:_FRAMES_KEPT]


def is_starved(facts: dict[str, Any], reason: str, seconds: float) -> bool:
    """Whether a held-up loop only had no processor core.

    Without a core it was longer than it computed, what it computed would have been no stall with
    one, and none of that was the user's own code.
    """
    waited = number(facts.get("core_wait")) or 0.0
    computed = number(facts.get("loop_cpu_seconds"))
    if computed is None or reason != "computing" or waited < seconds / 2:
        return False
    frames = facts.get("frames")
    listed = frames if isinstance(frames, list) else []
    own_code = any(not _is_of_library(frame) for frame in listed)
    return computed < min(waited, SHORT_SECONDS) and not own_code


def _is_of_library(entry: object) -> bool:
    frame = mapping(entry)
    module = text(frame.get("module")) or ""
    return frame.get("library") is True or module.startswith("data_designer.")


def _sum(first: float | None, second: float | None) -> float | None:
    return second if first is None else first if second is None else first + second


LOOP = (EventLoopLag, ProcessStopped)
