"""Checks at keyframes: is the fold the engine's own ledger, is debt within what is leased?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.events import RunInfo, SchedulerEvent
from replay.state.keyframe import to_keyframe
from replay.state.model import State
from replay.state.payload import amounts, count, mapping
from replay.verify.rules import RuleBook

FOREIGN_PARTS = (
    "queued_total queued_by_group demand_by_resource limits available leased leased_by_group "
    "active_leases"
).split()
"""What a foreign keyframe and its events both tell."""
DIFFERENCES_SHOWN = 3


class KeyframeChecks:
    """Compares the state with the engine's own numbers in each keyframe."""

    def __init__(self, book: RuleBook, run: RunInfo) -> None:
        self._book = book
        self.run = run
        self.compared = 0

    def check(self, state: State, event: SchedulerEvent) -> None:
        """Sees the state before the keyframe may correct it."""
        snapshot = event.snapshot
        if not snapshot:
            return
        self.compared += 1
        self.debt(state, event, snapshot.get("debt_by_group"))
        self._ceilings(snapshot, event)
        folded = to_keyframe(state, "tasks" in snapshot)
        recorded = snapshot
        if self._book.foreign:
            recorded = {
                name: _positive(snapshot[name]) for name in FOREIGN_PARTS if name in snapshot
            }
            folded = {name: folded[name] for name in recorded}
        if recorded == folded:
            return
        for part in recorded.keys() - folded.keys():
            self._book.mark_unchecked("keyframes", f"no event tells of {part}")
        for part in folded.keys() | recorded.keys():
            if part not in folded:
                continue
            engine, fold = recorded.get(part), folded[part]
            if part == "row_groups":
                engine, fold = _without_target(engine, state), _without_target(fold, state)
            if engine == fold:
                continue
            differences = list(_differences(part, engine, fold))
            sentence = "; ".join(differences[:DIFFERENCES_SHOWN])
            if len(differences) > DIFFERENCES_SHOWN:
                sentence += f"; and {len(differences) - DIFFERENCES_SHOWN} more"
            self._book.report("keyframes", f"another {part}", sentence)

    def debt(self, state: State, event: SchedulerEvent, recorded: Any) -> None:
        """`recorded` is {group: {resource: units owed}}; the state is that after the event."""
        self._book.looked_at["debt"] += 1
        for name, debts in mapping(recorded).items():
            group = state.groups.get(name)
            leased = {} if group is None else group.leased_amounts
            for resource, debt in mapping(debts).items():
                if count(debt) is None or debt > leased.get(resource, 0):
                    self._book.report(
                        "debt",
                        "debt out of bounds",
                        f"{name} owes {debt} of {resource} and holds {leased.get(resource, 0)}",
                    )

    def _ceilings(self, snapshot: dict[str, Any], event: SchedulerEvent) -> None:
        for resource, facts in mapping(snapshot.get("requests")).items():
            limit = count(mapping(facts).get("limit"))
            most = count(mapping(facts).get("effective_max"))
            if most and (limit is None or not 1 <= limit <= most):
                self._book.report(
                    "limits",
                    "a limit out of bounds",
                    f"the keyframe's limit of {resource} is {limit}, its effective maximum {most}",
                )


def _positive(part: Any) -> Any:
    return amounts(part) if isinstance(part, dict) else part


def _without_target(part: Any, state: State) -> Any:
    """No event tells the target before the first admission."""
    if state.row_groups.admitted or not isinstance(part, dict):
        return part
    return {name: value for name, value in part.items() if name != "target"}


def _differences(path: str, engine: Any, fold: Any) -> Iterator[str]:
    if isinstance(engine, dict) and isinstance(fold, dict):
        for name in sorted(engine.keys() | fold.keys(), key=str):
            if engine.get(name) != fold.get(name):
                yield from _differences(f"{path}.{name}", engine.get(name), fold.get(name))
    elif isinstance(engine, list) and isinstance(fold, list) and len(engine) == len(fold):
        for position, (item, folded_item) in enumerate(zip(engine, fold, strict=True)):
            if item != folded_item:
                yield from _differences(f"{path}[{position}]", item, folded_item)
    elif isinstance(engine, list) and isinstance(fold, list):
        yield f"{path}: {len(engine)} told, {len(fold)} folded"
    else:
        yield f"{path}: {_shown(engine)} told, {_shown(fold)} folded"


def _shown(value: Any) -> str:
    shown = "nothing" if value is None else str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
