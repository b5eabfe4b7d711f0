from __future__ import annotations

import pytest

from console.cli.run.engine_link import Reacts
from console.cli.run.stopping import ABORT_SECONDS, REACTION_SECONDS, Stopping


class Engine:
    """Ends when it is killed, or so many stops after it reacts."""

    def __init__(self, *, reacts: bool) -> None:
        self.now = 100.0
        self.last_reaction = 100.0
        self.running = True
        self.done: list[str] = []
        self.reaction = Reacts()
        self._reacts = reacts

    def ask(self) -> None:
        if self._reacts:
            self.last_reaction = self.now

    def stop(self) -> None:
        self.done.append("stop")

    def kill(self) -> None:
        self.done.append("kill")
        self.running = False


def look(engine: Engine, stopping: Stopping, seconds: float, requests: int) -> None:
    until = engine.now + seconds
    while engine.now < until:
        stopping.advance(requests)
        engine.now += 0.1


@pytest.fixture
def said() -> list[str]:
    return []


def test_each_request_is_a_step_further(said: list[str]) -> None:
    engine = Engine(reacts=True)
    stopping = Stopping(engine, said.append, lambda: engine.now)
    look(engine, stopping, 1.0, requests=0)
    assert engine.done == []
    for requests, done in ((1, ["stop"]), (2, ["stop"] * 2), (3, ["stop", "stop", "kill"])):
        look(engine, stopping, 1.0, requests)
        assert engine.done == done
    assert [sentence.split()[0] for sentence in said] == ["Stopping:", "Aborting:", "Killing"]


def test_a_drain_lasts_as_long_as_the_loop_reacts(said: list[str]) -> None:
    engine = Engine(reacts=True)
    look(engine, Stopping(engine, said.append, lambda: engine.now), 10_000.0, requests=1)
    assert engine.done == ["stop"]


def test_an_abort_that_does_not_end_is_a_kill(said: list[str]) -> None:
    engine = Engine(reacts=True)
    stopping = Stopping(engine, said.append, lambda: engine.now)
    look(engine, stopping, ABORT_SECONDS - 1, requests=2)
    assert engine.done == ["stop", "stop"]
    look(engine, stopping, 2, requests=2)
    assert engine.done == ["stop", "stop", "kill"]


def test_a_blocked_loop_gets_so_long_for_each_step(said: list[str]) -> None:
    engine = Engine(reacts=False)
    stopping = Stopping(engine, said.append, lambda: engine.now)
    look(engine, stopping, REACTION_SECONDS - 1, requests=1)
    assert engine.done == ["stop"]
    look(engine, stopping, 2, requests=1)
    assert engine.done == ["stop", "stop"]
    look(engine, stopping, REACTION_SECONDS, requests=1)
    assert engine.done == ["stop", "stop", "kill"]
    assert sum("has not reacted" in sentence for sentence in said) == 2


def test_a_request_after_a_step_of_its_own_is_still_one(said: list[str]) -> None:
    engine = Engine(reacts=False)
    stopping = Stopping(engine, said.append, lambda: engine.now)
    look(engine, stopping, REACTION_SECONDS + 1, requests=1)
    look(engine, stopping, 0.1, requests=2)
    assert engine.done == ["stop", "stop", "kill"]


def test_an_engine_that_ended_is_left_alone(said: list[str]) -> None:
    engine = Engine(reacts=True)
    engine.running = False
    look(engine, Stopping(engine, said.append, lambda: engine.now), 1.0, requests=3)
    assert (engine.done, said) == ([], [])


def test_a_stop_says_what_it_waits_for_and_counts_down(said: list[str]) -> None:
    engine = Engine(reacts=True)
    stopping = Stopping(engine, said.append, lambda: engine.now)
    engine.reaction = Reacts(7, ("text/3 (p/m/chat, 40 s)", "text/5 (p/m/chat, 12 s)"), 8.6)
    look(engine, stopping, 2.0, requests=1)
    engine.reaction = Reacts(1, ("text/3 (p/m/chat, 43 s)",), 5.9)
    look(engine, stopping, 2.0, requests=1)
    assert said[1:] == [
        "Waiting for 7 tasks, aborted in 9 s; out longest: text/3 (p/m/chat, 40 s), "
        "text/5 (p/m/chat, 12 s), ...",
        "Waiting for 1 task, aborted in 6 s; out longest: text/3 (p/m/chat, 43 s)",
    ]
