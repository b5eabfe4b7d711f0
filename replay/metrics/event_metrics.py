"""`RunPass`: one pass over the events of a run, and what it counts and times on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from engine.events import Event, RunInfo, SchedulerEvent
from replay.state.hidden_waiters import is_hidden_waiter
from replay.state.model import Group
from replay.state.reducer import begin, reduce
from replay.state.rows import AttemptRow

TASK_STAGES = (
    "dependency_ready",
    "ready_enqueued",
    "selected",
    "task_lease_acquired",
    "worker_spawned",
    "task_completed",
    "task_lease_released",
)
ATTEMPT_STAGES = (
    "request_wait_started",
    "request_wait_completed",
    "request_lease_acquired",
    "model_request_started",
    "model_request_completed",
    "request_lease_released",
)
SUBMISSION = "submission"
OWN = "headgate"
NO_REQUESTS = "the recording holds no request events"
BLOCKED = frozenset({"admission_blocked", "group_capped"})


class Measures(msgspec.Struct):
    """Samples by metric; `missing` says why one of them has none. The series are (seconds since the
    start of the run, value): rows done, and the share of task capacity that is leased."""

    samples: dict[str, list[float]]
    missing: dict[str, str]
    completion: list[tuple[float, float]]
    utilisation: list[tuple[float, float]]
    cooldowns: dict[str, list[tuple[float, float]]] = {}
    """By request resource, in monotonic seconds: from a rate limit to the end of its cooldown."""
    attempts: list[AttemptRow] = []
    outcome: str | None = None


class RunPass:
    """One pass over the events of a run."""

    def __init__(self, run: RunInfo) -> None:
        self.run = run
        self.state = begin(run)
        self._roots = {column.group for column in run.columns if not column.depends_on}
        self._columns = {column.name: bool(column.depends_on) for column in run.columns}
        self._needs: dict[str, Mapping[str, int]] = {
            column.group: column.resources for column in run.columns if column.resources
        }
        self._start: float | None = None
        self._idle_since: dict[str, float] = {}
        self._idle_gaps: list[float] = []
        self._debts: list[float] = []
        self._downstream_ready: float | None = None
        self._downstream_leased: float | None = None
        self._hidden = 0
        self._stages: dict[str, list[float]] = {}
        self._stage_names: dict[str, list[str]] = {}
        self._timeline_faults = 0
        self._rule_faults = 0
        self._leases_of_attempts: dict[str, int] = {}
        self._started_attempts: set[str] = set()
        self._answers = self._refusals = self._cuts = self._requests_seen = 0
        self._active = self._integral = self._active_at = 0.0
        self._utilisation: list[tuple[float, float]] = []
        self._completion: list[tuple[float, float]] = []
        self._cooldowns: dict[str, list[tuple[float, float]]] = {}

    def take(self, event: Event, ordinal: int) -> None:
        """Reduces one event into the state, and measures it."""
        now = event.captured_at_monotonic
        if self._start is None:
            self._start = self._active_at = now
        kind = event.event_kind
        if isinstance(event, SchedulerEvent):
            if is_hidden_waiter(self.state.tasks.get(event.task_id or ""), event):
                self._hidden += 1
            if kind == "task_lease_acquired":
                self._before_lease(event, now)
            reduce(self.state, event, ordinal, self.run)
            self._after(event, now)
        else:
            reduce(self.state, event, ordinal, self.run)
            self._request(event.request_attempt_id, kind, event.reason_or_outcome, now)
            if kind == "request_rate_limited" and event.request_resource_key is not None:
                self._cool(event.request_resource_key.label, now)

    def measures(self) -> Measures:
        """The measures of the run up to the last event."""
        state, start = self.state, self._start or 0.0
        self._close_gaps(state.time)
        self._see_active(state.time)
        wall = state.time - start
        leased = sum(group.leased for group in state.groups.values())
        own = sum(1 for count in self._leases_of_attempts.values() if count != 1)
        unleased = len(self._started_attempts - self._leases_of_attempts.keys())
        limit = state.limits.get(SUBMISSION)
        samples: dict[str, list[float]] = {
            "ready_idle_gap": self._idle_gaps,
            "root_over_admission_debt": self._debts,
            "hidden_scheduler_resource_waiters": [float(self._hidden)],
            "wall_time": [wall],
            "rows_dropped": [float(state.progress.rows_dropped)],
            "event_rule_faults": [float(self._rule_faults)],
            "open_at_the_end": [float(leased + len(state.attempts))],
        }
        missing = {
            "root_over_admission_debt": "no root work was admitted while downstream work waited",
            "ready_idle_gap": "no task was ready while capacity was free",
        }
        if self.run.producer == OWN:
            samples["timeline_faults"] = [float(self._timeline_faults)]
        else:
            missing["timeline_faults"] = "another producer has an order of its own"
        if self._requests_seen:
            samples["limit_cuts"] = [float(self._cuts)]
            samples["attempts_without_their_own_lease"] = [float(own + unleased)]
        else:
            missing |= dict.fromkeys(
                ("limit_cuts", "attempts_without_their_own_lease"), NO_REQUESTS
            )
        if limit:
            samples["active_capacity_integral"] = [self._integral / limit]
            if wall > 0:
                samples["utilisation"] = [self._integral / limit / wall]
        else:
            missing["active_capacity_integral"] = "the stream tells no limit of submission"
            missing["utilisation"] = missing["active_capacity_integral"]
        if self._answers:
            samples["rate_limited_share"] = [self._refusals / self._answers]
        else:
            missing["rate_limited_share"] = (
                "no request was answered" if self._requests_seen else NO_REQUESTS
            )
        for name, at in (
            ("time_to_first_downstream_ready", self._downstream_ready),
            ("time_to_first_downstream_dispatch", self._downstream_leased),
        ):
            if at is not None:
                samples[name] = [at - start]
            else:
                missing[name] = "no downstream task got that far"
        if self._downstream_ready is not None and self._downstream_leased is not None:
            samples["initial_idle_gap"] = [self._downstream_leased - self._downstream_ready]
        else:
            missing["initial_idle_gap"] = "no downstream task was dispatched"
        return Measures(
            samples,
            missing,
            self._completion,
            self._utilisation,
            self._cooldowns,
            outcome=state.outcome,
        )

    # Scheduler events

    def _before_lease(self, event: SchedulerEvent, now: float) -> None:
        """A lease ends every idle gap; a root's counts against its share while others wait."""
        self._close_gaps(now)
        task = self.state.tasks.get(event.task_id or "")
        if task is None:
            return
        if self._columns.get(task.column):
            if self._downstream_leased is None:
                self._downstream_leased = now
            return
        if self._downstream_ready is None:
            return
        waiting = [
            group
            for group in self.state.groups.values()
            if group.queued and group.key not in self._roots and self._within_share(group)
        ]
        if waiting:
            roots = [self.state.groups[key] for key in self._roots if key in self.state.groups]
            units = sum(group.leased_amounts.get(SUBMISSION, 0) for group in roots)
            amount = task.resources.get(SUBMISSION, 1)
            self._debts.append(max(0.0, units + amount - self._share(roots)))

    def _within_share(self, group: Group) -> bool:
        held = group.leased_amounts.get(SUBMISSION, 0)
        amount = self._needs.get(group.key, {}).get(SUBMISSION, 1)
        return self._fits(group.key) and held + amount <= self._share([group])

    def _share(self, groups: Sequence[Group]) -> float:
        """Units of submission that these groups have a right to beside all that compete."""
        competing = [group for group in self.state.groups.values() if group.queued or group.leased]
        total = sum(group.weight for group in competing)
        mine = sum(group.weight for group in groups if group.queued or group.leased)
        limit = self.state.limits.get(SUBMISSION, 0)
        return math.ceil(limit * mine / total) if total else limit

    def _fits(self, group: str) -> bool:
        needs = self._needs.get(group)
        if needs is None:
            return False
        limits, leased = self.state.limits, self.state.leased
        return all(
            limits.get(resource, 0) - leased.get(resource, 0) >= amount
            for resource, amount in needs.items()
        )

    def _after(self, event: SchedulerEvent, now: float) -> None:
        kind, state = event.event_kind, self.state
        if kind in ("task_lease_acquired", "task_lease_released", "scheduler_health_snapshot"):
            self._see_active(now)
        if kind == "queue_empty" or kind in BLOCKED:
            queued = sum(group.queued for group in state.groups.values())
            self._rule_faults += (kind == "queue_empty") == (queued > 0)
        elif kind == "dependency_ready":
            correlation = event.captured_correlation
            column = None if correlation is None else correlation.task_column
            if self._downstream_ready is None and self._columns.get(column or ""):
                self._downstream_ready = now
        elif kind == "ready_enqueued":
            task = state.tasks.get(event.task_id or "")
            if task is not None:
                self._needs.setdefault(task.group, task.resources)
        elif kind == "row_group_checkpointed" and self._start is not None:
            self._completion.append((now - self._start, float(state.progress.rows_done)))
        if event.task_id is not None:
            self._stage(event.task_id, kind, now, TASK_STAGES)
        self._open_gaps(now)

    def _see_active(self, now: float) -> None:
        self._integral += self._active * max(0.0, now - self._active_at)
        self._active_at = now
        self._active = float(self.state.leased.get(SUBMISSION, 0))
        limit = self.state.limits.get(SUBMISSION, 0)
        if limit and self._start is not None:
            self._utilisation.append((now - self._start, self._active / limit))

    def _open_gaps(self, now: float) -> None:
        for group in self.state.groups.values():
            if group.queued and self._fits(group.key):
                self._idle_since.setdefault(group.key, now)
            else:
                since = self._idle_since.pop(group.key, None)
                if since is not None:
                    self._idle_gaps.append(now - since)

    def _close_gaps(self, now: float) -> None:
        self._idle_gaps.extend(now - since for since in self._idle_since.values())
        self._idle_since.clear()

    # Timelines and requests

    def _request(self, attempt: str | None, kind: str, outcome: str | None, now: float) -> None:
        self._requests_seen += 1
        self._cuts += kind == "request_limit_decreased" and outcome == "rate_limited"
        if attempt is None:
            return
        if kind == "request_lease_acquired":
            self._leases_of_attempts[attempt] = self._leases_of_attempts.get(attempt, 0) + 1
        elif kind == "model_request_started":
            self._started_attempts.add(attempt)
        elif kind == "model_request_completed":
            self._answers += 1
            self._refusals += outcome == "rate_limited"
        self._stage(attempt, kind, now, ATTEMPT_STAGES)

    def _cool(self, resource: str, now: float) -> None:
        ceiling = self.state.ceilings.get(resource)
        if ceiling is None or ceiling.blocked_until is None:
            return
        windows = self._cooldowns.setdefault(resource, [])
        if windows and now <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(windows[-1][1], ceiling.blocked_until))
        else:
            windows.append((now, ceiling.blocked_until))

    def _stage(self, timeline_id: str, kind: str, now: float, stages: Sequence[str]) -> None:
        """Follow one task or attempt through its stages; judge it when it succeeded."""
        if kind == stages[0]:
            self._stages[timeline_id], self._stage_names[timeline_id] = [], []
        names = self._stage_names.get(timeline_id)
        if names is None or kind not in stages:
            return
        names.append(kind)
        self._stages[timeline_id].append(now)
        if kind != stages[-1]:
            return
        times = self._stages.pop(timeline_id)
        del self._stage_names[timeline_id]
        # One that was denied, or did not succeed, need not have seen them all.
        whole = stages is ATTEMPT_STAGES or "task_completed" in names
        if whole and (
            tuple(name for name in names if name != "selected") != _without_selected(stages)
            or times != sorted(times)
        ):
            self._timeline_faults += 1


def _without_selected(stages: Sequence[str]) -> tuple[str, ...]:
    """A task may be selected more than once: a stale selection comes again."""
    return tuple(name for name in stages if name != "selected")
