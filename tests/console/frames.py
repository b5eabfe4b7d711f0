"""Hand-made frames, always the same, for every state a run can be in."""

from __future__ import annotations

import random
from dataclasses import replace

from engine.events import (
    RunInfo,
)
from replay.diagnosis.report.bottleneck import Bottleneck
from replay.diagnosis.report.shares import Share
from replay.playback.frame import CeilingRow, Frame
from replay.state.model import Block, Gap, LimitChange, Progress, RowGroupProgress
from tests.console.frame_parts import (
    AGGREGATES,
    ALPHA,
    BETA,
    CAPACITY,
    COLUMNS,
    RUN,
    SAMPLES,
    T0,
    latencies,
    make_bars,
    make_ceiling,
    make_events,
    make_failures,
    make_group,
    make_queue,
    make_verdicts,
    wave,
)


def healthy() -> Frame:
    """Live, both providers at work, the model slots are the limit."""
    now = T0 + 62.4
    keys = [column.group for column in COLUMNS]
    groups = (
        make_group(keys[0], "topic", (0, 0, 0, 0)),
        make_group(keys[1], "question", (42, 7, 7, 0), oldest=3.1),
        make_group(keys[2], "answer", (18, 7, 7, 0), oldest=1.4),
        make_group(keys[3], "critique", (3, 9, 9, 0), oldest=0.3),
        make_group(keys[4], "score", (0, 4, 4, 0), ready=2),
    )
    return Frame(
        run=RUN,
        liveness="live",
        recorded=False,
        following=True,
        ordinal=11840,
        at=now,
        t0=T0,
        t1=now,
        last_ordinal=11840,
        outcome=None,
        lost_events=0,
        gaps=(),
        broken_lines=0,
        late_events=0,
        progress=Progress(
            rows_done=412,
            completed_by_column={"question": 640, "answer": 540},
            prompt_tokens=812_000,
            completion_tokens=401_000,
            requests_completed=3680,
        ),
        rows_total=1000,
        rows_per_second=9.8,
        tokens_per_second=3120.0,
        eta_seconds=60.0,
        row_groups=RowGroupProgress([4, 5], 2, 6, 4),
        bottleneck=Bottleneck(
            "Nothing is wrong: 88 % of the model slots are at work; alpha/gen-8b is the busiest.",
            "working",
            ALPHA,
            0.88,
            10.0,
        ),
        blame=(
            Share("working", 0.88),
            Share("dependency", 0.07),
            Share("task_capacity", 0.05, "submission"),
        ),
        groups=groups,
        block=None,
        limits=(
            ("submission", 27, 32),
            ("model_stage:alpha/gen-8b", 14, 16),
            ("model_stage:beta/judge-large", 13, 16),
            ("local:default", 0, 4),
        ),
        ceilings=(
            CeilingRow(
                make_ceiling(ALPHA, limit=16, in_flight=14, waiters=0),
                (16.0,) * SAMPLES,
                wave(1, 10, 16),
                (0.0,) * SAMPLES,
                (False,) * SAMPLES,
                (0,) * SAMPLES,
                (0,) * SAMPLES,
                **latencies(11, 1.9, 1.8),
            ),
            CeilingRow(
                make_ceiling(BETA, limit=16, in_flight=13, waiters=0),
                (16.0,) * SAMPLES,
                wave(2, 7, 14),
                (0.0,) * SAMPLES,
                (False,) * SAMPLES,
                (0,) * SAMPLES,
                (0,) * SAMPLES,
                **latencies(12, 2.6, 2.0),
            ),
        ),
        sample_times=tuple(now - 60 + 60 * i / SAMPLES for i in range(SAMPLES)),
        queue_depth=(
            (0.0,) * SAMPLES,
            wave(3, 20, 60),
            wave(4, 8, 30),
            wave(6, 0, 8),
            wave(7, 0, 3),
        ),
        blame_series=(
            ("working", tuple(0.88 - 0.1 * (i % 17 < 4) for i in range(SAMPLES))),
            ("dependency", tuple(0.07 + 0.1 * (i % 17 < 4) for i in range(SAMPLES))),
            ("task_capacity", (0.05,) * SAMPLES),
        ),
        bars=make_bars(now),
        events=make_events(11840, now),
        notes=(),
    )


def storm() -> Frame:
    """Live, beta answers 429: its ceiling is cut and cools down, alpha keeps its rate."""
    frame = healthy()
    now = T0 + 84.2
    limits, in_flight, waiters, cooling, marks = [], [], [], [], []
    limit, rng = 16.0, random.Random(9)
    for i in range(SAMPLES):
        hit = i in (30, 34, 41, 52, 66, 75)
        if hit:
            limit = max(1.0, limit * 0.75 // 1)
        elif i > 30 and i % 9 == 0:
            limit = min(16.0, limit + 1)
        cold = i in (31, 32, 35, 36, 42, 43, 53, 54, 67, 68, 69, 76, 77, 78, 79)
        limits.append(limit)
        in_flight.append(float(round(limit * (0.2 if cold else rng.uniform(0.85, 1.0)))))
        waiters.append(0.0 if i < 30 else min(23.0, (i - 29) * 0.9))
        cooling.append(cold)
        marks.append(1 if hit else 0)
    change = LimitChange(now - 0.8, 15_702, 9, limits_now(limits), "rate_limited", 2.0)
    beta = make_ceiling(
        BETA,
        limit=limits_now(limits),
        in_flight=1,
        waiters=23,
        wait_reason="cooldown",
        blocked_until=now + 1.2,
        soft_ceiling=9,
        consecutive_rate_limits=2,
        last_change=change,
        rate_limited=41,
        completed=1211,
    )
    keys = [column.group for column in COLUMNS]
    groups = (
        make_group(keys[0], "topic", (0, 0, 0, 0)),
        make_group(keys[1], "question", (12, 6, 6, 0), oldest=1.1),
        make_group(keys[2], "answer", (9, 8, 8, 0), oldest=0.9),
        make_group(keys[3], "critique", (61, 16, 16, 7), oldest=14.2, blocked="no_capacity"),
        make_group(keys[4], "score", (28, 8, 8, 3), oldest=11.8, blocked="group_cap"),
    )
    return replace(
        frame,
        verdicts=make_verdicts(now),
        standing=tuple(row for row in make_verdicts(now) if row.start <= now <= row.end),
        ordinal=15_710,
        last_ordinal=15_710,
        at=now,
        t1=now,
        progress=Progress(
            rows_done=520,
            rows_dropped=3,
            prompt_tokens=990_000,
            completion_tokens=500_000,
            requests_completed=4710,
            rate_limited=41,
            retries=38,
            errors={"RateLimited": 41},
        ),
        rows_per_second=4.1,
        tokens_per_second=1480.0,
        eta_seconds=117.0,
        bottleneck=Bottleneck(
            "beta/judge-large/chat cools down for 1.2 s more after a 429: 23 requests wait, "
            "1 of 16 slots is in use.",
            "request_cooldown",
            BETA,
            0.36,
            10.0,
        ),
        blame=(
            Share("working", 0.41),
            Share("request_cooldown", 0.29, BETA),
            Share("request_domain_limit", 0.17, BETA),
            Share("retry_backoff", 0.06),
            Share("dependency", 0.04),
            Share("unknown", 0.03),
        ),
        groups=groups,
        block=Block("admission_blocked", now - 1.4, 15_688, "no_capacity", 110),
        limits=(
            ("submission", 32, 32),
            ("model_stage:alpha/gen-8b", 14, 16),
            ("model_stage:beta/judge-large", 16, 16),
            ("local:default", 0, 4),
        ),
        ceilings=(
            CeilingRow(
                make_ceiling(ALPHA, limit=16, in_flight=14),
                (16.0,) * SAMPLES,
                wave(1, 10, 16),
                (0.0,) * SAMPLES,
                (False,) * SAMPLES,
                (0,) * SAMPLES,
                (0,) * SAMPLES,
                **latencies(11, 1.9, 1.8),
            ),
            CeilingRow(
                beta,
                tuple(limits),
                tuple(in_flight),
                tuple(waiters),
                tuple(cooling),
                tuple(marks),
                tuple(int(i in (44, 45, 58)) for i in range(SAMPLES)),
                **latencies(13, 2.6, 4.0),
            ),
        ),
        sample_times=tuple(now - 60 + 60 * i / SAMPLES for i in range(SAMPLES)),
        queue_depth=(
            (0.0,) * SAMPLES,
            wave(3, 5, 30),
            wave(4, 5, 20),
            tuple(min(61.0, max(2.0, (i - 28) * 1.6)) for i in range(SAMPLES)),
            tuple(min(28.0, max(0.0, (i - 34) * 0.8)) for i in range(SAMPLES)),
        ),
        blame_series=(
            ("working", tuple(0.9 if i < 30 else 0.45 for i in range(SAMPLES))),
            (
                "request_cooldown",
                tuple(0.5 if cold else 0.05 * (i > 30) for i, cold in enumerate(cooling)),
            ),
            (
                "request_domain_limit",
                tuple(0.0 if i < 31 else 0.05 if cold else 0.5 for i, cold in enumerate(cooling)),
            ),
            ("dependency", tuple(0.1 if i < 30 else 0.0 for i in range(SAMPLES))),
        ),
        bars=make_bars(now, 8),
        events=make_events(15_710, now),
        queue=make_queue(),
        aggregates=AGGREGATES,
        errors=make_failures(now),
        capacity=CAPACITY,
    )


def limits_now(limits: list[float]) -> int:
    return int(limits[-1])


def paused() -> Frame:
    """The storm, held 430 events before the newest."""
    frame = storm()
    return replace(
        frame,
        following=False,
        last_ordinal=16_140,
        t1=frame.at + 6.3,
        events=make_events(15_710, frame.at, after=120),
    )


def replaying() -> Frame:
    """A finished recording somewhere in its middle."""
    frame = storm()
    return replace(
        frame,
        liveness="ended",
        recorded=True,
        following=False,
        last_ordinal=31_402,
        t1=T0 + 163.0,
        outcome="success",
        eta_seconds=None,
        events=make_events(15_710, frame.at, after=120),
    )


def ended() -> Frame:
    """A finished recording at its end."""
    frame = healthy()
    now = T0 + 163.0
    keys = [column.group for column in COLUMNS]
    quiet = tuple(
        replace(
            row,
            ceiling=make_ceiling(row.ceiling.resource, in_flight=0, rate_limited=41),
            in_flight=tuple(
                v if i < 60 else max(0.0, v - i + 60) for i, v in enumerate(row.in_flight)
            ),
        )
        for row in frame.ceilings
    )
    return replace(
        frame,
        liveness="ended",
        recorded=True,
        ordinal=31_402,
        last_ordinal=31_402,
        at=now,
        t1=now,
        outcome="success",
        progress=Progress(
            rows_done=997,
            rows_dropped=3,
            prompt_tokens=2_100_000,
            completion_tokens=1_000_400,
            requests_completed=8112,
            rate_limited=41,
            retries=40,
            errors={"RateLimited": 40, "ValueError": 3},
        ),
        rows_per_second=0.0,
        tokens_per_second=0.0,
        eta_seconds=None,
        bottleneck=None,
        groups=tuple(
            make_group(key, column.name, (0, 0, 0, 0))
            for key, column in zip(keys, COLUMNS, strict=True)
        ),
        limits=tuple((name, 0, limit) for name, _, limit in frame.limits),
        ceilings=quiet,
        bars=tuple(
            replace(bar, end=bar.start + 1.0, result="completed", segments=())
            if bar.end is None
            else bar
            for bar in make_bars(now)
        ),
        events=make_events(31_402, now),
    )


def lost() -> Frame:
    """The producer was killed and a stretch of events is missing."""
    frame = storm()
    bars = tuple(replace(bar, result="unknown") if bar.end is None else bar for bar in frame.bars)
    return replace(
        frame,
        liveness="lost",
        lost_events=41,
        gaps=(Gap("scheduler", 7_102, 7_142, T0 + 80.0, T0 + 80.6, "shed"),),
        eta_seconds=None,
        bars=bars,
        bottleneck=Bottleneck(
            "The producer is gone; what it was doing is unknown.", "producer_gone", None, 1.0, 10.0
        ),
        blame=(
            Share("working", 0.38),
            Share("request_cooldown", 0.31, BETA),
            Share("unknown", 0.31),
        ),
        notes=(
            "The producer is gone: no end was written, 32 leases are open with an unknown end.",
            "41 scheduler events are missing between 1:20.0 and 1:20.6 (shed).",
        ),
    )


def empty() -> Frame:
    """Just started: nothing has happened yet."""
    frame = healthy()
    return replace(
        frame,
        run=RunInfo("r1", "support-dialogues", records=1000, columns=COLUMNS),
        liveness="waiting",
        ordinal=0,
        last_ordinal=0,
        at=T0,
        t1=T0,
        progress=Progress(),
        rows_per_second=None,
        tokens_per_second=None,
        eta_seconds=None,
        row_groups=RowGroupProgress(),
        bottleneck=None,
        blame=(),
        groups=(),
        limits=(),
        ceilings=(),
        sample_times=(),
        queue_depth=(),
        blame_series=(),
        bars=(),
        events=(),
    )


def behind() -> Frame:
    """Live, but read twenty seconds late."""
    return replace(storm(), lag=20.4)


def gap() -> Frame:
    """Events were shed while the disk was slow; the run goes on."""
    return replace(
        storm(),
        lost_events=41,
        gaps=(Gap("scheduler", 7_102, 7_142, T0 + 80.0, T0 + 80.6, "shed"),),
        notes=("41 events are missing in 1 place: nothing is concluded across a gap.",),
    )


def crowd() -> Frame:
    """500 groups, which are queued for in turn."""
    frame = storm()
    number = range(500)
    groups, queue = frame.groups, frame.queue
    return replace(
        frame,
        groups=tuple(
            replace(groups[n % len(groups)], key=f"g{n}", label=f"column {n}") for n in number
        ),
        queue=tuple(replace(queue[n % len(queue)], key=f"g{n}") for n in number),
        queue_depth=tuple(frame.queue_depth[n % len(frame.queue_depth)] for n in number),
    )


FRAMES = {
    "healthy": healthy,
    "storm": storm,
    "paused": paused,
    "replaying": replaying,
    "ended": ended,
    "lost": lost,
    "empty": empty,
    "behind": behind,
    "crowd": crowd,
    "gap": gap,
}
