"""A healthy run breaks no rule; a stream broken in one way breaks the rule that is about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Event, JournalEnd, SchedulerEvent
from engine.events.journal import JournalWriter
from engine.events.run_folder import RunFolder
from replay.sources.feed import open_journal
from replay.verify.ids import IssuedIds
from replay.verify.rules import EXAMPLES_KEPT, KINDS_KEPT, RULES
from replay.verify.verifier import Verifier
from tests.replay.verify.streams import (
    Mutation,
    added,
    both,
    changed,
    healthy,
    places,
    renumbered,
    swapped,
    twice,
    without,
)
from tests.verified import verify_events


def broken_rules(verifier: Verifier) -> set[str]:
    return {rule.name for rule in RULES if verifier.book.status(rule.name) == "found"}


def what(verifier: Verifier, rule: str) -> set[str]:
    return set(verifier.book.deviations[rule])


def test_a_healthy_run_breaks_no_rule_and_every_rule_had_something_to_look_at() -> None:
    run, events = healthy()
    verifier = verify_events(run, events)
    for rule in RULES:
        if rule.name != "content":  # looks at files, not at events
            assert verifier.book.deviations[rule.name] == {}
            assert verifier.book.status(rule.name) == "ok", rule.name
    assert verifier.hidden_waiters == 0
    assert verifier.events == len(events)


def test_events_may_come_in_any_portions() -> None:
    run, events = healthy()
    verifier = Verifier(run)
    for first in range(0, len(events), 7):
        verifier.apply(events[first : first + 7], first + 1)
    verifier.finish()
    assert verifier.book.looked_at == verify_events(run, events).book.looked_at
    assert broken_rules(verifier) == set()


def _queued_place(events: list[Event]) -> int:
    return places(events, "ready_enqueued")[40]


def _start(events: list[Event]) -> int:
    return places(events, "scheduler_job_started")[0]


def _end(events: list[Event]) -> int:
    return len(events) - 1


CASES: dict[str, tuple[Mutation, str]] = {
    "a task lease that nobody gives back": (without("task_lease_released"), "end_state"),
    "a request lease that nobody gives back": (without("request_lease_released"), "end_state"),
    "a task lease given back twice": (twice("task_lease_released"), "task_leases"),
    "a request lease given back twice": (twice("request_lease_released"), "request_leases"),
    "a task lease given out twice": (
        changed("task_lease_acquired", 9, task_lease_id="t3"),
        "task_leases",
    ),
    "a request lease given out twice": (
        changed("request_lease_acquired", 9, request_lease_id="r3"),
        "request_leases",
    ),
    "a refused release": (
        added("release_diagnostic", _queued_place, reason_or_result="duplicate"),
        "task_leases",
    ),
    "a worker before its lease": (
        swapped("task_lease_acquired", "worker_spawned"),
        "hidden_waiters",
    ),
    "a worker that waits for a lease": (
        lambda events: renumbered(
            [
                *events[: (index := places(events, "worker_spawned")[7]) + 1],
                msgspec.structs.replace(events[index], event_kind="selected"),
                *events[index + 1 :],
            ]
        ),
        "hidden_waiters",
    ),
    "a lease beyond the limit": (
        changed("task_lease_acquired", diagnostics={"resources": {"submission": 10_000}}),
        "caps",
    ),
    "more in flight than the limit": (without("request_lease_released", 0), "keyframes"),
    "a limit above its maximum": (
        changed("request_limit_increased", 0, diagnostics={"current": 10_000}),
        "limits",
    ),
    "a limit of nothing": (
        changed("request_limit_decreased", 0, diagnostics={"current": 0}),
        "limits",
    ),
    "a limit change without its cause": (
        changed("request_limit_decreased", 0, reason_or_outcome=None),
        "limits",
    ),
    "a limit change that was swallowed": (without("request_limit_decreased", 0), "limits"),
    "a shorter cooldown": (
        both(
            twice("request_rate_limited", 0),
            changed("request_rate_limited", 1, diagnostics={"blocked_until": 0.5}),
        ),
        "cooldowns",
    ),
    "empty with work queued": (
        added("queue_empty", _queued_place, diagnostics={"ready": 0}),
        "empty_blocked",
    ),
    "blocked with nothing queued": (
        added("admission_blocked", _start, diagnostics={"queued_count": 3}),
        "empty_blocked",
    ),
    "told again without news": (twice("admission_blocked", 0), "empty_blocked"),
    "a task that is not enqueued": (without("ready_enqueued"), "order"),
    "a task that ends before it runs": (swapped("worker_spawned", "task_completed"), "order"),
    "a call before its lease": (
        swapped("request_lease_acquired", "model_request_started"),
        "order",
    ),
    "a call of an execution that is over": (
        lambda events: _with_execution(events, "e1", places(events, "request_wait_started")[-1]),
        "attempts",
    ),
    "a keyframe with another queue": (
        lambda events: _with_snapshot(events, 3, "queued_total", 77),
        "keyframes",
    ),
    "a keyframe with a debt of nothing leased": (
        lambda events: _with_snapshot(events, 0, "debt_by_group", {"g": {"submission": 1}}),
        "debt",
    ),
    "a number that is not the fold's": (
        changed("request_wait_started", diagnostics={"in_flight": 999}),
        "numbers",
    ),
    "a row group of no rows": (
        changed("row_group_checkpointed", 0, diagnostics={"surviving_rows": 1}),
        "rows",
    ),
    "a second start": (twice("scheduler_job_started", 0), "run_bounds"),
    "work after the end": (
        added("dependency_ready", _end, task_id="question/0", diagnostics={"group": "g"}),
        "run_bounds",
    ),
    "an unusable payload": (changed("worker_spawned", task_execution_id=None), "vocabulary"),
    "an unknown kind": (added("made_up", _queued_place), "vocabulary"),
    "a clock that goes back": (changed("selected", 100, captured_at_monotonic=0.0), "time"),
    "a swallowed number": (
        lambda events: events[:100] + events[101:],
        "sequence",
    ),
    "a repeated number": (lambda events: events[:100] + events[99:], "sequence"),
}


def _with_execution(events: list[Event], execution_id: str, index: int) -> list[Event]:
    event = events[index]
    assert event.captured_correlation is not None
    correlation = msgspec.structs.replace(
        event.captured_correlation, task_execution_id=execution_id
    )
    events[index] = msgspec.structs.replace(event, captured_correlation=correlation)
    return events


def _with_snapshot(events: list[Event], position: int, name: str, value: object) -> list[Event]:
    index = places(events, "scheduler_health_snapshot")[position]
    event = events[index]
    assert isinstance(event, SchedulerEvent)
    snapshot = {**(event.snapshot or {}), name: value}
    events[index] = msgspec.structs.replace(event, snapshot=snapshot)
    return events


@pytest.mark.parametrize("case", CASES)
def test_a_broken_stream_breaks_its_rule(case: str) -> None:
    mutate, rule = CASES[case]
    run, events = healthy()
    assert rule in broken_rules(verify_events(run, mutate(list(events))))


def test_a_group_that_is_served_ahead_of_its_share_is_noticed() -> None:
    """Two groups of one weight, queued together, with room for both: one gets all the leases."""
    run, _ = healthy()
    run = msgspec.structs.replace(run, columns=(), resource_limits={"submission": 64})
    events: list[Event] = [SchedulerEvent("scheduler_job_started", 0.0, 1)]

    def say(kind: str, task_id: str, **fields: object) -> None:
        events.append(SchedulerEvent(kind, 0.0, 0, task_id=task_id, **fields))  # type: ignore[arg-type]

    for group in "ab":
        for row in range(20):
            facts = {"group": group, "weight": 1.0, "resources": {"submission": 1}}
            say("dependency_ready", f"{group}/{row}", diagnostics={"group": group})
            say("ready_enqueued", f"{group}/{row}", diagnostics=facts)

    def lease(task_id: str, number: int) -> None:
        say("selected", task_id)
        resources = {"resources": {"submission": 1}}
        say("task_lease_acquired", task_id, task_lease_id=f"t{number}", diagnostics=resources)

    turns = [f"{'ab'[turn % 2]}/{turn // 2}" for turn in range(10)]
    unfair = turns + [f"a/{row}" for row in range(5, 9)]
    start = list(events)
    for number, task_id in enumerate(turns, 1):
        lease(task_id, number)
    fair_run = verify_events(run, renumbered(events))
    assert fair_run.book.status("fairness") == "ok"
    events[:] = start
    for number, task_id in enumerate(unfair, 1):
        lease(task_id, number)
    assert "fairness" in broken_rules(verify_events(run, renumbered(events)))
    gave_way = SchedulerEvent("request_pressure_advisory_skipped", 0.0, 0, task_id="b/5")
    events.insert(len(start) + 2 * len(turns), gave_way)
    assert "fairness" not in broken_rules(verify_events(run, renumbered(events)))


def test_an_announced_gap_is_found_as_announced_and_nothing_is_concluded_across_it() -> None:
    run, events = healthy()
    gap = SchedulerEvent(
        "recording_gap",
        events[600].captured_at_monotonic,
        0,
        reason_or_result="shed",
        diagnostics={"stream": "request", "first_lost": 0, "last_lost": 0},
    )
    lost = [event for event in events[500:600] if not isinstance(event, SchedulerEvent)]
    gap.diagnostics.update(first_lost=lost[0].sequence, last_lost=lost[-1].sequence)
    kept = [event for event in events[:600] if event not in lost]
    after = [msgspec.structs.replace(gap, sequence=0), *events[600:]]
    stream = _scheduler_renumbered([*kept, *after])
    verifier = verify_events(run, stream)
    assert broken_rules(verifier) == {"sequence"}
    assert what(verifier, "sequence") == {"request events are missing"}
    assert verifier.unproved > 0
    assert any("between a loss" in why for why in verifier.book.unchecked["task_leases"])


def test_gaps_that_the_journal_tells_of_are_no_events_of_a_stream(tmp_path: Path) -> None:
    """A disk that takes nothing for a while: the journal's own gap lines have no number."""
    run, events = healthy()
    folder = RunFolder.create(tmp_path / "run")
    full = False

    def write(descriptor: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, "full")
        return os.write(descriptor, data)

    writer = JournalWriter(folder, run, loop=None, request_keyframe=lambda _: None, write=write)
    for start in range(0, len(events), 50):
        full = start in (200, 250, 600)
        writer.write_events(events[start : start + 50])
    full = False
    assert writer.close(JournalEnd("success", events[-1].captured_at_monotonic, 0, 0))
    assert writer.shed_events > 0
    feed = open_journal(folder)
    read = []
    while batch := feed.poll().events:
        read += batch
    gaps = [event for event in read if event.event_kind == "recording_gap"]
    assert len(gaps) >= 3
    verifier = verify_events(run, read)
    assert broken_rules(verifier) == {"sequence"}
    assert what(verifier, "sequence") <= {
        "request events are missing",
        "scheduler events are missing",
    }


def _scheduler_renumbered(events: list[Event]) -> list[Event]:
    number = 0
    result: list[Event] = []
    for event in events:
        if isinstance(event, SchedulerEvent):
            number += 1
            result.append(msgspec.structs.replace(event, sequence=number))
        else:
            result.append(event)
    return result


def test_a_run_without_an_end_says_what_cannot_be_known() -> None:
    run, events = healthy()
    verifier = verify_events(run, events[: len(events) // 2])
    assert broken_rules(verifier) == set()
    assert verifier.book.status("end_state") == "not_checked"
    assert verifier.book.unchecked["end_state"]


def test_without_request_events_the_rules_about_them_are_named_not_passed() -> None:
    run, events = healthy()
    mine = [event for event in events if isinstance(event, SchedulerEvent)]
    verifier = verify_events(msgspec.structs.replace(run, producer="data_designer"), mine)
    for rule in ("request_leases", "limits", "cooldowns", "attempts"):
        assert verifier.book.status(rule) == "not_checked"
        assert verifier.book.unchecked[rule] == {"there are no request events": None}


def test_what_another_producer_never_promised_is_a_note() -> None:
    run, events = healthy()
    foreign = msgspec.structs.replace(run, producer="data_designer")
    mutate, _ = CASES["a call before its lease"]
    verifier = verify_events(foreign, mutate(list(events)))
    assert verifier.book.status("order") == "noted"
    mutate, _ = CASES["a task lease given back twice"]
    assert "task_leases" in broken_rules(verify_events(foreign, mutate(list(events))))


def test_what_a_foreign_producer_told_late_is_no_breach() -> None:
    """A wait that reached the recording behind its lease, at its own earlier time."""
    run, events = healthy()
    foreign = msgspec.structs.replace(
        run, producer="data_designer", request_sequence_semantics="per_producer"
    )
    index = places(list(events), "request_lease_released")[40]
    late = [*events[:index], *events[index + 1 : index + 60], events[index], *events[index + 60 :]]
    assert "request_leases" not in broken_rules(verify_events(foreign, late))
    twice_released = [*late[: index + 70], events[index], *late[index + 70 :]]
    out_of_order = verify_events(foreign, twice_released)
    assert out_of_order.book.status("request_leases") == "noted"
    assert out_of_order.book.unchecked["request_leases"]
    in_time = msgspec.structs.replace(
        events[index], captured_at_monotonic=events[index + 1].captured_at_monotonic
    )
    honest = [*events[: index + 1], in_time, *events[index + 1 :]]
    assert "request_leases" in broken_rules(verify_events(foreign, honest))


def test_ids_of_any_making_are_known_again() -> None:
    serial = IssuedIds("t")
    assert [serial.is_new(identifier) for identifier in ("t1", "t2", "t2", "t10", "t9")] == [
        True,
        True,
        False,
        True,
        False,
    ]
    other = IssuedIds("t")
    assert [other.is_new(identifier) for identifier in ("lease-a", "lease-b", "lease-a", "t")] == [
        True,
        True,
        False,
        True,
    ]


def test_memory_stays_bounded_however_much_is_wrong() -> None:
    run, _ = healthy()
    events = [
        SchedulerEvent("release_diagnostic", 1.0, number, reason_or_result=f"reason {number % 999}")
        for number in range(1, 3_001)
    ]
    kinds = verify_events(run, events).book.deviations["task_leases"]
    assert len(kinds) == KINDS_KEPT + 1
    assert sum(kind.count for kind in kinds.values()) == 3_000
    assert max(len(kind.examples) for kind in kinds.values()) == EXAMPLES_KEPT


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.floats(-1, 2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.data())
def test_no_payload_breaks_the_checks(seed: int, foreign: bool, data: st.DataObject) -> None:
    run, events = healthy()
    stream = list(events[:400])
    for _ in range(10):
        index = data.draw(st.integers(0, len(stream) - 1))
        event = stream[index]
        facts = dict(event.diagnostics)
        for name in data.draw(
            st.lists(st.sampled_from([*facts, "groups", "resources"]), max_size=3)
        ):
            facts[name] = data.draw(VALUES)
        stream[index] = msgspec.structs.replace(event, diagnostics=facts)
        if isinstance(event, SchedulerEvent) and event.snapshot:
            snapshot = dict(event.snapshot)
            snapshot[data.draw(st.sampled_from([*snapshot, "tasks"]))] = data.draw(VALUES)
            stream[index] = msgspec.structs.replace(stream[index], snapshot=snapshot)
    if foreign:
        run = msgspec.structs.replace(run, producer="data_designer")
    verifier = verify_events(run, stream)
    assert verifier.events == len(stream)
    # Numbers and times are those of the healthy run; only the payloads are not.
    assert verifier.book.status("sequence") == verifier.book.status("time") == "ok"
    for rule in RULES:
        for deviation in verifier.book.deviations[rule.name].values():
            assert deviation.count >= len(deviation.examples) >= 1
            ordinals = [example.ordinal for example in deviation.examples]
            assert all(ordinal is None or 1 <= ordinal <= len(stream) for ordinal in ordinals)
