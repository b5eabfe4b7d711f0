"""Verdicts of tasks in the queue: slots that are taken, shares that are used up, the order."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from replay.diagnosis.verdicts.base import Context, Display, Shortage, Verdict, fact
from replay.diagnosis.verdicts.words import (
    MODEL_SLOTS,
    column_of,
    count_text,
    duration_text,
    model_of,
    slot_name,
)

Activity = Literal["calling", "slow", "waiting", "backing_off", "own"]
"""What a task does that holds a slot: a call at its provider, one that is slower than usual, a wait
for its turn to call, a client's pause after a failed call, or code of its own."""

_ACTIVITY_WORDS: dict[Activity, str] = {
    "calling": "called a model",
    "slow": "waited for a slow call",
    "waiting": "waited for their turn to call",
    "backing_off": "paused after a failed call",
    "own": "ran code of their own",
}


class SlotVerdict(Verdict, kw_only=True):
    """About a scheduler resource: what there is of it and who holds it."""

    explains = frozenset({"queue"})

    limit: Annotated[int, fact("Slots that the resource has")]
    free: Annotated[int, fact("Slots that nobody holds")]
    needed: Annotated[
        int, fact("Slots that a task takes: the most of all groups that use the resource")
    ]
    waiting: Annotated[int, fact("Tasks in line")]
    holders_do: Annotated[
        dict[Activity, int], fact("Tasks that hold slots, by what they did at that instant")
    ] = msgspec.field(default_factory=dict)
    holders_wait_for: Annotated[
        dict[str, int],
        fact("Calls in line by request resource, of those that holders of the slots call"),
    ] = msgspec.field(default_factory=dict)

    def shortage(self) -> Shortage | None:
        return Shortage(self.needed, self.free, self.limit)

    @property
    def mostly(self) -> Activity | None:
        """What most of the holders do; None where that is not known."""
        do = self.holders_do
        return max(do, key=lambda name: (do[name], name), default=None)

    def facts(self, start: float) -> list[str]:
        do = sorted(self.holders_do.items(), key=lambda item: (-item[1], item[0]))
        if not do:
            return []
        return ["their holders: " + ", ".join(f"{n} {_ACTIVITY_WORDS[name]}" for name, n in do)]


class ShareVerdict(SlotVerdict, kw_only=True):
    """About the group with the most tasks in the queue, and its share of the resource."""

    group: Annotated[str, fact("Scheduling group with the most tasks that wait")]
    held: Annotated[int, fact("Slots that it holds")]
    share: Annotated[
        float, fact("Slots that are its share by weight, among those that compete for them")
    ]
    peers: Annotated[list[str], fact("Groups that compete with it, five at most")]
    debt: Annotated[int | None, fact("Slots that it owes to others; absent where none")] = None


class Unsatisfiable(ShareVerdict, tag="unsatisfiable", kw_only=True):
    """A task needs more of a resource than its limit, and can never run."""

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
            f"{count_text(self.waiting, 'task')} can never start: one needs"
            f" {self.needed} of {resource}, and the limit is {self.limit}."
        )


class PolicyMutualDenial(ShareVerdict, tag="policy_mutual_denial", kw_only=True):
    """There is room, and the policy denies it to every group that could use it."""

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
            f"{self.free} of {self.limit} {slot_name(resource)} stayed free for"
            f" {duration_text(seconds)} although several groups had tasks that fit: the sharing"
            " policy denied each of them for the sake of the others."
        )


class QueueOrder(Verdict, tag="queue_order", kw_only=True):
    """A task waits only because others are chosen before it."""

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


class TaskCapacity(SlotVerdict, tag="task_capacity", kw_only=True):
    """All slots are taken that a task needs."""

    tier = "C"
    phrase = "no task slot free"
    proof = "less is free than one task needs"
    display = Display("T", "slots", "slash")
    rank = 3

    def advice_here(self, resource: str) -> str:
        model = resource.partition(":")[2] if resource.startswith(MODEL_SLOTS) else ""
        setting = f"max_parallel_requests of {model}" if model else "max_in_flight_tasks"
        match self.mostly:
            case "calling":
                if model:
                    return (
                        f"Their holders all wait for answers: {setting} is what {model} may have"
                        " at a time, and the first paragraph says whether that bounds the run."
                    )
                return f"Raise {setting}, if providers and memory can take more."
            case "slow":
                return "More slots would wait for the same slow calls: look at the endpoint."
            case "backing_off":
                return (
                    "More slots would only meet the same errors: mend what fails at the endpoint."
                )
            case "waiting":
                return (
                    "The slots wait for calls, and more of them would wait as well: see what keeps"
                    " those calls."
                )
            case "own":
                if model:
                    return (
                        f"Their holders are between calls, so that {model} itself has room: look"
                        " for what keeps the run's own process busy, such as parsing, code of"
                        " columns or a loaded machine."
                    )
                return (
                    "The slots are taken by work of the columns themselves: make that faster, or"
                    f" raise {setting}."
                )
            case None:
                return ""

    def sentence(self, resource: str, seconds: float, context: Context) -> str:
        because = ""
        if self.holders_wait_for and self.mostly == "waiting":
            calls = self.holders_wait_for
            request, number = max(calls.items(), key=lambda item: (item[1], item[0]))
            because = (
                f" {number} of the tasks that hold them"
                f" {'waits' if number == 1 else 'wait'} for a call to {model_of(request)}."
            )
        elif self.mostly is not None:
            because = f" Most of their holders {_ACTIVITY_WORDS[self.mostly]}."
        return (
            f"All {self.limit} {slot_name(resource)} were taken for"
            f" {duration_text(seconds)} while {count_text(self.waiting, 'task')} waited for"
            f" one.{because}"
        )


class GroupCap(ShareVerdict, tag="group_cap", kw_only=True):
    """There is room, and the group has its share by weight."""

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


class BorrowDebt(ShareVerdict, tag="borrow_debt", kw_only=True):
    """There is room, and the group has borrowed as much as the policy allows."""

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
