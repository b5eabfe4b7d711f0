"""Verdicts of what must never happen in a sound engine, and of what is not known."""

from __future__ import annotations

from typing import Annotated

from engine.events import RunInfo
from replay.diagnosis.verdicts.base import Context, Display, Shortage, Verdict, fact
from replay.diagnosis.verdicts.words import count_text, duration_text, model_of, slot_name
from replay.state.model import State

_COLUMNS_NAMED = 3
_OPEN_TASKS = fact("Tasks that were ready, queued or under way")


class LeakedLease(Verdict, tag="leaked_lease"):
    tier = "A"
    phrase = "lease never given back"
    proof = (
        "the task has its end event, or the call has returned or its task is gone, and 1 s later"
        " the lease is still held. Blame: what would fit if the leaked amounts were free"
    )
    display = Display("K", "failure", "plus")
    rank = 9
    is_stall = False
    explains = frozenset({"queue", "call"})
    what_to_do = (
        "This is a bug of the producer: report it with this recording. A restart gives the leased"
        " slots back."
    )

    leases: Annotated[int | None, fact("Leases that were not given back")] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        number = 1 if self.leases is None else self.leases
        what = slot_name(resource) if ":" in resource or "/" not in resource else "calls"
        where = "" if what != "calls" else f" to {model_of(resource)}"
        was = "its owner had ended" if number == 1 else "their owners had ended"
        return (
            f"{count_text(number, 'lease')} of the {what}{where}"
            f" {'was' if number == 1 else 'were'} not given back for {duration_text(seconds)} after"
            f" {was}: nobody could use {'it' if number == 1 else 'them'}."
        )


class LostWakeup(Verdict, tag="lost_wakeup"):
    tier = "A"
    phrase = "nothing let in although it could be"
    proof = "see below"
    display = Display("J", "failure", "dashes")
    rank = 8
    is_stall = False
    explains = frozenset({"queue", "call"})
    needs_known_policy = True
    what_to_do = (
        "This is a bug of the producer: report it with this recording. A restart gets the run"
        " going again."
    )

    groups: Annotated[
        list[str] | None, fact("Groups whose head could go on; absent where calls wait")
    ] = None
    needed: Annotated[
        int | dict[str, int] | None,
        fact("What a head needs: of each scheduler resource, or the places that a call takes"),
    ] = None
    free: Annotated[
        int | dict[str, int] | None,
        fact("What is free: of each scheduler resource, or places for calls"),
    ] = None
    limit: Annotated[
        int | None, fact("Ceiling of the request resource; absent where tasks wait")
    ] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        waiting = context.waiting or 0
        if resource:
            free = self.free if isinstance(self.free, int) else 0
            return (
                f"{count_text(waiting, 'call')} to {model_of(resource)} could have gone out, with"
                f" {count_text(free, 'place')} free and nothing against it, but for"
                f" {duration_text(seconds)} none was let out: the scheduler missed it."
            )
        return (
            f"{count_text(waiting, 'task')} could have been started, with task slots free and"
            f" nothing against it, but for {duration_text(seconds)} none was: the scheduler missed"
            " it."
        )

    def shortage(self) -> Shortage | None:
        if isinstance(self.needed, int) and isinstance(self.free, int):
            return Shortage(self.needed, self.free, self.limit)
        return None


def _custom_columns(run: RunInfo) -> list[str] | None:
    """Names of the columns that run the user's code; None where the stream does not tell."""
    custom = [column.name for column in run.columns if column.kind == "custom"]
    known = bool(custom) or (bool(run.columns) and run.producer == "headgate")
    return custom if known else None


class EventLoopLag(Verdict, tag="event_loop_lag"):
    tier = "A"
    phrase = "event loop held up"
    proof = (
        "a heartbeat was due (last one + its period) and for 0.5 s or more after that nothing came"
        " at all. Everything in that time is the loop's"
    )
    display = Display("E", "failure", "slash")
    explains = frozenset({"any"})
    proved_from = "loop heartbeat"

    open_tasks: Annotated[int | None, _OPEN_TASKS] = None
    custom_columns: Annotated[
        list[str] | None, fact("Columns that run the user's code; null where it is not told")
    ] = None

    @classmethod
    def of(cls, state: State, run: RunInfo) -> EventLoopLag:
        return cls(open_tasks=len(state.tasks), custom_columns=_custom_columns(run))

    @classmethod
    def advice(cls, resource: str = "", run: RunInfo | None = None) -> str:
        columns = None if run is None else _custom_columns(run)
        return cls(custom_columns=columns).advice_here(resource)

    def advice_here(self, resource: str) -> str:
        held_up = "Something synchronous ran on the event loop"
        columns = self.custom_columns
        if columns is None:
            return (
                f"{held_up}. If a column runs code of yours (this stream does not say), make that"
                " asynchronous, or have its work done in a thread or a process."
            )
        if not columns:
            return (
                f"{held_up}, and this run has no custom columns: look for what else held up its"
                " process, such as a slow disk, a busy machine or one that was suspended."
            )
        names = ", ".join(columns[:_COLUMNS_NAMED])
        more = ", …" if len(columns) > _COLUMNS_NAMED else ""
        return (
            f"{held_up}: make custom columns ({names}{more}) asynchronous, or have their work done"
            " in a thread or a process."
        )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"The event loop was held up for {duration_text(seconds)}: in that time nothing at all"
            " could be started, sent or received."
        )


class ProducerGone(Verdict, tag="producer_gone"):
    tier = "A"
    phrase = "producer gone"
    proof = "the stream ends without an end of the run; what is open is unknown"
    display = Display("Z", "failure", "backslash")
    explains = frozenset({"any"})
    what_to_do = "Look at the process that made this run and at its log."

    open_tasks: Annotated[int | None, _OPEN_TASKS] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        number = self.open_tasks or 0
        return (
            "The stream stops here without an end of the run:"
            f" {count_text(number, 'task')} {'was' if number == 1 else 'were'} open, and what"
            " became of them is unknown."
        )


class Unknown(Verdict, tag="unknown"):
    tier = "-"
    phrase = "unknown, events missing"
    proof = "events are missing, by their sequence or by the producer's own word"
    display = Display("?", "unknown", "question")
    is_stall = False
    about_run = True
    explains = frozenset({"any"})

    stream: Annotated[str | None, fact("`scheduler` or `request`")] = None
    lost_events: Annotated[int | None, fact("Events that are missing")] = None
    cause: Annotated[str | None, fact("Why, as far as it is known")] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        lost = self.lost_events or 0
        return (
            f"{count_text(lost, 'event')} of the {self.stream or ''} stream"
            f" {'is' if lost == 1 else 'are'} missing here: nothing can be proved about these"
            f" {duration_text(seconds)}."
        )


BROKEN = (LeakedLease, LostWakeup, EventLoopLag, ProducerGone, Unknown)
