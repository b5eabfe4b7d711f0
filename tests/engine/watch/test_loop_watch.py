"""`LoopWatch` by hand: two beats, and what the process has used between them."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import pytest

from engine.events import SchedulerEvent
from engine.watch.loop_watch import BEAT_SECONDS, BLOCKED, PAUSED, WATCH_SECONDS, LoopWatch
from engine.watch.meter import ProcessUsage
from tests.engine.events.catalogue import check_declared


class Hand:
    """Moves the clock, and lets the loop or the watchdog run when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu = self.loop_cpu = self.core_wait = self.suspended = 0.0
        self.emitted: list[tuple[str, float, str, dict[str, Any]]] = []
        self.stacks: dict[int, FrameType] = {threading.get_ident(): sys._getframe()}
        self.watch = LoopWatch(
            lambda *event: self.emitted.append(event),
            clock=lambda: self.now,
            measure=lambda: ProcessUsage(
                0.0, self.cpu, self.loop_cpu, self.core_wait, self.suspended
            ),
            stacks=lambda: self.stacks,
        )
        self.watch.begin()
        self._beat_due = self.now + BEAT_SECONDS
        self._tick_due = self.now + WATCH_SECONDS

    def go(self, seconds: float, *, loop: bool = True, watchdog: bool = True) -> None:
        """Let time pass; what does not run catches up with the next `go` in which it may."""
        end = self.now + seconds
        while True:
            due = min([self._beat_due] * loop + [self._tick_due] * watchdog, default=float("inf"))
            if due > end + 1e-9:
                break
            self.now = max(self.now, due)
            if loop and due == self._beat_due:
                self.watch.beat()
                self._beat_due = self.now + BEAT_SECONDS
            else:
                self.watch.tick()
                self._tick_due = self.now + WATCH_SECONDS
        self.now = end

    def use(self, seconds: float, loop: float = 0.0, wait: float = 0.0) -> None:
        self.cpu += seconds
        self.loop_cpu += loop
        self.core_wait += wait

    @property
    def final(self) -> tuple[str, float, str, dict[str, Any]]:
        assert "ongoing" not in self.emitted[-1][3]
        return self.emitted[-1]


def test_a_loop_that_runs_tells_nothing() -> None:
    hand = Hand()
    hand.go(60.0)
    assert hand.emitted == []
    assert hand.watch.report()["late_seconds"] == pytest.approx(0.0)
    assert hand.watch.report()["watch"] == WATCH_SECONDS


@pytest.mark.parametrize(("watchdog", "kind"), [(True, BLOCKED), (False, PAUSED)])
def test_its_events_are_as_the_table_declares(watchdog: bool, kind: str) -> None:
    hand = Hand()
    hand.go(1.0)
    hand.suspended = 0.0 if watchdog else 9.0
    hand.go(2.0, loop=False, watchdog=watchdog)
    hand.go(0.3)
    heartbeat = ("scheduler_loop_heartbeat", hand.now, None, hand.watch.report())
    assert hand.final[0] == kind
    for name, at, reason, payload in (*hand.emitted, heartbeat):
        check_declared(SchedulerEvent(name, at, 0, reason_or_result=reason, diagnostics=payload))


def test_a_loop_that_stands_beside_a_watchdog_that_runs_is_blocked() -> None:
    hand = Hand()
    hand.go(1.0)
    hand.go(3.0, loop=False)
    hand.use(0.01, loop=0.01)
    hand.go(0.1)
    kind, at, reason, facts = hand.final
    assert (kind, reason) == (BLOCKED, "waiting")
    assert facts["from"] == pytest.approx(101.0, abs=0.1)
    assert facts["to"] == at == pytest.approx(104.0, abs=0.1)
    assert facts["samples"] == pytest.approx(3.0 / WATCH_SECONDS, abs=2)


def test_a_block_is_told_while_it_lasts_and_each_later_word_replaces_the_one_before() -> None:
    hand = Hand()
    hand.go(1.0)
    hand.go(40.0, loop=False)
    ongoing = [facts for _, _, _, facts in hand.emitted]
    assert all(facts["ongoing"] for facts in ongoing)
    assert len({facts["from"] for facts in ongoing}) == 1
    lengths = [facts["to"] - facts["from"] for facts in ongoing]
    assert lengths == pytest.approx([0.5, 1, 2, 4, 8, 16, 26, 36], abs=0.5)
    hand.go(0.1)
    assert hand.final[3]["from"] == ongoing[0]["from"]
    assert len(hand.emitted) == len(ongoing) + 1


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        ({"seconds": 1.9, "loop": 1.9}, "computing"),
        ({"seconds": 0.5, "loop": 0.5, "wait": 1.5}, "computing"),
        ({"seconds": 0.02, "loop": 0.02}, "waiting"),
        ({"seconds": 1.9, "loop": 0.02}, "waiting"),
    ],
)
def test_what_a_blocked_loop_did_is_told_by_its_processor_time(
    used: dict[str, float], reason: str
) -> None:
    hand = Hand()
    hand.go(1.0)
    hand.use(**used)
    hand.go(2.0, loop=False)
    hand.go(0.1)
    assert hand.final[::2] == (BLOCKED, reason)


@pytest.mark.parametrize(
    ("used", "kind", "reason"),
    [
        ({"seconds": 0.01}, PAUSED, "stopped"),
        ({"seconds": 0.05, "loop": 0.05, "wait": 1.6}, PAUSED, "starved"),
        ({"seconds": 1.9, "loop": 1.9}, BLOCKED, "interpreter_lock"),
        ({"seconds": 0.6, "loop": 0.6, "wait": 1.4}, BLOCKED, "computing"),
        ({"seconds": 0.6, "loop": 0.1, "wait": 1.4}, BLOCKED, "interpreter_lock"),
    ],
)
@pytest.mark.parametrize("first", ["loop", "watchdog"])
def test_where_both_are_late_the_use_of_the_processor_tells_why(
    used: dict[str, float], kind: str, reason: str, first: str
) -> None:
    hand = Hand()
    hand.go(1.0)
    hand.use(**used)
    hand.go(2.0, loop=False, watchdog=False)
    hand.go(0.001, loop=first == "loop", watchdog=first == "watchdog")
    hand.go(0.5)
    assert hand.final[::2] == (kind, reason)
    assert len(hand.emitted) == 1
    facts = hand.final[3]
    assert facts["from"] == pytest.approx(101.0, abs=0.1)
    assert facts["to"] == pytest.approx(103.0, abs=0.1)


def test_code_that_alone_would_not_have_been_late_is_starved_beside_a_neighbour() -> None:
    hand = Hand()
    hand.go(1.0)
    hand.use(0.06, loop=0.06, wait=0.14)
    hand.go(0.2, loop=False)
    hand.go(0.1)
    assert hand.final[::2] == (PAUSED, "starved")


def test_a_short_pause_is_not_called_a_stop() -> None:
    """A thread may have held the interpreter lock while it had no core."""
    hand = Hand()
    hand.go(1.0)
    hand.go(0.4, loop=False, watchdog=False)
    hand.go(0.5)
    assert hand.final[::2] == (PAUSED, "unclear")


def test_a_pause_within_a_longer_block_is_told_beside_it() -> None:
    hand = Hand()
    hand.go(1.0)
    hand.go(4.0, loop=False)
    hand.go(2.0, loop=False, watchdog=False)
    hand.go(4.0, loop=False)
    hand.go(0.1)
    over = [event for event in hand.emitted if "ongoing" not in event[3]]
    (pause, _, why, inner), (block, _, _, outer) = over
    assert (pause, why, block) == (PAUSED, "stopped", BLOCKED)
    assert inner["to"] - inner["from"] == pytest.approx(2.0, abs=0.3)
    assert outer["to"] - outer["from"] == pytest.approx(10.0, abs=0.3)
    assert outer["from"] < inner["from"] < inner["to"] < outer["to"]


def test_after_a_pause_the_loop_gets_time_before_it_is_called_blocked() -> None:
    hand = Hand()
    hand.go(1.0)
    hand.go(5.0, loop=False, watchdog=False)
    hand.go(0.05, loop=False)
    assert hand.emitted == []


def test_a_machine_that_slept_is_known_by_a_clock_that_runs_on() -> None:
    hand = Hand()
    hand.go(1.0)
    hand.suspended = 3600.0
    hand.go(0.4, loop=False, watchdog=False)
    hand.go(0.5)
    assert hand.final[::2] == (PAUSED, "suspended")
    assert hand.final[3]["suspended_seconds"] == 3600.0


def test_a_sign_of_life_tells_when_a_stall_began() -> None:
    hand = Hand()
    hand.go(1.0)
    hand.watch.sign(hand.now + 0.08)
    hand.go(2.0, loop=False)
    hand.watch.sign(hand.now)  # callbacks of the same iteration: the loop did not turn
    hand.go(0.1)
    assert hand.final[3]["from"] == pytest.approx(101.08)


def test_what_is_late_but_no_stall_is_counted() -> None:
    hand = Hand()
    for _ in range(10):
        hand.go(BEAT_SECONDS + 0.06, loop=False)
        hand.go(0.001)
    report = hand.watch.report()
    assert report["late_seconds"] == pytest.approx(0.6, abs=0.15)
    assert hand.emitted == []
    assert hand.watch.report()["late_seconds"] == pytest.approx(0.0)


def test_another_thread_that_held_the_interpreter_is_told_in_place_of_the_loops() -> None:
    hand = Hand()
    hand.stacks[-1] = sys._getframe()
    hand.go(1.0)
    for _ in range(10):
        hand.use(0.3)
        hand.go(0.3, loop=False, watchdog=False)  # the watchdog waits for the lock as well
        hand.go(0.01, loop=False)
    hand.go(0.2)
    kind, _, reason, facts = hand.final
    assert (kind, reason) == (BLOCKED, "interpreter_lock")
    assert {fact.get("thread") for fact in facts["frames"]} == {"other"}


def test_the_end_of_a_run_ends_a_stall() -> None:
    hand = Hand()
    hand.go(1.0)
    hand.go(2.0, loop=False)
    hand.watch.stop()
    assert hand.final[::2] == (BLOCKED, "waiting")
    hand.watch.tick()
    assert len([event for event in hand.emitted if "ongoing" not in event[3]]) == 1


def test_a_process_that_computes_all_the_time_is_looked_at() -> None:
    hand = Hand()
    frame = sys._getframe()
    hand.stacks = {threading.get_ident(): frame, -1: frame}
    for _ in range(8):
        hand.use(WATCH_SECONDS)
        hand.go(WATCH_SECONDS)
    frames = hand.watch.report()["frames"]
    assert {place.get("thread") for place in frames} == {None, "other"}
    assert all(place["count"] >= 6 for place in frames)
    hand.go(1.0)
    assert "frames" not in hand.watch.report()
