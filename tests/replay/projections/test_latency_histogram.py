"""How long calls took and how many failed, by the second: as the calls themselves tell."""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import closing
from typing import Any

import duckdb
import pytest

from engine.events import RequestEvent
from replay.playback.frame import Want
from replay.playback.series_sampler import Sampler
from replay.playback.session import Session
from replay.projections.fold import Fold
from replay.projections.latency_histogram import LatencyHistogram
from replay.recording.query import RecordingQuery
from replay.runs.recorder import finish_import
from replay.state.bins import bin_of
from replay.state.failures import NEVER_A_FAILURE
from replay.state.rows import RollupRow
from tests.effort import effort
from tests.replay.conftest import WriteJournal
from tests.replay.random_engine import Play


def test_of_few_calls_the_longest_is_the_95th_percentile() -> None:
    times = LatencyHistogram()
    for seconds in (0.5, 3.0, 1.0):
        times.add(seconds)
    assert (times.mean, times.high_quantile, times.longest) == (1.5, 3.0, 3.0)


def test_the_95th_percentile_of_many_calls_is_at_most_a_twentieth_off() -> None:
    random_times = random.Random(4)
    for _ in range(effort(20, 500)):
        drawn = [
            random_times.lognormvariate(0.0, 1.5) for _ in range(random_times.randint(20, 999))
        ]
        times = LatencyHistogram()
        for seconds in drawn:
            times.add(seconds)
        exact = sorted(drawn)[int(0.95 * len(drawn))]
        assert times.high_quantile == pytest.approx(exact, rel=0.05)
        assert times.longest == max(drawn)
        assert times.mean == pytest.approx(sum(drawn) / len(drawn))


def test_times_of_very_many_calls_take_no_more_memory() -> None:
    times, random_times = LatencyHistogram(), random.Random(5)
    for _ in range(20_000):
        times.add(10.0 ** random_times.uniform(-300.0, 300.0))
    assert len(times.buckets) <= 40 * 8 + 1


@pytest.mark.parametrize("seed", range(effort(4, 60)))
def test_latency_and_failures_by_the_second_are_those_of_the_calls(play: Play, seed: int) -> None:
    run, events = play(seed)
    fold = Fold(run)
    fold.apply(events, 1)
    rows = fold.finish("success", False).rollup
    began: dict[str, float] = {}
    took: dict[tuple[int, str], list[float]] = defaultdict(list)
    failed: dict[tuple[int, str], int] = defaultdict(int)
    for event in events:
        if not isinstance(event, RequestEvent) or event.request_resource_key is None:
            continue
        attempt, at = event.request_attempt_id or "", event.captured_at_monotonic
        place = bin_of(at - run.monotonic_start), event.request_resource_key.label
        if event.event_kind == "model_request_started":
            began[attempt] = at
        elif event.event_kind == "model_request_completed":
            if event.reason_or_outcome == "success":
                took[place].append(at - began[attempt])
            elif event.reason_or_outcome not in NEVER_A_FAILURE | {"local_timeout"}:
                failed[place] += 1
    latency = {(row.bin, row.key): row for row in rows if row.series == "latency"}
    assert latency.keys() == took.keys()
    assert took
    for place, row in latency.items():
        assert row.mean == pytest.approx(sum(took[place]) / len(took[place]))
        assert row.peak == pytest.approx(max(took[place]))
        assert row.last <= row.peak
    assert {(row.bin, row.key): row.mean for row in rows if row.series == "failed"} == failed


def rows_of(query: RecordingQuery, sql: str) -> list[Any]:
    return list(query.run(sql)[1])


def test_the_view_ceilings_tells_of_the_calls_in_the_view_requests(
    play: Play, write_journal: WriteJournal
) -> None:
    run, events = play(6, row_groups=3)
    folder = write_journal(run, events)
    finish_import(folder)
    with closing(RecordingQuery(folder.recording)) as query:
        start = repr(run.monotonic_start - events[0].captured_at_monotonic)  # of bin 0, in run time
        calls = rows_of(
            query,
            f"""SELECT resource, floor(completed_at - ({start}) + 1e-9)::BIGINT AS second,
                avg(provider_time), max(provider_time)
            FROM requests WHERE outcome = 'success' GROUP BY ALL ORDER BY ALL""",
        )
        seconds = rows_of(
            query,
            f"""SELECT resource, round(t - ({start}))::BIGINT AS second, latency, latency_p95
            FROM ceilings WHERE latency IS NOT NULL ORDER BY ALL""",
        )
        assert [row[:2] for row in seconds] == [row[:2] for row in calls]
        assert [row[2] for row in seconds] == pytest.approx([row[2] for row in calls])
        assert all(
            p95 <= longest + 1e-9
            for (_, _, _, p95), (_, _, _, longest) in zip(seconds, calls, strict=True)
        )


def test_a_sample_of_several_seconds_is_of_all_their_calls() -> None:
    rows = [
        RollupRow(0, "completed", "a", 3.0, 3.0, 3.0),
        RollupRow(0, "latency", "a", 1.0, 1.5, 1.6),
        RollupRow(1, "completed", "a", 1.0, 1.0, 1.0),
        RollupRow(1, "latency", "a", 5.0, 5.0, 5.0),
        RollupRow(1, "failed", "a", 2.0, 2.0, 2.0),
    ]
    past = Sampler(0.0).past(lambda first, last: rows, 2.0, 0.0, 1, 4.0)
    (sample,) = past.samples
    assert sample.value("latency", "a") == pytest.approx((3 * 1.0 + 5.0) / 4)
    assert sample.value("latency_p95", "a") == 5.0
    assert sample.sums["failed", "a"] == 2


def test_a_recording_without_the_series_says_so(play: Play, write_journal: WriteJournal) -> None:
    run, events = play(6)
    folder = write_journal(run, events)
    finish_import(folder)

    def known() -> list[bool]:
        with closing(Session.open(folder.recording, growing=False)) as session:
            session.seek_time(events[-1].captured_at_monotonic)
            frame = session.frame(Want(span=60.0, calls=True))
            called = [row for row in frame.ceilings if row.ceiling.completed]
            return [row.latency is not None for row in called]

    assert set(known()) == {True}
    with duckdb.connect(str(folder.recording)) as connection:
        connection.execute("DELETE FROM rollup WHERE series = 'latency'")
    assert False in known()
