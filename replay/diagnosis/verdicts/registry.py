"""All verdicts: the only list of them, in the order of their tiers.

Whatever is to be known of a verdict by its name is asked here. A name that is not listed, as a
newer headgate may have recorded it, is shown as it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias, Union

from engine.events import RunInfo
from replay.diagnosis.verdicts.base import Context, Display, Verdict, fact, name_of
from replay.diagnosis.verdicts.broken import BROKEN
from replay.diagnosis.verdicts.cooldowns import COOLDOWNS
from replay.diagnosis.verdicts.errors import ERRORS
from replay.diagnosis.verdicts.flow import FLOW
from replay.diagnosis.verdicts.loop import LOOP
from replay.diagnosis.verdicts.requests import REQUESTS
from replay.diagnosis.verdicts.slots import SLOTS
from replay.diagnosis.verdicts.words import duration_text, model_of

WORKING = "working"
UNKNOWN = "unknown"


class Unlisted(Verdict, tag="unlisted", kw_only=True):
    """The detail of a verdict that this version does not know."""


class Bare(Verdict, tag="bare", kw_only=True):
    """A verdict of which only the name is known: its facts were never collected, or an older
    recording lacks some of them."""

    name: Annotated[str, fact("Name of the verdict")]

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        words = phrase(self.name)
        subject = f"{model_of(resource)}: {words}" if resource else words[:1].upper() + words[1:]
        return f"{subject}, for {duration_text(seconds)}."


VERDICTS: tuple[type[Verdict], ...] = tuple(
    sorted(
        (*BROKEN, *LOOP, *SLOTS, *FLOW, *COOLDOWNS, *REQUESTS, *ERRORS),
        key=lambda kind: (not kind.tier.isalpha(), kind.tier),
    )
)
BY_NAME: dict[str, type[Verdict]] = {name_of(kind): kind for kind in VERDICTS}
RANK: dict[str, int] = {name: kind.rank for name, kind in BY_NAME.items()}
TIERS: tuple[str, ...] = tuple(sorted({kind.tier for kind in VERDICTS} - {"", "-"}))
NO_STALL = frozenset(name for name, kind in BY_NAME.items() if not kind.is_stall)
"""Blames that are no verdict of a stall by themselves, or get theirs elsewhere."""

if TYPE_CHECKING:
    AnyVerdict: TypeAlias = Verdict
else:
    AnyVerdict = Union[(*VERDICTS, Unlisted, Bare)]
    """For msgspec: any detail, told apart by its tag."""


def kind_of(name: str) -> type[Verdict]:
    """The class of a verdict; `Unlisted` for a name that this version does not know."""
    return BY_NAME.get(name, Unlisted)


def tier(name: str) -> str:
    """The tier, `A` (must never happen) to `F`."""
    return kind_of(name).tier


def phrase(name: str) -> str:
    """The verdict in a few words."""
    return kind_of(name).phrase or name.replace("_", " ")


def advice(name: str, resource: str = "", run: RunInfo | None = None) -> str:
    """What the operator can change (in this run, if given); "" where nothing needs changing."""
    return kind_of(name).advice(resource, run)


def display(name: str) -> Display:
    """How a chart shows it; one that is not listed by its first letter."""
    known = BY_NAME.get(name)
    if known is None:
        return Unlisted.display._replace(letter=name[:1].upper() or "?")
    return known.display
