"""Were groups that could both run served by weight?

The bound is |W_f/w_f - W_g/w_g| <= 1/w_f + 1/w_g in dispatches, over every interval in which both
groups have work queued and are eligible. What proves eligibility from events alone: the heads of
both need the same resources (so that one fits where the other does), neither has a cap of its own,
and one more lease keeps each within its share by weight among all groups that queue for or hold a
resource, which every policy of shares grants to a group without debt. Where that can't be told,
nothing is concluded.
"""

from __future__ import annotations

from engine.events import SchedulerEvent
from replay.state.model import State
from replay.state.payload import amounts, count, mapping, number
from replay.verify.rules import RuleBook

GROUPS_COMPARED = 32
ROUNDING = 1e-6

Needs = tuple[tuple[str, int], ...]


class _Member:
    __slots__ = ("needs", "served", "weight", "windows")

    def __init__(self, needs: Needs, weight: float) -> None:
        self.needs = needs
        self.weight = weight
        self.served = 0.0
        """Dispatches by weight, since ever."""
        self.windows: dict[str, tuple[float, float]] = {}
        """Peer -> least and largest lead over it in the present joint interval."""


class FairnessChecks:
    """Counts dispatches by group, and compares pairs of groups while both are eligible."""

    def __init__(self, book: RuleBook) -> None:
        self._book = book
        self._members: dict[str, _Member] = {}
        self._capped: set[str] = set()
        self._passed_over: set[str] = set()
        self._lends = False

    def keyframe(self, event: SchedulerEvent) -> None:
        """A foreign policy that lends denies by debt, which no event but a keyframe tells."""
        if (
            self._book.foreign
            and mapping((event.snapshot or {}).get("debt_by_group"))
            and not self._lends
        ):
            self._lends = True
            self._book.mark_unchecked(
                "fairness", "the policy lends, and debt is told by keyframes only"
            )

    def enqueued(self, event: SchedulerEvent) -> None:
        """What the group's tasks need; where that varies, nothing can be told of the group."""
        facts = event.diagnostics
        group = facts.get("group")
        if type(group) is not str:
            return
        if count(facts.get("admitted_limit")) is not None:
            self._capped.add(group)
        needs = tuple(sorted(amounts(facts.get("resources")).items()))
        member = self._members.get(group)
        if member is None:
            if len(self._members) < GROUPS_COMPARED:
                self._members[group] = _Member(needs, number(facts.get("weight")) or 1.0)
        elif member.needs != needs:
            self._capped.add(group)

    def forget(self) -> None:
        """Events are missing: no interval goes on across them."""
        for member in self._members.values():
            member.windows.clear()

    def passed_over(self, state: State, event: SchedulerEvent) -> None:
        """Its policy lets others go first, which is told once, until its head gets a lease."""
        task = state.tasks.get(event.task_id or "")
        if task is not None:
            self._passed_over.add(task.group)

    def _start_anew(self, group: str) -> None:
        for name, member in self._members.items():
            if name == group:
                member.windows.clear()
            else:
                member.windows.pop(group, None)

    def dispatched(self, state: State, event: SchedulerEvent) -> None:
        """Before a lease of the group's head is folded in."""
        task = state.tasks.get(event.task_id or "")
        if task is None or self._lends:
            return
        name = task.group
        eligible = {
            peer: member
            for peer, member in self._members.items()
            if self._can_run(state, peer, member)
        }
        for group_name, member in self._members.items():
            if group_name not in eligible:
                member.windows.clear()
            elif member.windows.keys() - eligible.keys():
                for peer in member.windows.keys() - eligible.keys():
                    del member.windows[peer]
        winner = self._members.get(name)
        if winner is None:
            return
        before, after = winner.served, winner.served + 1.0 / winner.weight
        winner.served = after
        if name in self._passed_over:
            self._passed_over.discard(name)
            self._start_anew(name)
        if name not in eligible:
            return
        compared = False
        for peer, member in eligible.items():
            if peer == name or member.needs != winner.needs:
                continue
            compared = True
            low, high = winner.windows.get(peer, (before - member.served,) * 2)
            low, high = min(low, before - member.served), max(high, after - member.served)
            bound = 1.0 / winner.weight + 1.0 / member.weight
            if high - low > bound + ROUNDING:
                self._book.report(
                    "fairness",
                    "a group is served ahead of its share",
                    f"{name} leads {peer} by {high - low:.3g} weighted tasks, the bound is "
                    f"{bound:.3g}",
                )
                low = high = after - member.served
            winner.windows[peer] = (low, high)
            member.windows[name] = (-high, -low)
        if compared:
            self._book.looked_at["fairness"] += 1
        group = state.groups.get(name)
        if group is not None and group.queued <= 1:
            self._start_anew(name)

    def _can_run(self, state: State, name: str, member: _Member) -> bool:
        """Surely: work queued, units free, one more lease within the least share any policy gives.

        Shares count all groups that queue for or hold the resource.
        """
        group = state.groups.get(name)
        if group is None or group.queued == 0 or group.debt:
            return False
        if name in self._capped or name in self._passed_over:
            return False
        for resource, amount in member.needs:
            limit = state.limits.get(resource)
            if limit is None or limit - state.leased.get(resource, 0) < amount:
                return False
            weights = sum(
                other.weight
                for other in state.groups.values()
                if other.demand.get(resource) or other.leased_amounts.get(resource)
            )
            held = group.leased_amounts.get(resource, 0)
            if held and held + amount > limit * group.weight / weights:
                return False
        return True
