"""The pictures of a run: ceilings, queue depth, blame. Each is read at a bounded width."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from replay.diagnosis.verdicts import UNKNOWN, WORKING, clock, phrase
from replay.export.svg import PALETTE, WIDTH, Picture, steps
from replay.recording.query import RecordingQuery

BUCKETS = 240
"""Columns of a chart at most; several seconds share one where the run is longer."""
KEYS_SHOWN = 7
LEAST_NAMED = 0.0005
"""Of all: a smaller part has no name in a legend of shares."""
LEFT, RIGHT = 56.0, 16.0
ACROSS = WIDTH - LEFT - RIGHT
OWN_COLOURS = {WORKING: PALETTE[2], UNKNOWN: "#9a9a9a"}
OTHERS = PALETTE[7]
_SHARED = (*PALETTE[:2], *PALETTE[3:7])


class _Time:
    """Seconds of the run across the picture, and the buckets they fall into."""

    def __init__(self, query: RecordingQuery) -> None:
        ((seconds, first),) = query.run(
            "SELECT seconds, (SELECT coalesce(min(t), 0) FROM series) FROM run"
        )[1]
        self.first = first
        self.end = max(float(seconds), 1e-3)
        self.width = max(1, math.ceil(self.end / BUCKETS))

    @property
    def bucket(self) -> str:
        """SQL for the begin of the bucket that holds `t`."""
        return f"{self.first!r} + {self.width} * floor((t - {self.first!r} + 0.5) / {self.width})"

    def x(self, t: float) -> float:
        return LEFT + ACROSS * min(max(t, 0.0), self.end) / self.end

    def axis(self, picture: Picture, top: float, bottom: float) -> None:
        step = _round_step(self.end / 8)
        for nth in range(int(self.end / step) + 1):
            x = self.x(nth * step)
            picture.line([(x, top), (x, bottom)], None, "grid")
            picture.text(x, bottom + 14, _axis_label(nth * step), "small middle")


def ceilings(query: RecordingQuery) -> Picture:
    """A panel for each request resource: the limit over what is in flight; cooldowns shaded."""
    time = _Time(query)
    picture = Picture("Ceilings")
    title = "Ceilings: limit (line), in flight (filled), waiting (dashed), cooldown (shaded)"
    picture.text(LEFT, 22, title, "title")
    top = 40.0
    rows = _table(
        query,
        f"""SELECT resource, {time.bucket} AS begun, min(ceiling), avg(in_flight), avg(waiters),
            max(cooling), sum(rate_limited), max(effective_max)
        FROM ceilings GROUP BY ALL ORDER BY resource, begun""",
    )
    resources = list(dict.fromkeys(row[0] for row in rows))
    if not resources:
        picture.text(LEFT, top + 14, "This recording has no ceilings.", "small")
        top += 30
    for resource in resources:
        mine = [row for row in rows if row[0] == resource]
        top = _ceiling_panel(picture, time, resource, mine, top)
    picture.height = top
    return picture


def _ceiling_panel(
    picture: Picture, time: _Time, resource: str, rows: Sequence[Any], top: float
) -> float:
    high = max(1.0, *(value or 0.0 for row in rows for value in (row[2], row[3], row[4], row[7])))
    floor, height = top + 110, 90.0

    def y(value: float | None) -> float:
        return floor - height * (value or 0.0) / high

    limited = int(sum(row[6] or 0 for row in rows))
    note = f", {limited:,} answers 429" if limited else ""
    picture.text(LEFT, top + 12, f"{resource}{note}")
    time.axis(picture, floor - height, floor)
    for _, at, _, _, _, cooling, _, _ in rows:
        if cooling:
            width = time.x(at + time.width) - time.x(at)
            picture.box(
                time.x(at), floor - height, width, height, PALETTE[5], 0.06 + 0.16 * cooling
            )
    for value in (0.0, high):
        picture.text(LEFT - 6, y(value) + 4, f"{value:.0f}", "small end")
    in_flight = steps([(time.x(row[1]), y(row[3])) for row in rows], time.x(time.end))
    picture.area(in_flight, floor, PALETTE[0], 0.3)
    waiters = [(time.x(row[1]), y(row[4])) for row in rows]
    if any(row[4] for row in rows):
        picture.line(steps(waiters, time.x(time.end)), PALETTE[3], "line dash")
    limits = [(time.x(row[1]), y(row[2])) for row in rows if row[2] is not None]
    picture.line(steps(limits, time.x(time.end)), PALETTE[0])
    return floor + 28


def queue_depth(query: RecordingQuery) -> Picture:
    """Tasks waiting in the queue, stacked by group."""
    time = _Time(query)
    rows = _table(
        query,
        f"""SELECT key, {time.bucket} AS begun, sum(mean) / {time.width}
        FROM series WHERE series = 'queue_depth' GROUP BY ALL ORDER BY begun, key""",
    )
    return _stack(time, "Queue depth by group", rows, {}, "Nothing was ever queued.")


def blame(query: RecordingQuery) -> Picture:
    """Where the request slots in demand went: as one bar, and over time."""
    time = _Time(query)
    rows = _table(
        query,
        f"""SELECT verdict, {time.bucket} AS begun, sum(seconds) / {time.width}
        FROM blame WHERE scope = 'run' GROUP BY ALL ORDER BY begun, verdict""",
    )
    picture = _stack(
        time, "Blame: request slots in demand", rows, OWN_COLOURS, "There was no demand.", bar=True
    )
    picture.title = "Blame"
    return picture


def _stack(
    time: _Time,
    title: str,
    rows: Sequence[tuple[str, float, float]],
    colours: dict[str, str],
    nothing: str,
    bar: bool = False,
) -> Picture:
    """Amounts by key on top of each other; the largest keys by name, the others together."""
    picture = Picture(title)
    picture.text(LEFT, 22, title, "title")
    totals: dict[str, float] = {}
    for key, _, amount in rows:
        totals[key] = totals.get(key, 0.0) + amount
    whole = sum(totals.values())
    if whole <= 0:
        picture.text(LEFT, 54, nothing, "small")
        picture.height = 70
        return picture
    order = sorted(totals, key=lambda key: (key != WORKING, -totals[key], key))
    named = order[:KEYS_SHOWN]
    shared = iter(PALETTE[:7] if not colours else (*_SHARED, OTHERS))
    paint = {key: colours.get(key) or next(shared) for key in named}
    groups = [*named, ""] if len(order) > KEYS_SHOWN else named
    top = 36.0
    if bar:
        x = LEFT
        for key in groups:
            part = sum(totals[name] for name in _members(key, named, order)) / whole
            picture.box(x, top, ACROSS * part, 24, paint.get(key, OTHERS))
            if part >= 0.05:
                picture.text(x + ACROSS * part / 2, top + 16, f"{100 * part:.0f} %", "on middle")
            x += ACROSS * part
        top += 36
    top = _legend(picture, groups, paint, totals, named, order, whole if bar else None, top)
    return _layers(picture, time, rows, groups, named, paint, top)


def _layers(
    picture: Picture,
    time: _Time,
    rows: Sequence[tuple[str, float, float]],
    groups: Sequence[str],
    named: Sequence[str],
    paint: dict[str, str],
    top: float,
) -> Picture:
    columns: dict[float, dict[str, float]] = {}
    for key, at, amount in rows:
        at_once = columns.setdefault(at, {})
        group = key if key in named else ""
        at_once[group] = at_once.get(group, 0.0) + amount
    high = max(1e-9, *(sum(amounts.values()) for amounts in columns.values()))
    floor, height = top + 150.0, 140.0
    time.axis(picture, floor - height, floor)
    picture.text(
        LEFT - 6, floor - height + 4, f"{high:,.0f}" if high >= 10 else f"{high:.1f}", "small end"
    )
    picture.text(LEFT - 6, floor + 4, "0", "small end")
    for at, amounts in columns.items():
        y = floor
        left, right = time.x(at), time.x(at + time.width)
        for group in groups:
            tall = height * amounts.get(group, 0.0) / high
            if tall > 0:
                picture.box(left, y - tall, right - left + 0.1, tall, paint.get(group, OTHERS))
                y -= tall
    picture.height = floor + 30
    return picture


def _legend(
    picture: Picture,
    groups: Sequence[str],
    paint: dict[str, str],
    totals: dict[str, float],
    named: Sequence[str],
    order: Sequence[str],
    whole: float | None,
    top: float,
) -> float:
    x = LEFT
    for key in groups:
        words = phrase(key) if whole is not None else key
        label = words if key else f"{len(order) - len(named)} more"
        if whole is not None:
            part = sum(totals[name] for name in _members(key, named, order)) / whole
            if part < LEAST_NAMED:
                continue
            label += f" {100 * part:.1f} %"
        wide = 24 + 6.6 * len(label)
        if x > LEFT and x + wide > WIDTH - RIGHT:
            x, top = LEFT, top + 18
        picture.box(x, top, 10, 10, paint.get(key, OTHERS))
        picture.text(x + 15, top + 9, label)
        x += wide
    return top + 22


def _members(key: str, named: Sequence[str], order: Sequence[str]) -> list[str]:
    return [key] if key else [name for name in order if name not in named]


def _table(query: RecordingQuery, sql: str) -> list[Any]:
    return list(query.run(sql)[1])


def _round_step(least: float) -> float:
    """The next round number of seconds, minutes or hours."""
    for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600):
        if step >= least:
            return step
    return 3600 * math.ceil(least / 3600)


def _axis_label(seconds: float) -> str:
    return clock(seconds, tenths=False) if seconds == round(seconds) else f"{seconds:.3g} s"


PICTURES: dict[str, Callable[[RecordingQuery], Picture]] = {
    "ceilings": ceilings,
    "queue": queue_depth,
    "blame": blame,
}
