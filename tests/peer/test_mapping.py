"""What headgate makes of a real stream, held against what Data Designer itself knew at the time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.events import Event, RunInfo, SchedulerEvent
from replay.fold import Fold
from replay.sources.data_designer_wire import group_label
from replay.sources.json_lines import JsonLinesFeed
from replay.state import State
from tests.peer.desk import LLM_COLUMNS, RECORDS, Desk

pytestmark = pytest.mark.xdist_group("native")

NEEDS = {
    "ticket": {"number", "topic"},
    "summary": {"ticket"},
    "reply": {"ticket"},
    "tone": {"reply"},
    "score": {"summary", "reply"},
}


@pytest.fixture(scope="module")
def mapped(stormy: Desk) -> tuple[RunInfo, list[Event]]:
    feed = JsonLinesFeed(stormy.native_events, False)
    events: list[Event] = []
    while batch := feed.poll().events:
        events += batch
    feed.close()
    assert feed.run is not None
    assert feed.outcome == "success"
    assert feed.late_events == 0
    return feed.run, events


@pytest.fixture(scope="module")
def written(stormy: Desk) -> dict[int, dict[str, Any]]:
    """The lines as they were written, by sequence."""
    lines = (json.loads(line) for line in stormy.native_events.read_text().splitlines())
    return {line["sequence"]: line for line in lines}


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


def test_the_fold_is_what_each_line_says_of_its_instant(
    mapped: tuple[RunInfo, list[Event]], written: dict[int, dict[str, Any]]
) -> None:
    told = 0
    for event, state in states(*mapped):
        if not isinstance(event, SchedulerEvent):
            continue
        line = written[event.sequence]
        snapshot = line["snapshot"]
        if snapshot:
            told += 1
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
            for resource, pressure in facts["request_pressure"]["resources"].items():
                ceiling = state.ceilings[resource]
                assert (ceiling.limit, ceiling.in_flight, ceiling.waiters) == (
                    pressure["current_limit"],
                    pressure["in_flight_count"],
                    pressure["waiters"],
                )
    assert told > 1000


def test_each_cell_has_the_row_that_its_id_hides(mapped: tuple[RunInfo, list[Event]]) -> None:
    rows: dict[str, list[int]] = {column: [] for column in LLM_COLUMNS}
    for event in mapped[1]:
        correlation = event.captured_correlation
        if event.event_kind == "dependency_ready" and correlation is not None:
            column = correlation.task_column
            if column in rows and event.diagnostics["attempt"] == 1:
                assert event.diagnostics["row"] // (RECORDS // 3) == correlation.row_group
                rows[column].append(event.diagnostics["row"])
    for column in LLM_COLUMNS:
        assert sorted(rows[column]) == list(range(RECORDS)), column


def test_the_inferred_graph_is_theirs_as_far_as_it_goes(
    mapped: tuple[RunInfo, list[Event]],
) -> None:
    run = mapped[0]
    assert run.edges_inferred
    assert any("inferred" in lack for lack in run.lacks)
    found = {column.name: set(column.depends_on) for column in run.columns}
    for column, needs in NEEDS.items():
        assert found[column]
        assert found[column] <= needs


def test_names_stay_those_of_the_producer(mapped: tuple[RunInfo, list[Event]]) -> None:
    run = mapped[0]
    assert set(run.resource_limits) == {
        "submission",
        "llm_wait",
        "request:alpha/gen-8b",
        "request:beta/judge-70b",
    }
    groups = {column.name: column.group for column in run.columns}
    assert groups["score"] == "model/beta/judge-70b/chat/score"
