"""What every verdict is: a class that knows its words, whose instances hold the facts of one stall.

A verdict's class says how it is called, ranked, explained, drawn and proved; an instance is the
typed detail of one occurrence, as a recording keeps it. Its sentence is composed when it is read,
so that a better wording reaches recordings made before.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec

from engine.events import RunInfo
from replay.diagnosis.verdicts.words import duration_text

Blame = tuple[str, str]
"""Name of a verdict (or `working`) and the label of the resource it is about ("" for none)."""

Role = Literal["work", "order", "cap", "slots", "turn", "ceiling", "slow", "failure", "unknown"]
"""What a verdict means to whoever looks at a chart; the console gives each role a colour.

`work`: no loss. `order`: the order of the work itself. `cap`: a configured cap. `slots`: task slots
and those who share them. `turn`: a turn that comes by itself. `ceiling`: an adaptive ceiling.
`slow`: a slow provider or process. `failure`: an error, or what must never happen. `unknown`: no
proof."""

Hatch = Literal[
    "plain", "dots", "dashes", "double", "slash", "backslash", "plus", "cross", "shade", "hash",
    "question", "colon",
]  # fmt: skip
"""How a verdict's part of a bar is filled, so that colour is never all that tells it apart."""

Wait = Literal["any", "queue", "queue_last", "call", "retry"]
"""Waits of a task that a verdict may explain: any, in the queue (`queue_last`: only where nothing
else explains it), for a request resource, between two attempts."""


def fact(meaning: str, unit: str = "") -> msgspec.Meta:
    """Describes a field in the published schema. `unit` is "" for counts and names."""
    return msgspec.Meta(description=meaning, extra_json_schema={"unit": unit} if unit else None)


class Display(NamedTuple):
    """How a chart shows a verdict."""

    letter: str
    role: Role
    hatch: Hatch


class Holder(msgspec.Struct, frozen=True):
    """Who holds some of what is missing."""

    group: Annotated[str, fact("Scheduling group, column or request resource that holds them")]
    leases: Annotated[int, fact("Leases held")]
    oldest_age: Annotated[float | None, fact("Age of the oldest; null where not known", "s")] = None


class Waiter(msgspec.Struct, frozen=True):
    """The task, or the call of a task, that waited longest for what was missing."""

    task_id: Annotated[str, fact("The task")]
    column: Annotated[str, fact("Its column")]
    row: Annotated[int | None, fact("Its row, from 0; null for a batch")]
    age: Annotated[float, fact("Length of its wait when the stall was proved to be one", "s")]


class Context(msgspec.Struct, omit_defaults=True):
    """Facts that a stall of any kind may have."""

    also: dict[str, float] = {}
    """Share of the stall's time by each other verdict that it was under."""
    holders: list[Holder] = []
    """Who holds what is missing: the largest or the oldest first."""
    waiting: int | None = None
    """Tasks and calls in line."""
    longest_waiter: Waiter | None = None
    expected_release: float | None = None
    """When it frees itself, in monotonic seconds of the producer."""


class Shortage(NamedTuple):
    """How much more one task or call needs, and what there is of it."""

    needed: int
    free: int
    limit: int | None


class Verdict(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="verdict"):
    """A reason for which something did not move.

    To add one: subclass this, or the family it belongs to, with its name as `tag`, list it in the
    tuple at the end of that module, and let a proof blame it. What its sentence says are fields
    without defaults: where the facts were never collected there is no instance, only a `Bare` one,
    whose sentence claims no more than the name and the time.
    """

    tier: ClassVar[str] = "-"
    """`A` (must never happen) to `F`; `-` where nothing is proved, "" for `working`."""
    phrase: ClassVar[str] = ""
    proof: ClassVar[str] = ""
    """What proves it, for the documentation."""
    display: ClassVar[Display] = Display("?", "order", "colon")
    rank: ClassVar[int] = 0
    """Among the reasons why queued tasks of one resource wait, the highest wins."""
    is_stall: ClassVar[bool] = True
    """Whether a resource that stands still because of it has a stall by that name."""
    about_run: ClassVar[bool] = False
    """About the run rather than the resource whose slots it left unused."""
    explains: ClassVar[frozenset[Wait]] = frozenset()
    proved_from: ClassVar[str] = ""
    """What of a stream it takes, as `RunInfo.lacks` begins to name it; "" for what all have."""
    needs_known_policy: ClassVar[bool] = False
    """Proved by a selection of our own, so only where the producer's policy is known."""
    needs_live_loop: ClassVar[bool] = True
    """Holds only over time in which the producer's event loop is known to have run."""
    what_to_do: ClassVar[str] = ""

    missing: Annotated[
        list[str], fact("What the producer's stream lacks, so that facts may be missing here")
    ] = []
    stalled_seconds: Annotated[
        float | None,
        fact("Time that it stood still, where several stalls are one verdict", "s"),
    ] = None
    request_resource: Annotated[
        str | None,
        fact("Request resource that stood still, where that is not the verdict's resource"),
    ] = None

    @classmethod
    def advice(cls, resource: str = "", run: RunInfo | None = None) -> str:
        """What the operator can change (in this run, if given); "" where nothing needs changing."""
        return cls.what_to_do

    def advice_here(self, resource: str) -> str:
        """What the operator can change, by the facts of this occurrence."""
        return self.advice(resource)

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        """What happened, for someone who knows no internals."""
        return f"{self.phrase} for {duration_text(seconds)}.".capitalize()

    def shortage(self) -> Shortage | None:
        """None where nothing countable is missing, or it is not known."""
        return None

    def without_time(self, seconds: float) -> Verdict | None:
        """The facts where so much of the time turns out not to count; None where none is left."""
        return self

    def facts(self, start: float) -> list[str]:
        """Facts of its own for the report, one line each. `start` is run time in seconds."""
        return []


def name_of(kind: type[Verdict]) -> str:
    """The verdict's name, as recordings and reports write it."""
    return str(kind.__struct_config__.tag)
