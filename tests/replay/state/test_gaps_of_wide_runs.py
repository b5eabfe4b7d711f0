"""Events are lost where keyframes list no tasks, as of a run with very many of them."""

from __future__ import annotations

import pytest

from engine.events import SchedulerEvent
from engine.workflow.demo import demo_workflow
from replay.state.reducer import begin, reduce, to_keyframe
from tests.engine_run import run_engine


def test_the_fold_says_that_it_is_out_of_step_until_a_keyframe_lists_the_tasks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.scheduling.scheduler.MAX_LISTED_TASKS", 8)
    monkeypatch.setattr("replay.state.live_tasks.MOST_UNPACKED", 4)
    ran = run_engine(demo_workflow(records=60))
    snapshots = [
        ordinal
        for ordinal, event in enumerate(ran.events, 1)
        if isinstance(event, SchedulerEvent) and event.snapshot
    ]
    without = [
        n for n in snapshots if "tasks" not in (getattr(ran.events[n - 1], "snapshot", None) or {})
    ]
    assert len(without) > 3
    lost_from, lost_to = without[1] + 1, without[1] + 20
    state = begin(ran.run)
    stood_out = 0
    checked = 0
    for ordinal, event in enumerate(ran.events, 1):
        if lost_from <= ordinal <= lost_to:
            continue
        reduce(state, event, ordinal, ran.run)
        if ordinal <= lost_to or not isinstance(event, SchedulerEvent) or not event.snapshot:
            continue
        if "tasks" in event.snapshot:
            assert not state.out_of_step
            assert to_keyframe(state, full=True) == event.snapshot
            checked += 1
        elif not checked:
            assert state.out_of_step
            stood_out += 1
            assert (
                to_keyframe(state, full=False)["queued_by_group"]
                == event.snapshot["queued_by_group"]
            )
        else:
            assert to_keyframe(state, full=False) == event.snapshot
    assert stood_out
    assert checked
    assert state.lost_events == lost_to - lost_from + 1
