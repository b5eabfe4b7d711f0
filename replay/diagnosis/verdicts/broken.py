"""Verdicts of what must never happen in a sound engine, and of what is not known."""

from __future__ import annotations

from typing import Annotated

import msgspec

from replay.diagnosis.verdicts.base import Context, Display, Shortage, Verdict, fact
from replay.diagnosis.verdicts.words import (
    count_text,
    duration_text,
    enumeration,
    model_of,
    slot_name,
)

NO_HEARTBEAT = "no_heartbeat"
"""Cause of unknown time in a stream without a watchdog."""
_OPEN_TASKS = fact("Tasks that were ready, queued or under way")


class LeakedLease(Verdict, tag="leaked_lease", kw_only=True):
    """A lease that is still held although its task or call has ended."""

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

    needs_live_loop = False

    leases: Annotated[int, fact("Leases that were not given back")]

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        number = self.leases
        what = slot_name(resource) if ":" in resource or "/" not in resource else "calls"
        where = "" if what != "calls" else f" to {model_of(resource)}"
        was = "its owner had ended" if number == 1 else "their owners had ended"
        return (
            f"{count_text(number, 'lease')} of the {what}{where}"
            f" {'was' if number == 1 else 'were'} not given back for {duration_text(seconds)} after"
            f" {was}: nobody could use {'it' if number == 1 else 'them'}."
        )


class LostWakeup(Verdict, tag="lost_wakeup", kw_only=True):
    """Work that could be let in, and was not, while the event loop ran."""

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
        int | dict[str, int],
        fact("What a head needs: of each scheduler resource, or the places that a call takes"),
    ]
    free: Annotated[
        int | dict[str, int],
        fact("What is free: of each scheduler resource, or places for calls"),
    ]
    waiting: Annotated[int, fact("Tasks or calls that could go on")]
    limit: Annotated[
        int | None, fact("Ceiling of the request resource; absent where tasks wait")
    ] = None

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        waiting = self.waiting
        if isinstance(self.free, int):
            return (
                f"{count_text(waiting, 'call')} to {model_of(resource)} could have gone out, with"
                f" {count_text(self.free, 'place')} free and nothing against it, but for"
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


class ProducerGone(Verdict, tag="producer_gone", kw_only=True):
    """The producer has died without an end of the run."""

    tier = "A"
    phrase = "producer gone"
    proof = "the stream ends without an end of the run; what is open is unknown"
    display = Display("Z", "failure", "backslash")
    explains = frozenset({"any"})
    what_to_do = "Look at the process that made this run and at its log."

    needs_live_loop = False

    open_tasks: Annotated[int, _OPEN_TASKS]

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        number = self.open_tasks
        return (
            "The stream stops here without an end of the run:"
            f" {count_text(number, 'task')} {'was' if number == 1 else 'were'} open, and what"
            " became of them is unknown."
        )


class Unknown(Verdict, tag="unknown", kw_only=True):
    """Time of which the stream does not tell enough for any other verdict."""

    tier = "-"
    phrase = "unknown"
    proof = (
        "events are missing, by their sequence or by the producer's own word; or nothing came, and"
        " whether the producer's event loop ran meanwhile is not told (see below)"
    )
    display = Display("?", "unknown", "question")
    is_stall = False
    about_run = True
    needs_live_loop = False
    explains = frozenset({"any"})

    cause: Annotated[
        str, fact("Why, as far as it is known; `no_heartbeat`: whether the loop ran is not told")
    ]
    stream: Annotated[
        str | None, fact("`scheduler` or `request`; null where no events are missing")
    ] = None
    lost_events: Annotated[int | None, fact("Events that are missing")] = None
    intervals: Annotated[
        list[list[float]], fact("Begin and end of each silence, a hundred at most", "monotonic s")
    ] = msgspec.field(default_factory=list)

    columns: Annotated[
        list[str], fact("Columns whose own code, outside any call, was at work in the silences")
    ] = msgspec.field(default_factory=list)

    def joined(self, other: Verdict) -> Verdict:
        """This one with the facts of another that follows it."""
        more = other.columns if isinstance(other, Unknown) else []
        return msgspec.structs.replace(self, columns=sorted({*self.columns, *more}))

    @property
    def unheard(self) -> bool:
        """Nothing is missing, and nothing tells whether the producer ran."""
        return self.cause == NO_HEARTBEAT

    def advice_here(self, resource: str) -> str:
        if not self.unheard:
            return ""
        return "Record with `headgate exec`: its watchdog tells a stopped process from a slow call."

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        if self.lost_events is None:
            times = len(self.intervals)
            often = f", in {times} silences" if times > 1 else ""
            columns = (
                enumeration([f"column {name}" for name in self.columns]) if self.columns else ""
            )
            code = f" while code of {columns} was at work" if columns else ""
            return (
                f"Nothing came for {duration_text(seconds)}{often}{code}, and this stream does not"
                " tell whether its event loop ran meanwhile (no heartbeat of a watchdog): neither a"
                " slow provider nor a held-up event loop can be proved."
            )
        lost = self.lost_events
        stream = f"the {self.stream} stream" if self.stream else "the stream"
        return (
            f"{count_text(lost, 'event')} of {stream} {'is' if lost == 1 else 'are'} missing here:"
            f" nothing can be proved about these {duration_text(seconds)}."
        )


BROKEN = (LeakedLease, LostWakeup, ProducerGone, Unknown)
