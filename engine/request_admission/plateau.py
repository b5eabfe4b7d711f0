"""`Plateau`: where more calls at once bring no more answers.

A provider whose queue has no bound never refuses: beyond its *knee* each further call only makes
all of them slower. The knee is what Little's law gives at the highest throughput and at the latency
without a queue (Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in
computer communications", 1979; the operating point that BBR seeks: Cardwell et al. 2016).

Latency alone does not show a queue, since answers may become longer. So it only raises a
suspicion, which an experiment decides: the limit is lowered for a while, and if as many answers
come as before, it stays lowered. Where throughput falls with it, it goes back, and no experiment
is made for a while.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

MIN_LIMIT = 8
"""A limit up to this is never lowered: so few calls make no queue worth an experiment."""
MIN_UNSUSPECTED = 16
"""The same where nothing has raised a suspicion."""
SATURATED_SHARE = 0.8
"""A limit says something of a provider while at least this share of it is in use."""
MIN_ANSWERS = 64
MAX_ANSWERS = 320
ANSWERS_PER_VARIANCE = 250.0
"""Answers that a measurement takes: more where latencies scatter (relative variance of one)."""
ROUNDS = 2
SLOWER = 1.5
"""Growth of latency, over the lowest that was measured, that raises the suspicion of a queue."""
LOWERED = 0.7
KEPT_RATE = 0.92
"""Share of the throughput that must remain for a lowered limit to stay, where nothing had raised a
suspicion; else half-way, on a logarithmic scale, between all of it and what is in proportion."""
HEADROOM = 1.35
"""The limit that is held, of the knee."""
RAISED = 1.25
GAINED_RATE = 1.1
FIRST_ROUNDS = 250
"""Rounds of calls before an experiment that nothing raised a suspicion for."""
SPACING_GROWTH = 8
FIRST_SPACING, MAX_SPACING = 4, 32
"""Measurements between two experiments with a higher limit."""
START_ROUNDS = 1.5
START_GAIN = 1.45
"""A doubled limit of the slow start must bring so much more throughput, or cost no latency."""


class Measure(NamedTuple):
    """What a limit gave: answers a second, and seconds of a call."""

    limit: int
    rate: float
    latency: float


class _Meter:
    """Measures one limit, from a round of calls after it was set."""

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._skipped = 0
        self._began = now
        self._count = 0
        self._sum = self._squares = 0.0

    def note(self, now: float, seconds: float) -> Measure | None:
        """A call was answered; the measure, once there are enough."""
        if self._skipped < self.limit:
            self._skipped += 1
            self._began = now
            return None
        self._count += 1
        self._sum += seconds
        self._squares += seconds * seconds
        if self._count < self._wanted() or now <= self._began:
            return None
        measure = Measure(self.limit, self._count / (now - self._began), self._sum / self._count)
        self._skipped, self._count = self.limit, 0
        self._sum = self._squares = 0.0
        self._began = now
        return measure

    def _wanted(self) -> float:
        least = max(MIN_ANSWERS, ROUNDS * self.limit)
        if self._count < least:
            return least
        mean = self._sum / self._count
        variance = max(0.0, self._squares / self._count - mean * mean) / (mean * mean or 1.0)
        return max(least, min(MAX_ANSWERS, ANSWERS_PER_VARIANCE * variance))


class Plateau:
    """Finds the bound of one resource. `bound` is None where more calls bring more answers."""

    def __init__(self, now: float) -> None:
        self.bound: int | None = None
        self._state: Literal["free", "lowering", "held", "raising"] = "free"
        self._meter = _Meter(0, 0.0)
        self._base: float | None = None
        """Lowest mean latency that was measured."""
        self._before: Measure | None = None
        """What the limit gave before the present experiment."""
        self._first: Measure | None = None
        """What it gave before the first of the experiments in a row."""
        self._accepted = 0
        self._best_rate = 0.0
        self._rates: list[float] = []
        self._suspected = False
        self._doubted: Measure | None = None
        """The first of two measurements of a limit that seems too low."""
        self._answers = 0
        self._next_rounds = FIRST_ROUNDS
        self._measures = 0
        self._spacing = FIRST_SPACING
        self._doubled: Measure | None = None
        self._start_count, self._start_sum, self._start_began = 0, 0.0, now
        self._burst: dict[int, float] = {}
        """Seconds of the first calls, by the order in which they went out."""
        self.refuses = False
        """The provider refuses what goes beyond its capacity, so that no line forms there."""

    def on_answered(self, now: float, seconds: float, limit: int, in_flight: int) -> bool:
        """A call was answered after so many seconds; returns whether `bound` has changed.

        Args:
            now: Monotonic seconds.
            seconds: Of the call.
            limit: The limit that it ended under.
            in_flight: Calls at once when it ended, itself included.
        """
        if limit != self._meter.limit or in_flight < SATURATED_SHARE * limit:
            moved = limit != self._meter.limit and limit != self.bound
            if moved and self._state in ("lowering", "raising"):
                self._give_up()
            self._meter = _Meter(limit, now)
            return False
        self._answers += 1
        measure = self._meter.note(now, seconds)
        if measure is None:
            return False
        before = self.bound
        if self._state == "free":
            self._when_free(measure)
        elif self._state == "lowering":
            self._when_lowered(measure)
        elif self._state == "held":
            self._when_held(measure)
        else:
            self._when_raised(measure)
        return self.bound != before

    def note_first(self, number: int, limit: int, seconds: float) -> None:
        """The call of that number, from 0, was answered. The first calls go out all at once: where
        the last of them wait longer than the first, they stood in a line.

        Args:
            number: In the order in which calls went out.
            limit: As many of them went out at once.
            seconds: Of the call.
        """
        if number >= limit or limit <= MIN_LIMIT:
            return
        self._burst[number] = seconds
        if len(self._burst) < limit:
            return
        part = limit // 4
        times = [self._burst[number] for number in sorted(self._burst)]
        first, last = sum(times[:part]) / part, sum(times[-part:]) / part
        if last >= SLOWER * first:
            self._base = first if self._base is None else min(first, self._base)

    def note_start(self, seconds: float) -> None:
        """A call of the slow start was answered after so many seconds."""
        self._start_count += 1
        self._start_sum += seconds

    def allows_doubling(self, now: float, limit: int) -> bool:
        """Whether the slow start goes on from this limit: the last doubling brought more answers,
        or cost no latency. Otherwise experiments begin at this limit."""
        count, span = self._start_count, now - self._start_began
        measure = Measure(limit, count / max(span, 1e-9), self._start_sum / max(1, count))
        last, self._doubled = self._doubled, measure
        self._start_count, self._start_sum, self._start_began = 0, 0.0, now
        if (
            last is None
            or measure.latency < SLOWER * last.latency
            or measure.rate >= START_GAIN * last.rate
        ):
            return True
        self._base = last.latency
        self._begin(measure, True)
        return False

    def start_is_over(self, limit: int) -> bool:
        """Whether a round of calls at the last limit of the slow start has been answered."""
        return self._start_count >= START_ROUNDS * limit

    def _when_free(self, measure: Measure) -> None:
        base = self._base
        self._base = measure.latency if base is None else min(base, measure.latency)
        if measure.limit <= MIN_LIMIT:
            return
        suspected = measure.latency >= SLOWER * self._base
        due = (
            not self.refuses
            and measure.limit > MIN_UNSUSPECTED
            and self._answers >= self._next_rounds * measure.limit
        )
        if suspected or due:
            self._begin(measure, suspected)

    def _begin(self, measure: Measure, suspected: bool) -> None:
        self._first = measure
        self._suspected = suspected
        self._best_rate = measure.rate
        self._rates = [measure.rate]
        self._lower(measure)

    def _lower(self, measure: Measure) -> None:
        base = measure.latency if self._base is None else self._base
        knee = HEADROOM * self._best_rate * base
        target = min(LOWERED * measure.limit, max(knee, 0.5 * measure.limit))
        self._accepted = measure.limit
        self._before = measure
        self._set("lowering", max(MIN_LIMIT, math.ceil(target)))
        if self.bound == measure.limit:
            self._hold(measure.limit)

    def _when_lowered(self, measure: Measure) -> None:
        assert self._first is not None
        base = measure.latency if self._base is None else self._base
        self._base = min(base, measure.latency)
        doubted, self._doubted = self._doubted, None
        if doubted is not None:
            measure = Measure(
                measure.limit,
                0.5 * (measure.rate + doubted.rate),
                0.5 * (measure.latency + doubted.latency),
            )
            self._doubted = doubted
        kept = math.sqrt(measure.limit / self._accepted) if self._suspected else KEPT_RATE
        if measure.rate >= kept * self._best_rate:
            self._suspected = True
            self._rates.append(measure.rate)
            self._best_rate = sum(self._rates) / len(self._rates)
            self._lower(measure)
            return
        if self._doubted is None:
            self._doubted = measure
            return
        if self._accepted == self._first.limit:
            self._give_up()
            return
        knee = self._best_rate * measure.latency
        self._hold(min(self._accepted, max(measure.limit, math.ceil(HEADROOM * knee))))

    def _give_up(self) -> None:
        """There is no plateau: more calls bring more answers."""
        if self._first is not None:
            self._base = self._first.latency
        self._first = None
        self._answers = 0
        self._next_rounds *= SPACING_GROWTH
        self._set("free", None)

    def _hold(self, bound: int) -> None:
        self._measures = 0
        self._spacing = FIRST_SPACING
        self._set("held", bound)

    def _when_held(self, measure: Measure) -> None:
        self._measures += 1
        base = measure.latency if self._base is None else self._base
        if measure.latency >= SLOWER * HEADROOM * base and measure.limit > MIN_LIMIT:
            self._begin(measure, True)
        elif self._measures >= self._spacing:
            self._measures = 0
            self._before = measure
            self._set("raising", math.ceil(RAISED * measure.limit))

    def _when_raised(self, measure: Measure) -> None:
        assert self._before is not None
        if measure.rate >= GAINED_RATE * self._before.rate:
            self._best_rate = measure.rate
            self._before = measure
            self._spacing = FIRST_SPACING
            self._set("raising", math.ceil(RAISED * measure.limit))
            return
        self._spacing = min(2 * self._spacing, MAX_SPACING)
        self._set("held", self._before.limit)

    def _set(
        self, state: Literal["free", "lowering", "held", "raising"], bound: int | None
    ) -> None:
        self._state = state
        self._doubted = None
        self.bound = bound
