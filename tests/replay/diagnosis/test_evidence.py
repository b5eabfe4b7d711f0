"""The facts of a stall: whatever is blamed, they are collected, or the sentence claims none."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from replay.diagnosis import evidence
from replay.diagnosis.diagnosis import Diagnosis
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.rolling_stats import CALLS_NEEDED
from replay.diagnosis.verdicts import VERDICTS, Bare, Facts, Verdict
from replay.diagnosis.verdicts.base import fact, name_of
from replay.diagnosis.verdicts.broken import LostWakeup, ProducerGone
from replay.diagnosis.verdicts.requests import RequestVerdict
from replay.diagnosis.verdicts.slots import SlotVerdict
from replay.state.model import State
from replay.state.reducer import begin, reduce
from tests.replay.diagnosis.stream import BETA, LIMITS, QUESTION, VERDICT, Stream

SLOTS = "model_stage:beta/judge"
ELSEWHERE = {LostWakeup, ProducerGone}
"""Never to blame for a stall when its facts are collected: they are proved in retrospect, with
facts of their own."""
BLAMED = [kind for kind in VERDICTS if kind.is_stall and kind not in ELSEWHERE]


def everything_at_once() -> Stream:
    """After calls of 1 s: one hangs, one waits, one failed and its client pauses, a task is to be
    retried, another is queued, and beta has refused a call."""
    stream = Stream(limits={**LIMITS, SLOTS: 4})
    stream.register(BETA, 4)
    for row in range(CALLS_NEEDED):
        work = stream.call(stream.begin(VERDICT, row))
        stream.at(row + 1.0)
        stream.complete(work)
    hung = stream.call(stream.begin(VERDICT, 100))
    failed = stream.call(stream.begin(VERDICT, 101))
    stream.answer(failed, "provider_failure")
    refused = stream.call(stream.begin(VERDICT, 102))
    stream.answer(refused, "rate_limited", blocked_until=stream.now + 99.0, limit=(4, 3))
    stream.wait(refused, "cooldown")
    deferred = stream.begin(QUESTION, 103)
    stream.defer(deferred, "ValueError", 99.0)
    stream.defer(stream.begin(VERDICT, 104), "HTTP503", 99.0)
    stream.begin(QUESTION, 105)
    stream.queue(VERDICT, 106)
    assert hung.request_lease
    stream.at(stream.now - stream.run.monotonic_start + 30.0)
    stream.queue(VERDICT, 107)
    return stream


def folded(stream: Stream) -> tuple[State, DiagnosisState]:
    state, diagnosis = begin(stream.run), Diagnosis(stream.run)
    for ordinal, event in enumerate(stream.events, 1):
        diagnosis.before(state, event, ordinal)
        reduce(state, event, ordinal, stream.run)
        diagnosis.after(state, event, ordinal)
    return state, msgspec.msgpack.decode(diagnosis.dump(), type=DiagnosisState)


def collected(stream: Stream, verdict: str, about: str) -> Facts:
    state, parts = folded(stream)
    resource = BETA.label
    blame = (verdict, about)
    return evidence.collect(
        state, stream.run, parts.index, parts.cells, blame, resource, stream.now
    )


@pytest.mark.parametrize("kind", BLAMED, ids=lambda kind: kind.__name__)
def test_what_is_blamed_has_its_facts(kind: type[Verdict]) -> None:
    about = SLOTS if issubclass(kind, SlotVerdict) else BETA.label
    facts = collected(everything_at_once(), name_of(kind), about)
    assert type(facts.detail) is kind
    sentence = facts.detail.sentence(about, 30.0, facts.context)
    assert sentence.endswith(".")
    if issubclass(kind, RequestVerdict):
        assert "beta" in sentence


@pytest.mark.parametrize("kind", BLAMED, ids=lambda kind: kind.__name__)
def test_where_nothing_is_known_nothing_is_claimed(kind: type[Verdict]) -> None:
    """Of a resource that the stream never told of."""
    if issubclass(kind, RequestVerdict):
        return_about = BETA.label
        stream = Stream()
        stream.request("request_resource_registered", BETA)
    else:
        return_about, stream = "model_stage:other/model", Stream()
    facts = collected(stream, name_of(kind), return_about)
    needed = [field for field in msgspec.structs.fields(kind) if field.required]
    assert type(facts.detail) in (kind, Bare)
    assert needed or type(facts.detail) is kind
    assert facts.detail.sentence(return_about, 30.0, facts.context).endswith(".")


def test_a_verdict_of_no_family_whose_facts_nobody_collects_is_a_bare_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stranger(Verdict, tag="stranger", kw_only=True):
        number: Annotated[int, fact("A fact that nothing collects")]

    monkeypatch.setattr(evidence, "kind_of", lambda name: Stranger)
    facts = collected(everything_at_once(), "stranger", BETA.label)
    assert facts.detail == Bare(name="stranger")
