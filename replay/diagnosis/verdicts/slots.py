"""Verdicts of tasks in the queue: slots that are taken, shares that are used up, the order."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.events import RunInfo
from replay.diagnosis.verdicts.base import Context, Display, Shortage, Verdict, fact
from replay.diagnosis.verdicts.words import (
    MODEL_SLOTS,
    column_of,
    count_text,
    duration_text,
    model_of,
    slot_name,
)


class SlotVerdict(Verdict):
    """About a scheduler resource: what there is of it and who holds it."""

    explains = frozenset({"queue"})

    limit: Annotated[int | None, fact("Slots that the resource has")] = None
    free: Annotated[int | None, fact("Slots that nobody holds")] = None
    needed: Annotated[
        int | None, fact("Slots that a task takes: the most of all groups that use the resource")
    ] = None
    holders_wait_for: Annotated[
        dict[str, int],
        fact("Calls in line by request resource, of those that holders of the slots call"),
    ] = msgspec.field(default_factory=dict)

    def shortage(self) -> Shortage | None:
        if self.needed is None or self.free is None:
            return None
        return Shortage(self.needed, self.free, self.limit)


class ShareVerdict(SlotVerdict):
    """About the group with the most tasks in the queue, and its share of the resource."""

    group: Annotated[str | None, fact("Scheduling group with the most tasks that wait")] = None
    held: Annotated[int | None, fact("Slots that it holds")] = None
    share: Annotated[
        float | None, fact("Slots that are its share by weight, among those that compete for them")
    ] = None
    peers: Annotated[list[str] | None, fact("Groups that compete with it, five at most")] = None
    debt: Annotated[int | None, fact("Slots that it owes to others; absent where none")] = None


class Unsatisfiable(ShareVerdict, tag="unsatisfiable"):
    tier = "B"
    phrase = "needs more than there is"
    proof = "a queued task needs more of a resource than its limit"
    display = Display("U", "failure", "hash")
    rank = 7
    what_to_do = (
        "Raise the limit of the resource (max_in_flight_tasks for submission,"
        " max_parallel_requests for a model), or have the column ask for less."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"{count_text(context.waiting or 0, 'task')} can never start: one needs"
            f" {self.needed or 0} of {resource}, and the limit is {self.limit or 0}."
        )


class PolicyMutualDenial(ShareVerdict, tag="policy_mutual_denial"):
    tier = "B"
    phrase = "groups deny each other"
    proof = (
        "at least two heads fit the free amounts, and each of those that fit is denied by its"
        " share, its debt or the policy's word"
    )
    display = Display("N", "failure", "double")
    rank = 6
    what_to_do = (
        "Change the weights (max_parallel_requests of the models) or raise the borrow ceiling, so"
        " that at least one group may use what is free."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"{self.free or 0} of {self.limit or 0} {slot_name(resource)} stayed free for"
            f" {duration_text(seconds)} although several groups had tasks that fit: the sharing"
            " policy denied each of them for the sake of the others."
        )


class QueueOrder(Verdict, tag="queue_order"):
    tier = "C"
    phrase = "in the queue, others chosen"
    proof = "nothing else keeps it: others are chosen before it. A blame, never a stall"
    display = Display("Q", "order", "dashes")
    is_stall = False
    about_run = True
    explains = frozenset({"queue"})
    what_to_do = (
        "Normal while it is short. Which group is next follows its weight, and that follows"
        " max_parallel_requests of its model."
    )


class TaskCapacity(SlotVerdict, tag="task_capacity"):
    tier = "C"
    phrase = "no task slot free"
    proof = "less is free than one task needs"
    display = Display("T", "slots", "slash")
    rank = 3
    what_to_do = "Raise max_in_flight_tasks."

    @classmethod
    def advice(cls, resource: str = "", run: RunInfo | None = None) -> str:
        if not resource.startswith(MODEL_SLOTS):
            return cls.what_to_do
        return (
            f"The task slots of {resource.partition(':')[2]} follow its max_parallel_requests:"
            " raise that, or free them sooner (see what their holders wait for)."
        )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        because = ""
        if self.holders_wait_for:
            calls = self.holders_wait_for
            request, number = max(calls.items(), key=lambda item: (item[1], item[0]))
            because = (
                f" {number} of the tasks that hold them"
                f" {'waits' if number == 1 else 'wait'} for a call to {model_of(request)}."
            )
        return (
            f"All {self.limit or 0} {slot_name(resource)} were taken for"
            f" {duration_text(seconds)} while {count_text(context.waiting or 0, 'task')} waited for"
            f" one.{because}"
        )


class GroupCap(ShareVerdict, tag="group_cap"):
    tier = "C"
    phrase = "group at its share"
    proof = (
        "it fits, and one more would exceed limit × weight / weights of the groups queued for the"
        " resource, rounded up"
    )
    display = Display("G", "slots", "plus")
    rank = 2
    what_to_do = (
        "The slots are shared by weight, and weight follows max_parallel_requests: raise it for"
        " the model that should get more."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        return (
            f"Tasks of {column_of(self.group)} had their full share of the {slot_name(resource)}"
            f" and waited {duration_text(seconds)} while others had work for the rest."
        )


class BorrowDebt(ShareVerdict, tag="borrow_debt"):
    tier = "C"
    phrase = "group has borrowed its fill"
    proof = (
        "it fits, the policy says debt, and the group owes units or holds most there; share (among"
        " all that queue for the resource or hold it), held and debt are in the detail"
    )
    display = Display("B", "turn", "dashes")
    rank = 2
    what_to_do = (
        "Raise the borrow ceiling of the task admission policy, or the weight of this group"
        " (max_parallel_requests of its model)."
    )

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        owing = f" It owes {count_text(self.debt, 'slot')} to other groups." if self.debt else ""
        return (
            f"Tasks of {column_of(self.group)} had borrowed all the {slot_name(resource)} they may"
            f" beyond their share and waited {duration_text(seconds)}.{owing}"
        )


SLOTS = (Unsatisfiable, PolicyMutualDenial, QueueOrder, TaskCapacity, GroupCap, BorrowDebt)
