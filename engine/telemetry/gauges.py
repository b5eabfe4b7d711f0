"""`Gauges`: the last keyframe of a run as observations.

The keyframe is the ledger of the engine itself, at most a second old, and read only when metrics
are collected. Gauges therefore cost a run nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.metrics import Meter, Observation

from engine.events import RunInfo, SchedulerEvent
from engine.telemetry import conventions as names
from engine.telemetry import instruments
from engine.telemetry.labels import Labels


class Gauges:
    """Registers the gauges of a run with `meter`; `take` and `drift` set what they show."""

    def __init__(self, meter: Meter, run: RunInfo, labels: Labels) -> None:
        self._labels = labels
        self._algorithm = _algorithm(run)
        self._snapshot: Mapping[str, Any] = {}
        self._at = 0.0
        self._drift = 0.0
        for instrument, observe in (
            (instruments.TASKS_QUEUED, lambda: self._number("queued_total")),
            (instruments.TASKS_DEFERRED, lambda: self._number("deferred")),
            (instruments.ROW_GROUPS, self._row_groups),
            (instruments.LEASED, lambda: self._by_kind("leased")),
            (instruments.LIMIT, lambda: self._by_kind("limits")),
            (instruments.REQUESTS_IN_FLIGHT, lambda: self._by_request("in_flight")),
            (instruments.REQUESTS_WAITING, lambda: self._by_request("waiters")),
            (instruments.REQUEST_LIMIT, self._limits),
            (instruments.REQUEST_LIMIT_MAXIMUM, lambda: self._by_request("effective_max")),
            (instruments.COOLDOWN, self._cooldowns),
            (instruments.LOOP_DRIFT, lambda: [Observation(self._drift)]),
        ):
            instruments.observed(meter, instrument, observe)

    def take(self, keyframe: SchedulerEvent) -> None:
        self._snapshot = keyframe.snapshot or {}
        self._at = keyframe.captured_at_monotonic

    def drift(self, heartbeat: SchedulerEvent) -> None:
        self._drift = _amount(heartbeat.diagnostics.get("drift"))

    def _number(self, name: str) -> list[Observation]:
        return [Observation(_amount(self._snapshot.get(name)))]

    def _row_groups(self) -> list[Observation]:
        listed = _mapping(self._snapshot.get("row_groups")).get("in_flight")
        return [Observation(len(listed) if isinstance(listed, list) else 0)]

    def _by_kind(self, name: str) -> list[Observation]:
        """Sums over the resources of a kind; a kind with a limit is shown also while unused."""
        sums: dict[str, float] = {}
        for resource in _mapping(self._snapshot.get("limits")):
            sums.setdefault(self._labels.resource_kind(resource), 0)
        for resource, amount in _mapping(self._snapshot.get(name)).items():
            kind = self._labels.resource_kind(resource)
            sums[kind] = sums.get(kind, 0) + _amount(amount)
        return [Observation(total, {names.RESOURCE_KIND: kind}) for kind, total in sums.items()]

    def _by_request(self, field: str) -> list[Observation]:
        return self._summed(
            (facts, _amount(ceiling.get(field))) for facts, ceiling in self._ceilings()
        )

    def _limits(self) -> list[Observation]:
        extra = {names.ALGORITHM: self._algorithm} if self._algorithm else {}
        return self._summed(
            (facts | extra, _amount(ceiling.get("limit"))) for facts, ceiling in self._ceilings()
        )

    def _cooldowns(self) -> list[Observation]:
        """The longest, where several resources have the same labels."""
        longest: dict[tuple[tuple[str, str], ...], float] = {}
        for facts, ceiling in self._ceilings():
            left = max(0.0, _amount(ceiling.get("blocked_until")) - self._at)
            key = tuple(facts.items())
            longest[key] = max(longest.get(key, 0.0), left)
        return [Observation(left, dict(key)) for key, left in longest.items()]

    def _ceilings(self) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
        for label, ceiling in _mapping(self._snapshot.get("requests")).items():
            yield self._labels.of_label(label).request, _mapping(ceiling)

    @staticmethod
    def _summed(amounts: Iterator[tuple[dict[str, str], float]]) -> list[Observation]:
        sums: dict[tuple[tuple[str, str], ...], float] = {}
        for facts, amount in amounts:
            key = tuple(facts.items())
            sums[key] = sums.get(key, 0) + amount
        return [Observation(total, dict(key)) for key, total in sums.items()]


def _algorithm(run: RunInfo) -> str | None:
    """How ceilings recover: one of the engine's policies; None of another producer."""
    configured = _mapping(run.capacity_plan.get("configured")).get("request_admission_config")
    recovery = _mapping(_mapping(configured).get("value")).get("recovery")
    return recovery if recovery in ("published", "adaptive") else None


def _amount(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
