"""A resource that answers, and fails more often than a rare error would."""

from __future__ import annotations

import random

from engine.events import SchedulerEvent
from engine.models.provider_script import ErrorWindow, Latency
from engine.request_admission.degraded import FailureShare
from engine.workflow.schema import LlmTextColumn, Model, SamplerColumn, ScriptedProvider, Workflow
from tests.engine_run import Ran, run_engine


def notices(share: FailureShare, failures: float, calls: int, source: random.Random) -> int:
    return sum(share.note(source.random() < failures) is not None for _ in range(calls))


def test_a_few_per_cent_of_failures_are_nothing_special() -> None:
    assert notices(FailureShare(), 0.05, 5000, random.Random(1)) == 0


def test_many_failures_are_told_of_once_and_again_after_a_good_spell() -> None:
    share, source = FailureShare(), random.Random(1)
    assert notices(share, 0.4, 500, source) == 1
    assert notices(share, 0.0, 200, source) == 0
    assert notices(share, 0.4, 500, source) == 1


def test_it_says_how_many_of_how_many() -> None:
    share = FailureShare()
    ends = [share.note(number % 2 == 0) for number in range(30)]
    assert [end for end in ends if end is not None] == [(10, 19)]


def run(**script: object) -> Ran:
    provider = ScriptedProvider(latency=Latency(mean=0.5, spread=0.1), **script)
    return run_engine(
        Workflow(
            name="w",
            records=200,
            providers={"p": provider},
            models={"writer": Model(provider="p", model="m", max_parallel_requests=8)},
            columns=[
                SamplerColumn(name="id", uuid=True),
                LlmTextColumn(name="text", model="writer", prompt="{{ id }}"),
            ],
        )
    )


def warnings(ran: Ran) -> list[str]:
    return [
        str(event.diagnostics["message"])
        for event in ran.events
        if isinstance(event, SchedulerEvent)
        and event.event_kind == "run_warning"
        and event.reason_or_result == "provider_degraded"
    ]


def test_a_run_warns_of_a_degraded_provider_and_loses_no_row() -> None:
    ran = run(errors=[ErrorWindow(start=2.0, end=8.0, status=500, rate=0.4)])
    assert ran.result.rows_done == 200
    (warning,) = warnings(ran)
    assert warning.startswith('provider "p", model m is degraded: 10 of its last')
    assert "server_error" in warning


def test_no_warning_of_rare_errors_nor_of_an_outage() -> None:
    assert warnings(run(error_rate=0.05)) == []
    outage = [ErrorWindow(start=2.0, end=20.0, status=503)]
    assert warnings(run(errors=outage)) == []
