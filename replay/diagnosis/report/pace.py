"""What bounds a run: the endpoint or setting whose saturation sets its pace, also of a healthy one.

A second counts as saturated for an endpoint if at least half of its slots in demand were in use,
and nine tenths were in use or about to be: a slot that was given back is taken by the next call
only once the scheduler and the client have come to it. What is longest saturated bounds the run; a
limit that is hardly ever reached does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.events import RunInfo
from replay.diagnosis.verdicts import MODEL_SLOTS, WORKING, model_of
from replay.diagnosis.verdicts.words import duration_text, enumeration
from replay.state.model import Ceiling, State
from replay.state.rows import BlameRow

SATURATED = 0.9
"""Part of an endpoint's slots in use from which it is saturated."""
SETS_THE_PACE = 0.5
"""Part of the run from which what is saturated bounds it."""
NOTABLE = 0.2
FEW_CALLS = 2
"""A cap of so many calls at a time is worth a look even where all is well."""
_BUSY = frozenset({WORKING, "provider_latency"})
_STOOD = frozenset({"event_loop_lag", "process_stopped"})
LEAST_STOOD = 0.05
_TURNING_OVER = frozenset(
    {"task_capacity", "queue_order", "request_waiters_ahead", "request_aggregate_cap", "group_cap"}
)
"""What keeps a slot idle between two calls while others wait for it."""
HALF = 0.5
STANDS_OUT = 3.0
"""An endpoint is told to be the slowest whose calls take so many times as long as others'."""
_NOT_WAITING = frozenset({WORKING, "provider_latency", "unknown"})


@dataclass(frozen=True, slots=True)
class Slowest:
    """The endpoint whose calls take far longer than those to others, and most of all their time."""

    model: str
    """Provider and model."""
    seconds: float
    """What a call to it takes on average."""
    other: str
    """The next slowest."""
    other_seconds: float
    by_tasks: bool = False
    """The times are those of tasks."""

    def sentence(self) -> str:
        what = "a task that calls it" if self.by_tasks else "a call"
        return (
            f"The slowest endpoint is {self.model}: {what}"
            f" takes {duration_text(self.seconds)} on average"
            f" ({duration_text(self.other_seconds)} at {self.other}), and what depends on it waits"
            " as long."
        )


@dataclass(frozen=True, slots=True)
class Bound:
    """The endpoint that was saturated longest."""

    model: str
    """Provider and model."""
    cap: int
    """Calls that it may have at a time."""
    source: str
    """Where the cap comes from, for people."""
    saturated: float
    """Part of the time that the run took, in which its slots were in use."""
    waiting: float
    """Part of all waiting of cells that was for it."""
    advice: str
    in_part: bool = False
    """For part of the time it is not known, as the producer's own process did not run."""

    @property
    def sets_the_pace(self) -> bool:
        return self.saturated >= SETS_THE_PACE

    def sentence(self) -> str:
        calls = (
            "its 1 call at a time was" if self.cap == 1 else f"its {self.cap} calls at a time were"
        )
        use = f"{calls} in use for {_percent(self.saturated)} of the time"
        use += " in which the run's own process ran" if self.in_part else ""
        source = f" ({self.source})" if self.source else ""
        waiting = (
            f", and {_percent(self.waiting)} of all waiting was for it"
            if self.waiting >= 0.005
            else ""
        )
        if self.sets_the_pace:
            text = f"{self.model} sets the pace: {use}{waiting}{source}."
            return f"{text} {self.advice}" if self.advice else text
        text = f"No limit set the pace for most of the time; {self.model} came closest: {use}"
        text += f"{waiting}." if self.waiting >= HALF else "."
        return f"{text} {self.advice}" if self.advice and self.waiting >= HALF else text


def find_bound(
    run: RunInfo, state: State, run_rows: Iterable[BlameRow], cell_rows: Iterable[BlameRow]
) -> Bound | None:
    """What bounds the run by its blame; None where no endpoint has a known number of slots.

    Args:
        run: The run.
        state: Its state at the end of the time in question.
        run_rows: Blame of slots in that time.
        cell_rows: Blame of cells in that time.
    """
    slots = {name: ceiling.effective_max for name, ceiling in state.ceilings.items()}
    slots = {name: number for name, number in slots.items() if number > 0}
    if not slots:
        return None
    elapsed, saturated, in_part = _saturation(run_rows, slots)
    if elapsed <= 0.0 or not saturated:
        return None
    resource = max(saturated, key=lambda name: (saturated[name], name))
    model = model_of(resource)
    waiting = _waiting_by_model(run, cell_rows)
    all_waiting = sum(waiting.values())
    cap = slots[resource]
    source, advice = _source(state, resource, cap)
    return Bound(
        model,
        cap,
        source,
        min(1.0, saturated[resource] / elapsed),
        waiting.get(model, 0.0) / all_waiting if all_waiting > 0 else 0.0,
        advice if _is_well(state.ceilings[resource]) else "",
        in_part,
    )


def _is_well(ceiling: Ceiling) -> bool:
    """More calls at a time would be answered as well."""
    return ceiling.rate_limited == 0 and ceiling.failed == 0 and ceiling.availability is None


def find_slowest(run: RunInfo, state: State) -> Slowest | None:
    """The endpoint that stands out by the time of its calls so far; None where none does.

    Where no event tells of calls, by the time of the tasks that make them.
    """
    spent: dict[str, float] = {}
    calls: dict[str, int] = {}
    for name, ceiling in sorted(state.ceilings.items()):
        if ceiling.completed and ceiling.call_seconds > 0.0:
            model = model_of(name)
            spent[model] = spent.get(model, 0.0) + ceiling.call_seconds
            calls[model] = calls.get(model, 0) + ceiling.completed
    by_tasks = not spent
    for column in run.columns if by_tasks else ():
        tasks = state.progress.completed_by_column.get(column.name, 0)
        if tasks and column.request_resource:
            model = model_of(column.request_resource)
            seconds = state.progress.seconds_by_column.get(column.name, 0.0)
            spent[model] = spent.get(model, 0.0) + seconds
            calls[model] = calls.get(model, 0) + tasks
    means = sorted((spent[model] / calls[model], model) for model in spent)
    if len(means) < 2:
        return None
    (other_seconds, other), (seconds, model) = means[-2:]
    if (
        other_seconds <= 0.0
        or seconds < STANDS_OUT * other_seconds
        or spent[model] < HALF * sum(spent.values())
    ):
        return None
    return Slowest(model, seconds, other, other_seconds, by_tasks)


def _saturation(
    rows: Iterable[BlameRow], slots: dict[str, int]
) -> tuple[float, dict[str, float], bool]:
    """Seconds that the run took, and those in which each resource was saturated.

    Time in which the producer's process did not run is left out; the last value says whether that
    is a notable part.
    """
    stood = ran = 0.0
    whole = sum(slots.values())
    demand: dict[int, dict[str, float]] = {}
    busy: dict[int, dict[str, float]] = {}
    turning: dict[int, dict[str, float]] = {}
    for row in rows:
        if row.verdict in _STOOD:
            stood += row.seconds
            continue
        ran += row.seconds
        for number in range(row.bin, row.bin + row.bins):
            wanted = demand.setdefault(number, {})
            wanted[row.resource] = wanted.get(row.resource, 0.0) + row.per_bin
            if row.verdict in _BUSY:
                used = busy.setdefault(number, {})
                used[row.resource] = used.get(row.resource, 0.0) + row.per_bin
            elif row.verdict in _TURNING_OVER:
                turned = turning.setdefault(number, {})
                turned[row.resource] = turned.get(row.resource, 0.0) + row.per_bin
    elapsed = 0.0
    saturated: dict[str, float] = {}
    for number, wanted in demand.items():
        seconds = {
            name: min(1.0, amount / (slots.get(name, whole) or 1))
            for name, amount in wanted.items()
        }
        elapsed += max(seconds.values(), default=0.0)
        for name, worked in busy.get(number, {}).items():
            full = worked + turning.get(number, {}).get(name, 0.0)
            if name not in slots or worked < HALF * wanted[name]:
                continue
            if full >= SATURATED * wanted[name]:
                saturated[name] = saturated.get(name, 0.0) + full / slots[name]
    return elapsed, saturated, stood > LEAST_STOOD * (stood + ran)


def _waiting_by_model(run: RunInfo, rows: Iterable[BlameRow]) -> dict[str, float]:
    """Seconds that cells waited, by the model that they waited for ("" for anything else)."""
    calls = {column.name: model_of(column.request_resource or "") for column in run.columns}
    waiting: dict[str, float] = {}
    for row in rows:
        if row.verdict in _NOT_WAITING:
            continue
        if row.resource.startswith(MODEL_SLOTS):
            model = row.resource.partition(":")[2]
        elif "/" in row.resource:
            model = model_of(row.resource)
        else:
            model = calls.get(row.column, "") if row.verdict == "queue_order" else ""
        waiting[model] = waiting.get(model, 0.0) + row.seconds
    return waiting


def _source(state: State, resource: str, cap: int) -> tuple[str, str]:
    """Where the cap of a resource comes from, and what could be changed about it."""
    ceiling = state.ceilings[resource]
    aggregate = state.aggregates.get(ceiling.provider_model)
    caps = {} if aggregate is None else aggregate.raw_caps
    model = model_of(resource)
    if not caps:
        few = f"Raise max_parallel_requests of {model}, if its provider can take more."
        return "max_parallel_requests", few if cap <= FEW_CALLS else ""
    lowest = min(caps.values())
    low = sorted(alias for alias, own in caps.items() if own == lowest)
    if lowest < max(caps.values()):
        listed = enumeration([f"{alias} {caps[alias]}" for alias in sorted(caps)])
        return (
            f"max_parallel_requests: {listed}; all of them are this model, and the lowest holds for"
            " all",
            f"Raise max_parallel_requests of {enumeration(low)}, if its provider can take more.",
        )
    names = enumeration(low)
    few = f"Raise max_parallel_requests of {names}, if its provider can take more."
    return f"max_parallel_requests of {names}", few if cap <= FEW_CALLS else ""


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
