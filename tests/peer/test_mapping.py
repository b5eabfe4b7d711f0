"""What headgate makes of a real stream, held against what Data Designer itself knew at the time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from engine.events.kinds import OUTSIDE_NUMBERING
from engine.events.run_folder import RunFolder
from replay.projections.fold import Fold
from replay.recording.reader import open_recording
from replay.sources.data_designer.wire import group_label
from replay.sources.feed import open_lines
from replay.sources.foreign_lines import WATERMARK_SECONDS
from replay.state.model import State
from tests.peer.desk import LLM_COLUMNS, RECORDS, Desk, open_desk

NEEDS = {
    "ticket": {"number", "topic"},
    "summary": {"ticket"},
    "reply": {"ticket"},
    "tone": {"reply"},
    "score": {"summary", "reply"},
}


@dataclass(frozen=True)
class Mapped:
    """One run: what Data Designer wrote itself, and what headgate made of it."""

    desk: Desk
    run: RunInfo
    events: list[Event]

    @cached_property
    def written(self) -> dict[int, dict[str, Any]]:
        """The lines as they were written, by sequence."""
        lines = (json.loads(line) for line in self.desk.native_events.read_text().splitlines())
        return {line["sequence"]: line for line in lines}

    @cached_property
    def scheduler_events(self) -> list[SchedulerEvent]:
        """Those that Data Designer emitted, without what `exec` observed of its process."""
        events = [event for event in self.events if isinstance(event, SchedulerEvent)]
        return [event for event in events if not _is_observed(event)]


def _is_observed(event: Event) -> bool:
    return event.sequence == 0 and event.event_kind in OUTSIDE_NUMBERING


def from_native_file(desk: Desk) -> Mapped:
    feed = open_lines(desk.native_events, False)
    events: list[Event] = []
    while batch := feed.poll().events:
        events += batch
    feed.close()
    assert feed.run is not None
    assert feed.outcome == "success"
    assert feed.late_events == 0
    return Mapped(desk, feed.run, events)


def from_exec(desk: Desk) -> Mapped:
    """The recording of `headgate exec`; Data Designer was told to write its own file as well."""
    with desk.executed("create", write_scheduler_events=True) as script:
        with desk.storm():
            pass
        assert script.wait(120) == 0
    reader = open_recording(RunFolder(desk.folder / "run").recording)
    try:
        return Mapped(desk, reader.run(), [event for _, event in reader.events(1, 1_000_000)])
    finally:
        reader.close()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("native", marks=pytest.mark.xdist_group("native")),
        pytest.param("exec", marks=pytest.mark.xdist_group("exec")),
    ],
)
def mapped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapped]:
    if request.param == "native":
        yield from_native_file(request.getfixturevalue("stormy"))
        return
    with open_desk(tmp_path_factory.mktemp("exec") / "desk", seconds=0.1) as desk:
        yield from_exec(desk)


def states(run: RunInfo, events: list[Event]) -> Iterator[tuple[Event, State]]:
    fold = Fold(run)
    for ordinal, event in enumerate(events, 1):
        fold.apply([event], ordinal)
        yield event, fold.state
    assert not fold.state.malformed
    assert not fold.state.unknown_kinds
    assert fold.state.orphans == fold.state.lost_events == 0


def positive(amounts: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in amounts.items() if amount}


def by_group(amounts: dict[str, int]) -> dict[str, int]:
    """Keyed by our labels, where the producer writes a Python repr of its key."""
    return positive({group_label(key): amount for key, amount in amounts.items()})


def test_the_fold_is_what_each_line_says_of_its_instant(mapped: Mapped) -> None:
    reported = 0
    for event, state in states(mapped.run, mapped.events):
        if not isinstance(event, SchedulerEvent) or _is_observed(event):
            continue
        line = mapped.written[event.sequence]
        snapshot = line["snapshot"]
        if snapshot:
            reported += 1
            assert positive(state.leased) == positive(snapshot["leased_resources"]), line
            leased = {key: group.leased for key, group in state.groups.items()}
            assert positive(leased) == by_group(snapshot["running_counts_by_group"]), line
        if event.event_kind == "scheduler_health_snapshot":
            facts = line["diagnostics"]
            queued = {key: group.queued for key, group in state.groups.items()}
            assert positive(queued) == by_group(facts["queued_by_group"])
            phases = [task.phase for task in state.tasks.values()]
            # Theirs leave the list together when a retry begins, before each is ready again.
            assert phases.count("deferred") >= facts["deferred_tasks"]
            if any("request stream" in lack for lack in mapped.run.lacks):
                reported_pressure = facts["request_pressure"]["resources"]
            else:
                reported_pressure = {}  # the requests' own events tell, at their own times
            for resource, pressure in reported_pressure.items():
                ceiling = state.ceilings[resource]
                assert (ceiling.limit, ceiling.in_flight, ceiling.waiters) == (
                    pressure["current_limit"],
                    pressure["in_flight_count"],
                    pressure["waiters"],
                )
    assert reported > 1000


def test_each_cell_has_the_row_that_its_id_hides(mapped: Mapped) -> None:
    rows: dict[str, list[int]] = {column: [] for column in LLM_COLUMNS}
    for event in mapped.events:
        correlation = event.captured_correlation
        if event.event_kind == "dependency_ready" and correlation is not None:
            column = correlation.task_column
            if column in rows and event.diagnostics["attempt"] == 1:
                assert event.diagnostics["row"] // (RECORDS // 3) == correlation.row_group
                rows[column].append(event.diagnostics["row"])
    for column in LLM_COLUMNS:
        assert sorted(rows[column]) == list(range(RECORDS)), column


def test_the_inferred_graph_is_theirs_as_far_as_it_goes(mapped: Mapped) -> None:
    run = mapped.run
    assert run.edges_inferred
    assert any("inferred" in lack for lack in run.lacks)
    edges = {column.name: set(column.depends_on) for column in run.columns}
    for column, needs in NEEDS.items():
        assert edges[column]
        assert edges[column] <= needs


def test_every_event_of_theirs_is_there_once(mapped: Mapped) -> None:
    assert [event.sequence for event in mapped.scheduler_events] == sorted(mapped.written)
    for event in mapped.scheduler_events:
        line = mapped.written[event.sequence]
        assert event.event_kind == line["event_kind"]
        assert event.captured_at_monotonic == line["captured_at_monotonic"]


def test_names_stay_those_of_the_producer(mapped: Mapped) -> None:
    run = mapped.run
    assert set(run.resource_limits) == {
        "submission",
        "llm_wait",
        "request:alpha/gen-8b",
        "request:beta/judge-70b",
    }
    groups = {column.name: column.group for column in run.columns}
    assert groups["score"] == "model/beta/judge-70b/chat/score"


@pytest.mark.xdist_group("exec")
@pytest.mark.parametrize("mapped", ["exec"], indirect=True)
def test_requests_stand_where_their_time_belongs(mapped: Mapped) -> None:
    requests = [event for event in mapped.events if isinstance(event, RequestEvent)]
    times = [event.captured_at_monotonic for event in mapped.events]
    assert times == sorted(times)
    numbers = Counter(event.sequence for event in requests)
    assert max(numbers.values()) > 1, "several counters share the stream"
    kinds = Counter(event.event_kind for event in requests)
    assert kinds["request_lease_acquired"] == kinds["request_lease_released"]
    assert kinds["request_rate_limited"] == len(mapped.desk.refused)
    answered = [event for event in requests if event.event_kind == "model_request_completed"]
    assert Counter(event.reason_or_outcome for event in answered) == Counter(
        {"answer": "success"}.get(record.outcome, record.outcome) for record in mapped.desk.served
    )
    began: dict[str | None, float] = {}
    longest = 0.0
    for event in requests:
        if event.event_kind == "request_wait_started":
            began[event.request_attempt_id] = event.captured_at_monotonic
        elif event.event_kind == "request_wait_completed":
            waited = event.captured_at_monotonic - began.pop(event.request_attempt_id)
            assert event.diagnostics["waited_seconds"] == pytest.approx(waited)
            longest = max(longest, waited)
    assert not began
    assert longest > WATERMARK_SECONDS, "no wait was told late enough to prove anything"
