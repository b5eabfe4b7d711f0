"""`VerdictRow`: one verdict as it was found, and how its facts are kept as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from replay.diagnosis.verdicts.base import Context, name_of
from replay.diagnosis.verdicts.registry import BY_NAME, AnyVerdict, Bare, Unlisted, kind_of


class Recorded(NamedTuple):
    """The words in the recording, for a verdict that this version does not know."""

    tier: str
    sentence: str
    advice: str


class VerdictRow(msgspec.Struct, frozen=True):
    """A proved interval in which something did not move. Times are monotonic seconds."""

    verdict: str
    resource: str | None
    start: float
    end: float
    evidence: tuple[int, ...]
    """Ordinals of the events that prove it."""
    detail: AnyVerdict
    context: Context = msgspec.field(default_factory=Context)
    recorded: Recorded | None = None

    @property
    def tier(self) -> str:
        return self.recorded.tier if self.recorded is not None else kind_of(self.verdict).tier

    @property
    def sentence(self) -> str:
        if self.recorded is not None:
            return self.recorded.sentence
        stalled = self.detail.stalled_seconds
        seconds = self.end - self.start if stalled is None else stalled
        return self.detail.sentence(self.resource or "", seconds, self.context)

    @property
    def advice(self) -> str:
        if self.recorded is not None:
            return self.recorded.advice
        return self.detail.advice_here(self.resource or "")


class Facts(msgspec.Struct):
    """What is known of a stall at one instant; `detail` is `Bare` where nothing is."""

    detail: AnyVerdict
    context: Context = msgspec.field(default_factory=Context)
    evidence: list[int] = []


def row_of(
    detail: AnyVerdict,
    resource: str,
    start: float,
    end: float,
    evidence: list[int],
    context: Context,
) -> VerdictRow:
    """`resource` is "" for the run; `evidence` may repeat ordinals, and 0 is none."""
    proof = tuple(sorted({ordinal for ordinal in evidence if ordinal > 0}))
    name = detail.name if isinstance(detail, Bare) else name_of(type(detail))
    return VerdictRow(name, resource or None, start, end, proof, detail, context)


def encode_facts(row: VerdictRow) -> bytes:
    """Detail and context as one JSON object, with the advice beside them for readers of SQL."""
    facts: dict[str, Any] = {"also": {}, "holders": []}
    facts |= msgspec.to_builtins(row.context)
    facts |= msgspec.to_builtins(row.detail)
    facts.pop("name", None)
    return msgspec.json.encode({**facts, "verdict": row.verdict, "advice": row.advice})


class _Words(msgspec.Struct):
    advice: str = ""


def decode_row(
    verdict: str,
    tier: str,
    resource: str | None,
    start: float,
    end: float,
    sentence: str,
    evidence: Sequence[int],
    facts: str,
) -> VerdictRow:
    """Inverse of `encode_facts`, also of facts without a tag, as they were once kept.

    Where facts that the verdict's sentence needs are missing, the detail is a `Bare` one.

    `tier` and `sentence` count only where this version does not know the verdict. Raises
    `msgspec.MsgspecError`.
    """
    kind = kind_of(verdict)
    recorded = None
    if verdict not in BY_NAME:
        recorded = Recorded(tier, sentence, msgspec.json.decode(facts, type=_Words).advice)
        detail: AnyVerdict = Unlisted()
    else:
        try:
            detail = msgspec.json.decode(facts, type=kind)
        except msgspec.ValidationError:
            detail = Bare(name=verdict)
    context = msgspec.json.decode(facts, type=Context)
    return VerdictRow(verdict, resource, start, end, tuple(evidence), detail, context, recorded)
