"""A keyframe: the state as the dictionary that `plans/event-stream.md` defines, and back.

Three uses: to check the fold against the engine, to begin a fold in the middle of a stream, and to
put the fold right after events were lost.
"""

from __future__ import annotations

from typing import Any

from engine.events import RunInfo, SchedulerEvent
from replay.state.live_tasks import PackedTasks
from replay.state.model import Aggregate, Attempt, Ceiling, Group, State
from replay.state.payload import amounts, count, mapping, number, text
from replay.state.request_events import apply_pressure, ceiling_of
from replay.state.task import Task

TASK_FIELDS = (
    "task_id column row_group row task_type group phase since ready_at enqueued_at attempt "
    "resources request_resource lease_id acquired_at execution_id spawned_at retry_at"
).split()
ATTEMPT_FIELDS = (
    "attempt_id resource execution_id column phase since wait_started_at lease_id acquired_at "
    "started_at"
).split()
CEILING_FIELDS = (
    "static_cap effective_max limit in_flight waiters wait_reason blocked_until soft_ceiling "
    "consecutive_rate_limits last_outcome availability"
).split()
TASK_PHASES = frozenset(
    {"ready", "queued", "selected", "leased", "running", "finished", "deferred"}
)
ATTEMPT_PHASES = frozenset({"waiting", "leased", "in_provider", "returned"})


def to_keyframe(state: State, full: bool) -> dict[str, Any]:
    """The ledger of this instant; with `full` also every live task and attempt, by id."""
    demand: dict[str, int] = {}
    for group in state.groups.values():
        for resource, amount in group.demand.items():
            demand[resource] = demand.get(resource, 0) + amount
    groups = state.groups
    rows, progress = state.row_groups, state.progress
    keyframe: dict[str, Any] = {
        "queued_total": sum(group.queued for group in groups.values()),
        "queued_by_group": _positive({key: group.queued for key, group in groups.items()}),
        "demand_by_resource": _positive(demand),
        "limits": _positive(state.limits),
        "available": _positive(
            {name: limit - state.leased.get(name, 0) for name, limit in state.limits.items()}
        ),
        "leased": _positive(state.leased),
        "leased_by_group": _positive({key: group.leased for key, group in groups.items()}),
        "running_by_group": _positive({key: group.running for key, group in groups.items()}),
        "debt_by_group": {
            key: debt for key, group in groups.items() if (debt := _positive(group.debt))
        },
        "active_leases": sum(group.leased for group in groups.values()),
        "ready": sum(state.tasks.count_by_group("ready").values()),
        "deferred": sum(state.tasks.count_by_group("deferred").values()),
        "row_groups": _present(
            {
                "in_flight": sorted(rows.in_flight),
                "target": rows.target,
                "checkpointed": rows.checkpointed,
                "admitted": rows.admitted,
            }
        ),
        "progress": {
            "rows_done": progress.rows_done,
            "rows_dropped": progress.rows_dropped,
            "completed_by_column": _positive(progress.completed_by_column),
        },
        "release_diagnostics": _positive(state.release_diagnostics),
        "requests": {
            resource: _facts(ceiling, CEILING_FIELDS)
            for resource, ceiling in state.ceilings.items()
        },
        "aggregates": {
            key: _present(
                {
                    "static_cap": aggregate.static_cap,
                    "in_flight": aggregate.in_flight,
                    "aliases": list(aggregate.aliases),
                }
            )
            for key, aggregate in state.aggregates.items()
        },
    }
    if full:
        tasks, attempts = state.tasks, state.attempts
        keyframe["tasks"] = [_facts(tasks[name], TASK_FIELDS) for name in sorted(tasks)]
        keyframe["attempts"] = [_facts(attempts[name], ATTEMPT_FIELDS) for name in sorted(attempts)]
    return keyframe


def from_keyframe(run: RunInfo, event: SchedulerEvent, ordinal: int) -> State:
    """The state that a full keyframe describes, where nothing before it can be read.

    What a keyframe does not carry (token counts, causes of past changes) starts at nothing.
    """
    state = State(
        ordinal=ordinal,
        time=event.captured_at_monotonic,
        limits=dict(run.resource_limits),
        last_sequence={"scheduler": event.sequence},
        last_seen_at={"scheduler": event.captured_at_monotonic},
    )
    _replace(state, event.snapshot or {}, run)
    return state


def correct(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """A health snapshot: a check where nothing was lost, otherwise the truth to go on from."""
    if run.producer != "headgate":
        pressure = mapping(event.diagnostics.get("request_pressure"))
        if not state.last_sequence.get("request"):
            _correct_pressure(state, pressure)
        elif event.diagnostics.get("waits_told_late"):
            _correct_waiters(state, pressure)
    elif event.snapshot:
        if state.out_of_step:
            _replace(state, event.snapshot, run)
        else:
            # No event tells the target before the first admission.
            rows = mapping(event.snapshot.get("row_groups"))
            state.row_groups.target = count(rows.get("target"))


def _correct_waiters(state: State, pressure: dict[str, Any]) -> None:
    """Of calls that wait now the producer's events will tell when they wait no more."""
    for resource, facts in pressure.items():
        waiters = count(mapping(facts).get("waiters"))
        if resource in state.ceilings and waiters is not None:
            state.ceilings[resource].waiters = waiters


def _correct_pressure(state: State, pressure: dict[str, Any]) -> None:
    for resource, facts in pressure.items():
        if isinstance(facts, dict) and type(resource) is str:
            apply_pressure(state, ceiling_of(state, resource), facts)


def _set_debt(state: State, debts: dict[str, Any]) -> None:
    for key, group in state.groups.items():
        group.debt = amounts(debts.get(key))


def _replace(state: State, snapshot: dict[str, Any], run: RunInfo) -> None:
    state.limits = amounts(snapshot.get("limits")) or state.limits
    state.leased = amounts(snapshot.get("leased"))
    _replace_groups(state, snapshot, run)
    _set_debt(state, mapping(snapshot.get("debt_by_group")))
    facts = mapping(snapshot.get("row_groups"))
    listed = facts.get("in_flight")
    rows = state.row_groups
    rows.in_flight = (
        [number for number in listed if type(number) is int] if type(listed) is list else []
    )
    rows.target = count(facts.get("target"))
    rows.checkpointed = count(facts.get("checkpointed")) or 0
    rows.admitted = count(facts.get("admitted")) or 0
    facts = mapping(snapshot.get("progress"))
    state.progress.rows_done = count(facts.get("rows_done")) or 0
    state.progress.rows_dropped = count(facts.get("rows_dropped")) or 0
    state.progress.completed_by_column = amounts(facts.get("completed_by_column"))
    state.release_diagnostics = amounts(snapshot.get("release_diagnostics"))
    for resource, ceiling in mapping(snapshot.get("requests")).items():
        _set_ceiling(state, resource, mapping(ceiling))
    for key, content in mapping(snapshot.get("aggregates")).items():
        facts = mapping(content)
        aliases = facts.get("aliases")
        state.aggregates[key] = Aggregate(
            key,
            count(facts.get("static_cap")),
            count(facts.get("in_flight")) or 0,
            tuple(a for a in aliases if type(a) is str) if type(aliases) is list else (),
        )
    tasks, attempts = snapshot.get("tasks"), snapshot.get("attempts")
    if isinstance(tasks, list) and isinstance(attempts, list):
        _replace_live(state, tasks, attempts)
        state.out_of_step = False


def _replace_groups(state: State, snapshot: dict[str, Any], run: RunInfo) -> None:
    weights = {column.group: column.group_weight for column in run.columns}
    queued = amounts(snapshot.get("queued_by_group"))
    leased = amounts(snapshot.get("leased_by_group"))
    running = amounts(snapshot.get("running_by_group"))
    for key in (*queued, *leased, *running):
        if key not in state.groups:
            state.groups[key] = Group(key, weights.get(key, 1.0))
    for key, group in state.groups.items():
        group.queued = queued.get(key, 0)
        group.leased = leased.get(key, 0)
        group.running = running.get(key, 0)


def _set_ceiling(state: State, resource: str, facts: dict[str, Any]) -> None:
    ceiling = ceiling_of(state, resource)
    ceiling.static_cap = count(facts.get("static_cap"))
    ceiling.effective_max = count(facts.get("effective_max")) or 0
    ceiling.limit = count(facts.get("limit")) or 0
    ceiling.in_flight = count(facts.get("in_flight")) or 0
    ceiling.waiters = count(facts.get("waiters")) or 0
    ceiling.wait_reason = text(facts.get("wait_reason"))
    ceiling.blocked_until = number(facts.get("blocked_until"))
    ceiling.soft_ceiling = count(facts.get("soft_ceiling"))
    ceiling.consecutive_rate_limits = count(facts.get("consecutive_rate_limits")) or 0
    ceiling.last_outcome = text(facts.get("last_outcome"))
    ceiling.availability = text(facts.get("availability"))


def _replace_live(state: State, tasks: list[Any], attempts: list[Any]) -> None:
    """Live tasks and attempts, and what only they tell: demand and leased amounts by group."""
    old_tasks, old_attempts = state.tasks, state.attempts
    state.tasks, state.attempts = PackedTasks(), {}
    for group in state.groups.values():
        group.demand = {}
        group.leased_amounts = {}
    for entry in tasks:
        task = _task(mapping(entry), old_tasks)
        if task is None:
            continue
        state.tasks[task.task_id] = task
        group = state.groups.setdefault(task.group, Group(task.group))
        queued = task.phase == "queued" or task.phase == "selected"
        held = group.leased_amounts if task.lease_id is not None else group.demand
        if queued or task.lease_id is not None:
            for name, amount in task.resources.items():
                held[name] = held.get(name, 0) + amount
    for entry in attempts:
        facts = mapping(entry)
        attempt_id, resource = text(facts.get("attempt_id")), text(facts.get("resource"))
        phase = facts.get("phase")
        if attempt_id is None or resource is None or phase not in ATTEMPT_PHASES:
            continue
        previous = old_attempts.get(attempt_id)
        state.attempts[attempt_id] = Attempt(
            attempt_id,
            resource,
            phase,
            number(facts.get("since")) or 0.0,
            text(facts.get("execution_id")),
            text(facts.get("column")),
            number(facts.get("wait_started_at")),
            text(facts.get("lease_id")),
            number(facts.get("acquired_at")),
            number(facts.get("started_at")),
            first_ordinal=previous.first_ordinal if previous is not None else 0,
        )


def _task(facts: dict[str, Any], old: PackedTasks) -> Task | None:
    task_id, phase = text(facts.get("task_id")), facts.get("phase")
    if task_id is None or phase not in TASK_PHASES:
        return None
    column = text(facts.get("column")) or task_id.partition("/")[0]
    previous = old.get(task_id)
    task = Task(
        task_id,
        column,
        text(facts.get("group")) or column,
        phase,
        number(facts.get("since")) or 0.0,
        count(facts.get("row_group")),
        count(facts.get("row")),
        text(facts.get("task_type")) or "cell",
        number(facts.get("ready_at")),
        number(facts.get("enqueued_at")),
        count(facts.get("attempt")) or 1,
        amounts(facts.get("resources")),
        text(facts.get("request_resource")),
        text(facts.get("lease_id")),
        number(facts.get("acquired_at")),
        text(facts.get("execution_id")),
        number(facts.get("spawned_at")),
        number(facts.get("retry_at")),
    )
    if previous is not None and previous.lease_id == task.lease_id:
        task.selected_at, task.acquired_ordinal = previous.selected_at, previous.acquired_ordinal
        task.result, task.error = previous.result, previous.error
    if task.phase == "deferred":
        task.result = "deferred"
    return task


def _positive(numbers: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in numbers.items() if amount > 0}


def _present(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, 0, [], {})}


def _facts(struct: Ceiling | Task | Attempt, names: list[str]) -> dict[str, Any]:
    facts = {name: getattr(struct, name) for name in names}
    return {name: value for name, value in facts.items() if value is not None and value != {}}
