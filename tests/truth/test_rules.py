"""The rules of the scoreboard, each with an answer that breaks it and one that does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.truth.answer import Answer, Blame, Part, Report, RunSaid, Said
from tests.truth.expectations import EXPECTATIONS
from tests.truth.facts import Endpoint, Run, Status, Window
from tests.truth.rules import FALSE_RULES, Score, score
from tests.truth.situations import SITUATIONS

ALPHA, BETA = "alpha/writer-8b", "beta/judge-70b"
SLOTS = 100.0
HANG = Window("hung call", 4.0, 9.0, BETA)
HUNG = Said("provider_latency", "E", 4.5, 9.0, "A call to beta/judge-70b hung for 5 s.", BETA)
HEADLINE = "A call to beta/judge-70b hung from 4.0 to 9.0 s: look at the endpoint."


def truth(*windows: Window, source: str = "own", **facts: Any) -> Run:
    """A run of ten seconds: alpha was busy 60 %, beta 30 % of the slots."""
    server = {
        ALPHA: Endpoint(8, 8, 300, 60.0, {"200": Status(300, 0.2, 9.5)}),
        BETA: Endpoint(6, 6, 150, 30.0, {"200": Status(150, 0.2, 9.5)}),
    }
    run = Run(f"case.{source}.jsonl.xz", 0.1, 9.9, windows, server)
    return msgspec.structs.replace(run, **facts)


def answer(
    headline: str = "The run was limited by nothing.",
    *verdicts: Said,
    working: tuple[float, float] = (0.6, 0.3),
    more: tuple[Blame, ...] = (),
    ended: str = "t: ended well at 0:10.0",
    outcome: str = "success",
) -> Answer:
    blame = [
        Blame("working", working[0], f"{ALPHA}/chat"),
        Blame("working", working[1], f"{BETA}/chat"),
        *more,
    ]
    blame.append(Blame("queue_order", 1.0 - sum(row.fraction for row in blame), f"{ALPHA}/chat"))
    parts = (Part("alpha", SLOTS, tuple(blame)),)
    report = Report(headline, RunSaid(10.0, 100.0, outcome), tuple(blame), parts, verdicts)
    sentences = "\n".join(said.sentence for said in verdicts)
    return Answer(f"{ended}\n\n{headline}\n\n{sentences}", report)


def of(situation: str, run: Run, said: Answer) -> Score:
    return score(run, EXPECTATIONS[situation], said)


def test_the_cause_with_its_place_its_window_and_an_action_is_right() -> None:
    assert of("hang1", truth(HANG), answer(HEADLINE, HUNG)).grade == "right"


@pytest.mark.parametrize(
    ("headline", "verdicts", "grade"),
    [
        ("All is slow.", (HUNG,), "vague"),
        ("A call to beta/judge-70b hung.", (), "vague"),
        (HEADLINE, (), "vague"),
        (HEADLINE, (msgspec.structs.replace(HUNG, start=8.0),), "vague"),
        ("Time went by.", (), "missing"),
    ],
)
def test_what_is_named_in_part_is_vague_and_what_is_not_named_is_missing(
    headline: str, verdicts: tuple[Said, ...], grade: str
) -> None:
    assert of("hang1", truth(HANG), answer(headline, *verdicts)).grade == grade


def said(verdict: str, resource: str | None = BETA, **facts: Any) -> Said:
    return msgspec.structs.replace(
        Said(verdict, "C", 4.0, 8.0, "Something stood still.", resource), **facts
    )


FEW_CALLS = {ALPHA: Endpoint(8, 8, 30, 60.0), BETA: Endpoint(6, 6, 15, 30.0)}
RAISE = "Raise max_parallel_requests of this model."
FALSE = {
    "a bug that is none": ("healthy", truth(), answer("Well.", said("lost_wakeup"))),
    "slow, though it was not": (
        "healthy",
        truth(),
        answer("Well.", said("provider_latency")),
    ),
    "tasks that were slow, though their calls were not": (
        "healthy",
        truth(source="native"),
        answer("Well.", said("slow_tasks")),
    ),
    "slow at another time": (
        "hang1",
        truth(HANG),
        answer(HEADLINE, HUNG, said("provider_latency", start=0.5, end=3.0)),
    ),
    "slow at another place": (
        "hang1",
        truth(HANG),
        answer(HEADLINE, HUNG, said("provider_latency", ALPHA)),
    ),
    "a cooldown without a 429": ("healthy", truth(), answer("Well.", said("request_cooldown"))),
    "a share of a cooldown without a 429": (
        "healthy",
        truth(),
        answer(more=(Blame("request_cooldown", 0.05, f"{BETA}/chat"),)),
    ),
    "a loop that ran": ("healthy", truth(), answer("Well.", said("event_loop_lag", None))),
    "more calls while it hangs": (
        "hang1",
        truth(HANG),
        answer(HEADLINE, HUNG, said("task_capacity", f"request:{BETA}", advice=RAISE)),
    ),
    "more calls than it was ever given": (
        "hang1",
        truth(HANG, server={BETA: Endpoint(6, 4, 9, 90.0)}),
        answer(
            HEADLINE,
            HUNG,
            said("request_aggregate_cap", start=0.0, end=3.0, advice=RAISE),
            working=(0.0, 0.9),
        ),
    ),
    "a sentence of missing facts": (
        "healthy",
        truth(),
        answer("Well.", said("request_domain_limit", sentence="Only 0 calls at a time (of 0).")),
    ),
    "what only follows": (
        "hang1",
        truth(HANG),
        answer("The rest: 44 % waiting for upstream columns.", HUNG),
    ),
    "slots before the run began": (
        "healthy",
        truth(source="exec", began=9.0),
        answer(working=(0.6, 0.3)),
    ),
    "full slots that are called idle": ("healthy", truth(), answer(working=(0.6, 0.1))),
    "held slots that are called work": (
        "block",
        truth(
            Window("event loop blocked by column lag", 1.0, 9.0),
            server={ALPHA: Endpoint(8, 8, 30, 5.0)},
        ),
        answer("The event loop was blocked by lag."),
    ),
    "held slots that are called work beside a busy neighbour": (
        "healthy",
        truth(Window("busy neighbour", 0.0, 9.0), server=FEW_CALLS),
        answer("85 % of the capacity that was wanted did work.", working=(0.75, 0.4)),
    ),
    "a success without a row": (
        "all401",
        truth(Window("401 answers", 0.0, 9.0, BETA), rows_kept=0),
        answer("beta answered 401 to all: check its key."),
    ),
    "advice to a healthy run": (
        "healthy",
        truth(),
        answer("Well.", said("request_aggregate_cap", advice=RAISE)),
    ),
}


@pytest.mark.parametrize("case", FALSE)
def test_what_contradicts_the_truth_is_false(case: str) -> None:
    situation, run, wrong = FALSE[case]
    assert of(situation, run, wrong).grade == "false"


def test_each_rule_has_a_case_in_which_it_alone_is_broken() -> None:
    broken = set()
    for situation, run, wrong in FALSE.values():
        rules = [rule for rule in FALSE_RULES if list(rule(run, EXPECTATIONS[situation], wrong))]
        if len(rules) == 1:
            broken.add(rules[0])
    assert {rule.__name__ for rule in FALSE_RULES} == {rule.__name__ for rule in broken}


def test_a_healthy_run_needs_shares_that_agree_with_its_servers() -> None:
    assert of("healthy", truth(), answer()).grade == "right"
    assert of("healthy", truth(), answer(working=(0.65, 0.3))).grade == "vague"
    busy = truth(Window("busy neighbour", 0.0, 10.0))
    assert of("healthy", busy, answer(working=(0.65, 0.3))).grade == "right"


def test_what_is_unknown_is_not_called_idle() -> None:
    unknown = Blame("unknown", 0.15, f"{BETA}/chat")
    assert of("healthy", truth(), answer(working=(0.6, 0.15), more=(unknown,))).grade == "right"


def test_where_the_stream_can_t_show_it_to_say_so_is_right() -> None:
    blocked = Window("event loop blocked by column lag", 1.0, 9.0)
    native = truth(blocked, source="native", server={})
    honest = "Why 80 % of it went by is unknown: nothing tells whether its loop ran."
    assert of("block", native, answer(honest, working=(0.0, 0.0))).grade == "right"
    assert of("block", native, answer("Well.", working=(0.0, 0.0))).grade == "missing"
    own = truth(blocked, server={})
    assert of("block", own, answer(honest, working=(0.0, 0.0))).grade == "missing"


def test_slots_in_use_are_not_called_work_where_no_call_is_told() -> None:
    busy = truth(Window("busy neighbour", 0.0, 10.0), source="native", server=FEW_CALLS)
    used = answer("85 % of the capacity was in use.", working=(0.75, 0.5))
    assert of("healthy", busy, used).grade == "right"
    worked = answer("85 % of the capacity did work.", working=(0.75, 0.5))
    assert of("healthy", busy, worked).grade == "false"


def test_a_short_stop_need_not_be_told_but_is_never_the_providers() -> None:
    stop = Window("process stopped", 4.0, 5.2)
    assert of("stop_short", truth(stop), answer()).grade == "right"
    wrong = answer("Well.", said("provider_latency"))
    assert of("stop_short", truth(stop), wrong).grade == "false"


def test_answers_that_cost_rows_are_named() -> None:
    windows = Window("malformed answers", 2.0, 4.0, BETA)
    assert of("malformed", truth(windows, rows_kept=120, rows_asked=120), answer()).grade == "right"
    lost = truth(windows, rows_kept=110, rows_asked=120)
    assert of("malformed", lost, answer()).grade == "missing"


def test_the_share_of_a_cooldown_agrees_with_the_slots_that_it_took() -> None:
    window = Window("cooldown after 429", 4.0, 9.0, BETA, lost_slot_seconds=20.0)
    limited = Endpoint(6, 6, 150, 30.0, {"429": Status(1, 4.0, 4.0)})
    run = truth(window, server={ALPHA: truth().server[ALPHA], BETA: limited})
    headline = "beta/judge-70b asked to slow down (429): lower max_parallel_requests."
    verdict = said("request_cooldown", start=4.0, end=9.0, sentence="429 of beta/judge-70b.")
    for share, grade in ((0.2, "right"), (0.06, "vague")):
        blame = Blame("request_cooldown", share, f"{BETA}/chat")
        made = answer(headline, verdict, working=(0.5, 0.28), more=(blame,))
        assert of("r429_ra5", run, made).grade == grade


def test_a_cause_that_did_not_come_about_need_not_be_named() -> None:
    assert of("bucket", truth(), answer()).grade == "right"


def test_beside_a_busy_neighbour_the_process_of_a_healthy_run_may_be_blamed() -> None:
    starved = answer("Well.", said("process_paused", None, tier="A"))
    busy = truth(Window("busy neighbour", 0.0, 10.0))
    assert of("healthy", busy, starved).grade == "right"
    assert of("healthy", truth(), starved).grade == "false"


def test_a_situation_is_expected_by_its_name() -> None:
    assert {situation.name for situation in SITUATIONS} <= EXPECTATIONS.keys()
    assert len({situation.name for situation in SITUATIONS}) == len(SITUATIONS) >= 30


def test_an_answer_that_ends_badly_is_no_false_success() -> None:
    run = truth(Window("401 answers", 0.0, 9.0, BETA), rows_kept=0)
    headline = "All 120 rows were dropped: HTTP 401 from beta/judge-70b. Check its key."
    verdict = said("authentication", start=0.0, end=9.0, sentence="401 from beta/judge-70b.")
    honest = answer(headline, verdict, ended="t: failed at 0:10.0", outcome="failed")
    assert of("all401", run, honest).grade == "right"
    wrong = answer(headline, verdict, outcome="failed")
    assert of("all401", run, wrong).grade == "false"
