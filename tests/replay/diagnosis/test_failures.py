"""Failures as causes: by resource, column and class, with what they cost, and how the run ended."""

from __future__ import annotations

from typing import Any

import pytest

from engine.events import RunInfo
from engine.events.failures import FAILURES, FailureClass, error_type_of
from replay.diagnosis.report.build import build_report
from replay.diagnosis.report.pace import find_bound
from replay.diagnosis.verdicts.errors import RECOVERED_CALLS, FailureVerdict
from replay.state.ending import ending, ending_of
from replay.state.failures import class_of, class_of_failure, error_words, failure_words
from replay.state.model import Aggregate, Ceiling, Failure, State
from replay.state.rows import BlameRow
from tests.replay.diagnosis.stream import ALPHA, BETA, QUESTION, VERDICT, Stream, Work
from tests.replay.diagnosis.test_report import Reader


def failing(error: str, rows: int) -> Stream:
    """So many calls to beta fail, each 1 s after the one before, and cost their rows."""
    stream = Stream()
    stream.register(BETA, 2)
    for row in range(rows):
        work = stream.call(stream.begin(VERDICT, row))
        stream.at(row + 1.0)
        fail(stream, work, error)
    return stream


def fail(stream: Stream, work: Work, error: str) -> None:
    """The call of `work` fails, and its row is dropped."""
    outcome = "provider_failure"
    stream.request("model_request_completed", BETA, work, outcome, error_type=error)
    stream.request("request_lease_released", BETA, work, outcome)
    stream.finish(work, "non_retryable_dropped", error)


@pytest.mark.parametrize(
    ("error", "verdict", "says"),
    [
        ("HTTP401", "authentication", "until its key is right"),
        ("HTTP402", "quota_spent", "until the account has quota again"),
        ("HTTP503", "provider_errors", "Retries bridge a short outage"),
        ("ConnectionFailed", "provider_errors", "cannot be reached"),
        ("HTTP404", "provider_errors", "will refuse them again"),
    ],
)
def test_calls_that_fail_have_a_verdict_and_advice_by_their_class(
    error: str, verdict: str, says: str
) -> None:
    result = failing(error, 3).end()
    row = result.only(verdict)
    assert row.resource == BETA.label
    assert (row.start, row.end) == pytest.approx((101.0, 103.0))
    assert isinstance(row.detail, FailureVerdict)
    assert (row.detail.times, row.detail.rows_dropped) == (3, 3)
    assert row.detail.columns == ["verdict"]
    assert "3 calls to beta/judge failed and none succeeded" in row.sentence
    assert says in row.advice


def test_failures_that_successes_part_are_two_spells() -> None:
    stream = failing("HTTP503", 1)
    for second in range(30):
        work = stream.call(stream.begin(VERDICT, 100 + second))
        stream.at(second + 2.0)
        stream.complete(work)
    work = stream.call(stream.begin(VERDICT, 200))
    stream.at(40.0)
    fail(stream, work, "HTTP503")
    first, second_spell = stream.end().named("provider_errors")
    assert (first.end, second_spell.start) == pytest.approx((101.0, 140.0))


def test_an_error_of_a_column_is_no_providers() -> None:
    stream = Stream()
    work = stream.begin(QUESTION, 0)
    stream.at(1.0)
    stream.finish(work, "non_retryable_dropped", "ValueError")
    row = stream.end().only("column_errors")
    assert row.sentence == "1 task failed with ValueError in column question. 1 row dropped."


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("ValueError", "Look at the code of this column"),
        ("RowRejected", "look at the check"),
        ("EmptyPrompt", "The prompt of these rows is empty"),
    ],
)
def test_the_advice_about_a_column_names_what_to_look_at(error: str, advice: str) -> None:
    stream = Stream()
    work = stream.begin(QUESTION, 0)
    stream.finish(work, "non_retryable_dropped", error)
    row = stream.end().only("column_errors")
    assert advice in row.advice


def test_what_a_task_said_of_its_failure_is_told_and_no_log_that_does_not_have_it() -> None:
    stream = Stream()
    for row in range(2):
        work = stream.begin(QUESTION, row)
        said = f'the function work of column "question" failed at line {row + 3}'
        stream.finish(work, "non_retryable_dropped", "ValueError", message=said)
    verdict = stream.end().only("column_errors")
    assert verdict.sentence == (
        "2 tasks failed with ValueError in column question: the function work of column"
        ' "question" failed at line 3. 2 rows dropped.'
    )
    assert verdict.advice == "Look at the code of this column."


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("refusal", 200, "unusable answer (refusal)"),
        ("empty_answer", 200, "unusable answer (empty answer)"),
        ("context_length", 400, "request refused (context length)"),
        ("request_too_large", 429, "request refused (request too large)"),
    ],
)
def test_answers_and_requests_are_named_by_what_was_wrong_with_them(
    name: FailureClass, status: int, words: str
) -> None:
    error = error_type_of(name)
    assert failure_words(failure(error=error, status=status)) == f"{words} from alpha"
    verdict = failing(error, 2).end().only("provider_errors")
    assert f": {words}. 2 rows dropped." in verdict.sentence
    assert verdict.advice[:-1].lower() == FAILURES[name].advice.lower()


def test_the_first_paragraph_begins_with_what_failed() -> None:
    stream = failing("HTTP401", 3)
    report = build_report(Reader(stream, stream.end()))
    assert report.answer.startswith("3 calls to beta/judge failed and none succeeded")
    (line,) = report.errors
    assert (line.provider, line.column, line.error) == ("beta", "verdict", "HTTP401")
    assert (line.times, line.rows_dropped, line.error_class) == (3, 3, "authentication")


def failure(**facts: Any) -> Failure:
    base = {"resource": "alpha/m/chat", "column": "q", "error": "HTTP401", "times": 30}
    return Failure(**{**base, "first_at": 0.0, "last_at": 1.0, "first_ordinal": 1, **facts})


def test_a_run_that_lost_its_rows_is_no_success() -> None:
    ended = ending("success", 0, 30, 30, [failure(rows_dropped=30)])
    assert ended is not None
    assert ended.words == "30 of 30 rows dropped: HTTP 401 from alpha"
    assert not ended.good
    assert ended.nothing_made


@pytest.mark.parametrize(
    ("outcome", "failures", "said"),
    [
        ("failed", [], "Failed: row group 0 could not be written."),
        ("failed", [failure()], "Failed: HTTP 401 from alpha: row group 0 could not be written."),
        ("stopped", [], "Stopped: row group 0 could not be written."),
        ("stopped", [failure()], "Stopped: HTTP 401 from alpha."),
        ("cancelled", [], "Cancelled."),
    ],
)
def test_what_the_producer_says_of_the_end_is_told_where_nothing_else_tells_why(
    outcome: str, failures: list[Failure], said: str
) -> None:
    state = State(
        outcome=outcome,
        end_message="row group 0 could not be written.",
        failures={failure.error: failure for failure in failures},
    )
    ended = ending_of(state, None, 30)
    assert ended is not None
    assert ended.sentence == said


def test_rows_that_only_the_stop_cost_are_told_apart_from_those_of_a_failure() -> None:
    lost = [failure(rows_dropped=8)]
    ended = ending("success", 0, 60, 60, lost, "early_shutdown")
    assert ended is not None
    assert ended.words == (
        "stopped early: 60 of 60 rows dropped, 52 of them because the run stopped: HTTP 401 from"
        " alpha"
    )
    whole = ending("success", 0, 60, 60, lost)
    assert whole is not None
    assert whole.words == "60 of 60 rows dropped: HTTP 401 from alpha"


def test_the_end_of_a_stopped_run_and_its_verdicts_tell_the_same_numbers() -> None:
    stream = failing("HTTP401", 3)
    stream.queue(VERDICT, 10)
    stream.scheduler("row_group_checkpointed", row_group=0, surviving_rows=0, dropped_rows=10)
    stream.scheduler("scheduler_job_completed", reason="success", outcome="early_shutdown")
    result = stream.fold()
    assert result.only("authentication").sentence.endswith("3 rows dropped.")
    assert result.only("dropped_rows").sentence == (
        "All 10 of 10 rows were dropped, 7 of them because the run stopped: HTTP 401 from beta."
    )
    assert "10 of 10 rows dropped, 7 of them" in build_report(Reader(stream, result)).answer


def test_rows_of_unfinished_row_groups_are_not_lost_for_good() -> None:
    """The producer stops: of 5 rows that failed it counts the 2 of a row group that is written."""
    stream = failing("HTTP401", 5)
    stream.scheduler("row_group_checkpointed", row_group=0, surviving_rows=4, dropped_rows=2)
    stream.scheduler("scheduler_job_completed", reason="stopped")
    result = stream.fold()
    part = "5 of 9 rows were dropped, 3 of them in row groups that a resumed run makes again"
    assert result.only("dropped_rows").sentence == f"{part}: HTTP 401 from beta."
    ended = ending("stopped", 4, 2, 20, [failure(rows_dropped=5)])
    assert ended is not None
    assert ended.words == (
        "stopped: 5 of 20 rows dropped, 3 of them in row groups that a resumed run makes again:"
        " HTTP 401 from alpha"
    )


def test_rows_that_were_lost_for_no_told_reason_have_a_place_to_look_at() -> None:
    stream = Stream(producer="data_designer", lacks=("request stream",))
    for row in range(3):
        work = stream.begin(VERDICT, row)
        stream.scheduler("retry_deferred", work, attempt=1)
        stream.release(work)
    stream.scheduler("row_group_checkpointed", row_group=0, surviving_rows=1, dropped_rows=3)
    result = stream.end()
    assert result.only("dropped_rows").sentence == (
        "3 of 4 rows were dropped; this stream does not tell why."
    )
    assert (
        "This stream does not tell why: tasks of verdict, which calls beta/judge, were tried again"
        " 3 times."
    ) in build_report(Reader(stream, result)).answer


def test_an_error_in_the_body_of_an_answer_is_told_with_the_status_that_it_had() -> None:
    stream = Stream()
    stream.register(BETA, 2)
    work = stream.call(stream.begin(VERDICT, 0))
    stream.at(1.0)
    error, outcome = error_type_of("server_error", 200), "provider_failure"
    facts = {"error_type": error, "status": 200, "class": "server_error", "code": "500"}
    stream.request("model_request_completed", BETA, work, outcome, **facts)
    stream.request("request_lease_released", BETA, work, outcome)
    stream.finish(work, "non_retryable_dropped", error)
    row = stream.end().only("provider_errors")
    assert "server error (told in the body of an answer with HTTP 200)" in row.sentence
    assert "500" not in row.sentence
    assert "The endpoint itself fails" in row.advice


def test_a_whole_run_is_one_and_a_live_run_has_no_ending() -> None:
    assert ending(None, 3, 0, 10) is None
    whole = ending("success", 10, 0, 10, [failure()])
    assert whole is not None
    assert (whole.words, whole.good) == ("success", True)


def test_an_early_stop_says_why() -> None:
    ended = ending("failed", 50, 100, 150, [failure()], "early_shutdown")
    assert ended is not None
    assert ended.words == "stopped early: 100 of 150 rows dropped: HTTP 401 from alpha"


@pytest.mark.parametrize(
    ("of_engine", "status", "expected"),
    [
        ("auth", 401, "authentication"),
        ("quota_spent", 429, "quota"),
        ("quota_used_up", 429, "quota"),
        ("overload", 529, "server"),
        ("connection", None, "connection"),
        ("unknown_model", 404, "request"),
        ("context_length", 400, "request"),
        ("refusal", None, "answer"),
        ("empty_answer", None, "answer"),
        ("server_error", 502, "server"),
        ("invalid_request", 422, "request"),
    ],
)
def test_failures_of_the_engine_keep_their_class(
    of_engine: FailureClass, status: int | None, expected: str
) -> None:
    name = error_type_of(of_engine, status)
    call = Failure("alpha/m/chat", "gen", name, 1.0, 1.0, 1, of_calls=True, status=status)
    assert class_of_failure(call) == class_of(name) == expected


def test_words_of_both_producers_have_one_class() -> None:
    for names in (
        ("HTTP401", "HTTP403", "authentication", "ModelAuthenticationError"),
        ("HTTP500", "HTTP503", "internal_server", "ModelInternalServerError"),
        ("HTTP504", "provider_timeout", "ModelTimeoutError"),
    ):
        assert len({class_of(name) for name in names}) == 1
    assert class_of("ValueError") == "code"
    assert error_words("HTTP503") == "HTTP 503"


def saturated(caps: dict[str, int]) -> tuple[State, list[BlameRow]]:
    """10 s of which beta is full for 9, and alpha hardly at work."""
    state = State()
    for label in (ALPHA.label, BETA.label):
        model = label.rpartition("/")[0]
        state.ceilings[label] = Ceiling(label, model, effective_max=3, limit=3)
    state.aggregates["beta/judge"] = Aggregate("beta/judge", 3, raw_caps=caps)
    rows = [
        BlameRow(0, "run", "", None, BETA.label, "working", 3.0, 9),
        BlameRow(0, "run", "", None, ALPHA.label, "working", 0.5, 10),
        BlameRow(0, "run", "", None, ALPHA.label, "dependency", 2.5, 10),
    ]
    return state, rows


def test_what_bounds_a_run_is_told_with_where_its_cap_comes_from() -> None:
    state, rows = saturated({"judge": 3, "grader": 8})
    cells = [BlameRow(0, "cell", "v", 0, "model_stage:beta/judge", "task_capacity", 4.0, 10)]
    bound = find_bound(RunInfo("r", "n"), state, rows, cells)
    assert bound is not None
    assert (bound.model, bound.cap) == ("beta/judge", 3)
    assert bound.saturated == pytest.approx(0.9)
    assert bound.waiting == pytest.approx(1.0)
    assert bound.sets_the_pace
    assert "grader 8 and judge 3" in bound.sentence()
    assert "the lowest holds for all" in bound.sentence()
    assert bound.advice.startswith("Raise max_parallel_requests of judge")


def test_a_healthy_bound_is_told_without_advice() -> None:
    state, rows = saturated({"judge": 3})
    bound = find_bound(RunInfo("r", "n"), state, rows, [])
    assert bound is not None
    assert "beta/judge sets the pace: its 3 calls at a time" in bound.sentence()
    assert bound.advice == ""


@pytest.mark.parametrize(
    ("error", "word"), [("HTTP403", "takes the key again"), ("HTTP503", "back")]
)
def test_a_failure_that_passed_says_so_and_asks_nobody_to_act(error: str, word: str) -> None:
    stream = failing(error, 4)
    for row in range(4, 4 + RECOVERED_CALLS):
        stream.at(row + 1.0)
        stream.complete(stream.call(stream.begin(VERDICT, row)))
    (failed,) = [row for row in stream.end().verdicts if isinstance(row.detail, FailureVerdict)]
    assert f"{RECOVERED_CALLS} calls succeeded after that" in failed.sentence
    assert word in failed.advice
    assert "Nothing will succeed" not in failed.advice
