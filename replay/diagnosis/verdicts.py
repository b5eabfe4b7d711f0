"""Names of verdicts: their tier, a short phrase, and what an operator can change."""

from __future__ import annotations

from engine.events import RunInfo

Blame = tuple[str, str]
"""A verdict (or `working`) and the label of the resource it is about ("" for none)."""

WORKING = "working"
UNKNOWN = "unknown"

MODEL_SLOTS = ("model_stage:", "request:")
"""Scheduler resources that belong to a model: headgate's own, and Data Designer's."""

TIERS: dict[str, str] = {
    "leaked_lease": "A",
    "lost_wakeup": "A",
    "event_loop_lag": "A",
    "producer_gone": "A",
    "unsatisfiable": "B",
    "policy_mutual_denial": "B",
    "row_group_horizon": "C",
    "dependency": "C",
    "queue_order": "C",
    "task_capacity": "C",
    "group_cap": "C",
    "borrow_debt": "C",
    "request_cooldown": "D",
    "request_domain_limit": "D",
    "request_aggregate_cap": "D",
    "request_waiters_ahead": "D",
    "request_ramp": "D",
    "provider_latency": "E",
    "retry_backoff": "E",
    "downstream_completion": "F",
    UNKNOWN: "-",
    WORKING: "",
}

PHRASES: dict[str, str] = {
    WORKING: "working",
    "leaked_lease": "lease never given back",
    "lost_wakeup": "nothing let in although it could be",
    "event_loop_lag": "event loop held up",
    "unsatisfiable": "needs more than there is",
    "policy_mutual_denial": "groups deny each other",
    "borrow_debt": "group has borrowed its fill",
    "producer_gone": "producer gone",
    "row_group_horizon": "no more row groups let in",
    "dependency": "waiting for upstream columns",
    "queue_order": "in the queue, others chosen",
    "task_capacity": "no task slot free",
    "group_cap": "group at its share",
    "request_cooldown": "cooldown after 429s",
    "request_domain_limit": "ceiling below its maximum",
    "request_aggregate_cap": "model's request cap full",
    "request_waiters_ahead": "behind other calls",
    "request_ramp": "start-up ramp",
    "provider_latency": "provider slower than usual",
    "retry_backoff": "waiting to retry an error",
    "downstream_completion": "rows being written",
    UNKNOWN: "unknown, events missing",
}

_ADVICE: dict[str, str] = {
    "leaked_lease": (
        "This is a bug of the producer: report it with this recording. A restart gives the leased"
        " slots back."
    ),
    "lost_wakeup": (
        "This is a bug of the producer: report it with this recording. A restart gets the run"
        " going again."
    ),
    "unsatisfiable": (
        "Raise the limit of the resource (max_in_flight_tasks for submission,"
        " max_parallel_requests for a model), or have the column ask for less."
    ),
    "policy_mutual_denial": (
        "Change the weights (max_parallel_requests of the models) or raise the borrow ceiling, so"
        " that at least one group may use what is free."
    ),
    "borrow_debt": (
        "Raise the borrow ceiling of the task admission policy, or the weight of this group"
        " (max_parallel_requests of its model)."
    ),
    "producer_gone": "Look at the process that made this run and at its log.",
    "row_group_horizon": (
        "Raise max_concurrent_row_groups (or buffer_size), so that more rows are open at once."
    ),
    "dependency": (
        "Normal at the end of a run. Otherwise raise max_concurrent_row_groups or buffer_size, so"
        " that other rows fill the gap, or make the slow upstream column depend on less."
    ),
    "task_capacity": "Raise max_in_flight_tasks.",
    "queue_order": (
        "Normal while it is short. Which group is next follows its weight, and that follows"
        " max_parallel_requests of its model."
    ),
    "group_cap": (
        "The slots are shared by weight, and weight follows max_parallel_requests: raise it for"
        " the model that should get more."
    ),
    "request_cooldown": (
        "Lower max_parallel_requests of this model, or set startup_ramp_seconds, to stay below the"
        " provider's rate; cooldown_seconds applies where the provider names no wait."
    ),
    "request_domain_limit": (
        "The ceiling rises again by itself with successes. If 429s keep cutting it, lower"
        " max_parallel_requests of this model."
    ),
    "request_aggregate_cap": (
        "Raise max_parallel_requests of this model, if its provider can take more."
    ),
    "request_ramp": "Shorten startup_ramp_seconds.",
    "provider_latency": (
        "Look at the endpoint; a shorter time-out of the model turns a hung call into a retry."
    ),
    "retry_backoff": "Fix what causes this class of error: the log of the run tells more.",
}


def tier(verdict: str) -> str:
    return TIERS.get(verdict, "-")


def phrase(verdict: str) -> str:
    return PHRASES.get(verdict, verdict.replace("_", " "))


def advice(verdict: str, resource: str = "", run: RunInfo | None = None) -> str:
    """What the operator can change (in this run, if given); empty where nothing needs changing."""
    if verdict == "event_loop_lag":
        return _lag_advice(run)
    if verdict == "task_capacity" and resource.startswith(MODEL_SLOTS):
        model = resource.partition(":")[2]
        return (
            f"The task slots of {model} follow its max_parallel_requests: raise that, or free them"
            " sooner (see what their holders wait for)."
        )
    return _ADVICE.get(verdict, "")


def _lag_advice(run: RunInfo | None) -> str:
    """Custom columns are the usual cause, where there are any."""
    held_up = "Something synchronous ran on the event loop"
    columns = () if run is None else run.columns
    custom = [column.name for column in columns if column.kind == "custom"]
    if custom:
        names = ", ".join(custom[:3]) + (", …" if len(custom) > 3 else "")
        return (
            f"{held_up}: make custom columns ({names}) asynchronous, or have their work done in a"
            " thread or a process."
        )
    if run is not None and columns and run.producer == "headgate":
        return (
            f"{held_up}, and this run has no custom columns: look for what else held up its"
            " process, such as a slow disk, a busy machine or one that was suspended."
        )
    return (
        f"{held_up}. If a column runs code of yours (this stream does not say), make that"
        " asynchronous, or have its work done in a thread or a process."
    )


def provider_of(resource: str) -> str:
    return resource.split("/", 1)[0]


def model_of(resource: str) -> str:
    """`provider/model` of a request resource label, or the label itself."""
    head, slash, domain = resource.rpartition("/")
    return head if slash and "/" in head and domain else resource


def duration_text(seconds: float) -> str:
    """`340 ms`, `3.2 s`, `4 min 12 s`, `2 h 5 min`."""
    if seconds < 0.9995:
        return f"{max(seconds, 0.0) * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count_text(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
