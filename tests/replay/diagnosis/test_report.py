"""Shares, the bottleneck line, and the report as data and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import pytest

from engine.events import RunInfo
from replay.diagnosis.report.bottleneck import bottleneck
from replay.diagnosis.report.build import WhyReport, build_report, render_markdown, render_text
from replay.diagnosis.report.shares import cell_shares, run_shares
from replay.diagnosis.verdicts import VerdictRow, clock
from replay.sources.base import BrokenLine
from replay.state.bins import within
from replay.state.model import State
from replay.state.rows import AttemptRow, BlameRow, LeaseRow
from replay.state.spending import SpendingRow
from tests.replay.diagnosis.stream import ALPHA, BETA, QUESTION, VERDICT, Result, Stream

RUN = RunInfo("run-1", "a run")


@dataclass(frozen=True)
class Status:
    complete: bool = True
    outcome: str | None = "success"
    lost: bool = False


@dataclass(frozen=True)
class Bounds:
    first_ordinal: int
    last_ordinal: int
    t0: float
    t1: float


class Reader:
    """A recording in memory."""

    def __init__(self, stream: Stream, result: Result) -> None:
        self._run, self._result = stream.run, result
        times = [event.captured_at_monotonic for event in stream.events]
        self._bounds = Bounds(1, len(times), times[0], times[-1])

    def run(self) -> RunInfo:
        return self._run

    def status(self) -> Status:
        return Status()

    def bounds(self) -> Bounds:
        return self._bounds

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]:
        return list(within((r for r in self._result.rows if r.scope == scope), bin0, bin1))

    def ordinal_at(self, t: float) -> int:
        return self._bounds.last_ordinal

    def state_at(self, ordinal: int) -> State:
        return self._result.state

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]:
        return [], []

    def verdicts(self, t0: float | None = None, t1: float | None = None) -> list[VerdictRow]:
        first = float("-inf") if t0 is None else t0
        last = float("inf") if t1 is None else t1
        return [row for row in self._result.verdicts if row.end >= first and row.start <= last]

    def broken_lines(self) -> list[BrokenLine]:
        return []

    def spending(self) -> list[SpendingRow]:
        return []


def stormy() -> Reader:
    """20 s: alpha's 2 slots always full; beta's 2 cool down from 4 to 12 s, then are full."""
    stream = Stream(records=4)
    stream.register(ALPHA, 2)
    stream.register(BETA, 2)
    questions = [stream.call(stream.begin(QUESTION, row)) for row in range(2)]
    verdicts = [stream.call(stream.begin(VERDICT, row)) for row in range(2)]
    stream.at(4.0)
    for work in verdicts:
        stream.answer(work, "rate_limited", blocked_until=112.0, retry_after=8.0)
        stream.wait(work, "cooldown")
    stream.at(12.0)
    for work in verdicts:
        stream.send(work)
    stream.at(20.0)
    for work in (*questions, *verdicts):
        stream.complete(work)
    return Reader(stream, stream.end())


def row(verdict: str, resource: str, seconds: float) -> BlameRow:
    return BlameRow(0, "run", "", None, resource, verdict, seconds)


def test_shares_are_sorted_and_sum_to_one() -> None:
    rows = [
        row("working", "a/m/chat", 2.0),
        row("request_cooldown", "b/m/chat", 5.0),
        row("working", "a/m/chat", 2.0),
        BlameRow(0, "cell", "q", 0, "", "queue_order", 9.0),
    ]
    shares = run_shares(rows)
    assert [(s.verdict, s.resource) for s in shares] == [
        ("request_cooldown", "b/m/chat"),
        ("working", "a/m/chat"),
    ]
    assert sum(s.fraction for s in shares) == pytest.approx(1.0)
    (cell,) = cell_shares(rows)
    assert (cell.verdict, cell.resource, cell.fraction) == ("queue_order", None, 1.0)
    assert run_shares([]) == ()


def test_the_bottleneck_line_names_the_resource() -> None:
    rows = [row("working", "a/m/chat", 29.0), row("request_cooldown", "beta/judge/chat", 71.0)]
    bound = bottleneck(run_shares(rows), None, [], 60.0)
    assert bound is not None
    assert bound.sentence == "limited by beta/judge: cooldown after 429s, 71 % of the last 60 s"
    assert (bound.verdict, bound.resource) == ("request_cooldown", "beta/judge/chat")
    assert bound.fraction == pytest.approx(0.71)


def test_mostly_working_is_no_limit() -> None:
    rows = [row("working", "a/m/chat", 92.0), row("dependency", "b/m/chat", 8.0)]
    bound = bottleneck(run_shares(rows), None, [], 60.0)
    assert bound is not None
    assert bound.sentence == "no limit reached, 92 % of the capacity wanted at work, last 60 s"
    assert bottleneck((), None, [], 60.0) is None


def test_what_is_about_the_run_is_added_up_over_resources() -> None:
    rows = [
        row("working", "a/m/chat", 40.0),
        row("dependency", "a/m/chat", 20.0),
        row("dependency", "b/m/chat", 15.0),
        row("request_cooldown", "b/m/chat", 25.0),
    ]
    bound = bottleneck(run_shares(rows), None, [], 60.0)
    assert bound is not None
    assert (bound.verdict, bound.resource) == ("dependency", None)
    assert bound.fraction == pytest.approx(0.35)


def test_report_of_a_storm() -> None:
    report = build_report(stormy())
    shares = {(line.verdict, line.resource): line.fraction for line in report.run_blame}
    assert shares["request_cooldown", BETA.label] == pytest.approx(0.2)
    assert shares["working", ALPHA.label] == pytest.approx(0.5)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert sum(line.fraction for line in report.cell_blame) == pytest.approx(1.0)
    columns = {column.column: column for column in report.cell_blame_by_column}
    assert list(columns) == ["question", "verdict"]
    assert columns["verdict"].seconds == pytest.approx(40.0)
    assert sum(line.fraction for line in columns["verdict"].blame) == pytest.approx(1.0)
    (verdict,) = report.verdicts
    assert (verdict.start, verdict.end) == (4.0, 12.0)
    assert verdict.expected_release == pytest.approx(12.0)
    assert report.answer.startswith("alpha/gen sets the pace: its 2 calls at a time were in use")
    assert (
        "80 % of the capacity that was wanted did work. The rest: 20 % cooldown after 429s"
        " (beta/judge), 0:04.0 to 0:12.0: Provider beta asked to slow down"
    ) in report.answer
    assert report.bound is not None
    assert (report.bound.model, report.bound.cap) == ("alpha/gen", 2)
    (loss,) = report.losses
    assert (loss.verdict, loss.intervals) == ("request_cooldown", ((4.0, 12.0),))
    assert report.run.events > 0


def test_report_of_a_window_takes_only_its_seconds() -> None:
    reader = stormy()
    storm = build_report(reader, (104.0, 112.0))
    shares = {(line.verdict, line.resource): line.fraction for line in storm.run_blame}
    assert shares["request_cooldown", BETA.label] == pytest.approx(0.5)
    after = build_report(reader, (113.0, 120.0))
    assert {line.verdict for line in after.run_blame} == {"working"}
    assert after.verdicts == ()


@pytest.mark.parametrize(
    ("window", "reported", "working"),
    [
        ((103.9, 112.1), (4.0, 12.0), 0.5),
        ((103.0, 103.0), (3.0, 4.0), 1.0),
        ((104.1, 104.2), (4.0, 5.0), 0.5),
        ((111.9, 113.4), (12.0, 13.0), 1.0),
    ],
)
def test_a_window_says_which_seconds_stand_for_it(
    window: tuple[float, float], reported: tuple[float, float], working: float
) -> None:
    report = build_report(stormy(), window)
    assert (report.blame_start, report.blame_end) == reported
    shares = sum(line.fraction for line in report.run_blame if line.verdict == "working")
    assert shares == pytest.approx(working)
    assert f"(shares: of {clock(reported[0])} to {clock(reported[1])})" in render_text(report)
    assert f"(shares: of {clock(reported[0])} to {clock(reported[1])})" in render_markdown(report)


def test_cells_are_told_by_whatever_they_belong_to() -> None:
    report = build_report(stormy())
    for parts in (
        report.cell_blame_by_provider,
        report.cell_blame_by_group,
        report.cell_blame_by_row_group,
    ):
        assert sum(part.seconds for part in parts) == pytest.approx(80.0)
        for part in parts:
            assert sum(line.fraction for line in part.blame) == pytest.approx(1.0)
    by_provider = {part.part: part for part in report.cell_blame_by_provider}
    assert list(by_provider) == ["alpha", "beta"]
    assert [line.verdict for line in by_provider["alpha"].blame] == ["working"]
    cooldown = {line.verdict: line.fraction for line in by_provider["beta"].blame}
    assert cooldown["request_cooldown"] == pytest.approx(0.4)
    groups = [part.part for part in report.cell_blame_by_group]
    assert groups == [QUESTION.group, VERDICT.group]
    markdown = render_markdown(report)
    assert "| beta | 50.0 % | working 60 %, cooldown after 429s 40 % |" in markdown


def test_what_is_normal_may_be_the_largest_loss_too() -> None:
    rows = [
        row("working", "a/m/chat", 70.0),
        row("queue_order", "a/m/chat", 9.0),
        row("queue_order", "b/m/chat", 9.0),
        row("request_cooldown", "b/m/chat", 12.0),
    ]
    bound = bottleneck(run_shares(rows), None, [], 60.0)
    assert bound is not None
    assert bound.verdict == "queue_order"
    assert bound.fraction == pytest.approx(0.18)


def test_report_tells_both_clocks_at_its_beginning() -> None:
    report = build_report(stormy())
    assert report.run.began_at is None
    assert "UTC" not in render_text(report)
    stream = Stream()
    stream.run = msgspec.structs.replace(stream.run, wall_start=1_800_000_000.0)
    stream.scheduler("scheduler_job_started")
    first = stream.events[0].captured_at_monotonic
    report = build_report(Reader(stream, stream.fold()))
    assert report.run.began_monotonic == first
    assert report.run.began_at == 1_800_000_000.0 + first - stream.run.monotonic_start
    assert "0:00.0 is 2027-01-15 08:00:00.0 UTC" in render_text(report, 200)


def test_report_says_what_its_stream_could_not_prove() -> None:
    assert build_report(stormy()).not_provable == ()
    stream = Stream()
    lacks = ("request stream (attempts)", "loop heartbeat", "token counts")
    stream.run = msgspec.structs.replace(stream.run, producer="data_designer", lacks=lacks)
    stream.scheduler("scheduler_job_started")
    report = build_report(Reader(stream, stream.fold()))
    assert report.not_provable == (
        "event_loop_lag",
        "process_stopped",
        "provider_latency",
        "lost_wakeup",
    )
    text = " ".join(render_text(report).split())
    assert "Not provable from this stream: event loop held up, the run's own process" in text


def test_report_goes_through_json() -> None:
    report = build_report(stormy())
    assert msgspec.json.decode(msgspec.json.encode(report), type=WhyReport) == report


@pytest.mark.parametrize("width", [40, 80, 120])
def test_text_fits_its_width_and_leads_with_the_answer(width: int) -> None:
    report = build_report(stormy())
    text = render_text(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    flat = " ".join(text.split())
    assert " ".join(report.answer.split()) in flat
    answer, run, cells, verdicts = (
        flat.index(part)
        for part in ("of the capacity", "Run: where", "Cells: where", "Verdicts (1")
    )
    assert answer < run < cells < verdicts
    assert "0:04.0 to 0:12.0 request_cooldown" in flat
    assert "429s: at 0:04.0" in flat
    assert "proved by events:" in flat
    assert "what to do: Lower max_parallel_requests" in flat


def test_an_empty_recording_has_a_report_too() -> None:
    stream = Stream()
    stream.events.clear()
    result = stream.fold()
    stream.scheduler("scheduler_job_started")
    report = build_report(Reader(stream, result))
    assert report.run_blame == ()
    assert "Nothing ran" in render_text(report)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00.0"),
        (83.44, "1:23.4"),
        (59.96, "1:00.0"),
        (3723.5, "1:02:03.5"),
        (-1.2, "-0:01.2"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
