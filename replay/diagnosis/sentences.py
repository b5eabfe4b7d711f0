"""What a verdict says to someone who knows no internals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replay.diagnosis.verdicts import count_text, duration_text, model_of, phrase, provider_of

Writer = Callable[[str, float, dict[str, Any]], str]


def sentence(verdict: str, resource: str, seconds: float, detail: dict[str, Any]) -> str:
    """`resource` is what the verdict is about, `seconds` how long it lasted."""
    writer = _WRITERS.get(verdict)
    if writer is None:
        return f"{phrase(verdict)} for {duration_text(seconds)}.".capitalize()
    return writer(resource, seconds, detail)


def _cooldown(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    provider, model = provider_of(resource), model_of(resource)
    limited = detail.get("rate_limited", 0)
    held = detail.get("held_seconds", seconds)
    asked = (
        f"Provider {provider} asked to slow down (429{f', {limited} times' if limited > 1 else ''})"
    )
    if seconds - held > 0.05 * seconds:
        return (
            f"{asked}: calls to {model} were held back for {duration_text(held)} of"
            f" {duration_text(seconds)}."
        )
    return f"{asked}: calls to {model} were held back for {duration_text(held)}."


def _domain_limit(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    return (
        f"After 429s only {count_text(detail.get('limit', 0), 'call')} at a time may go to"
        f" {model_of(resource)} (of {detail.get('effective_max', 0)}), and all were in use for"
        f" {duration_text(seconds)}."
    )


def _ramp(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    return (
        f"{model_of(resource)} is still being started up gently: for {duration_text(seconds)} no"
        f" more than {count_text(detail.get('limit', 0), 'call')} at a time could go out."
    )


def _aggregate(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    most = next((one["group"] for one in detail.get("holders", ())), "")
    holder = ""
    if most.startswith(model_of(resource) + "/") and most != resource:
        holder = f" Most of them are held by {most.rpartition('/')[2]} calls."
    return (
        f"All {detail.get('limit', 0)} calls that {model_of(resource)} allows at once were in use"
        f" for {duration_text(seconds)}, so {resource.rpartition('/')[2]} calls waited.{holder}"
    )


def _waiters_ahead(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    return (
        f"Calls to {model_of(resource)} waited for {duration_text(seconds)} behind others although"
        f" {detail.get('free', 0)} of {detail.get('limit', 0)} places were free."
    )


def slot_name(resource: str) -> str:
    kind, _, name = resource.partition(":")
    if kind == "submission":
        return "task slots"
    return f"task slots of {name or kind}"


def _task_capacity(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    waits = detail.get("holders_wait_for") or {}
    because = ""
    if waits:
        request, number = max(waits.items(), key=lambda item: (item[1], item[0]))
        because = (
            f" {number} of the tasks that hold them"
            f" {'waits' if number == 1 else 'wait'} for a call to {model_of(request)}."
        )
    return (
        f"All {detail.get('limit', 0)} {slot_name(resource)} were taken for"
        f" {duration_text(seconds)} while {count_text(detail.get('waiting', 0), 'task')} waited for"
        f" one.{because}"
    )


def _group_cap(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    column = str(detail.get("group", "")).rpartition("/")[2] or "one group"
    return (
        f"Tasks of {column} had their full share of the {slot_name(resource)} and waited"
        f" {duration_text(seconds)} while others had work for the rest."
    )


def _dependency(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    running = detail.get("in_flight") or {}
    if not running:
        return f"No task was ready to start for {duration_text(seconds)}."
    column, number = next(iter(running.items()))
    waiting = detail.get("columns_waiting") or []
    was = "was" if number == 1 else "were"
    after = (
        f", which {_names(waiting)} {'needs' if len(waiting) == 1 else 'need'}" if waiting else ""
    )
    return (
        f"No other task was ready to start for {duration_text(seconds)}:"
        f" {count_text(number, 'task')} of {column} {was} still at work{after}."
    )


def _horizon(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    target = detail.get("row_group_target")
    limit = f" ({target} at a time)" if target else ""
    return (
        f"Nothing was ready to start for {duration_text(seconds)}, and no further row group was let"
        f" in{limit}."
    )


def _latency(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    peak = detail.get("calls", 1)
    usual = duration_text(detail.get("p95", 0.0))
    oldest = duration_text(detail.get("oldest_age", seconds))
    model = model_of(resource)
    if peak == 1:
        what = f"A call to {model} took {oldest}"
    else:
        what = f"{peak} calls to {model} were slow at once, the oldest took {oldest}"
    return f"{what}, where 95 % take at most {usual}: the provider was slow."


def _backoff(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    errors = detail.get("errors") or {}
    number = detail.get("deferred", 0)
    kind = max(errors, key=lambda name: (errors[name], name), default="")
    untold = any(lack.startswith("error types") for lack in detail.get("missing", ()))
    what = f" ({kind})" if kind else " (this stream does not say how)" if untold else ""
    where = f" for {model_of(resource)}" if resource else ""
    return (
        f"{count_text(number, 'task')} had failed{what} and waited to be tried again: nothing else"
        f" was ready{where} for {duration_text(seconds)}."
    )


def _unknown(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    lost = detail.get("lost_events", 0)
    return (
        f"{count_text(lost, 'event')} of the {detail.get('stream', '')} stream"
        f" {'is' if lost == 1 else 'are'} missing here: nothing can be proved about these"
        f" {duration_text(seconds)}."
    )


def _gone(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    open_tasks = detail.get("open_tasks", 0)
    return (
        "The stream stops here without an end of the run:"
        f" {count_text(open_tasks, 'task')} {'was' if open_tasks == 1 else 'were'} open, and what"
        " became of them is unknown."
    )


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _leaked(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    number = detail.get("leases", 1)
    what = slot_name(resource) if ":" in resource or "/" not in resource else "calls"
    where = "" if what != "calls" else f" to {model_of(resource)}"
    was = "its owner had ended" if number == 1 else "their owners had ended"
    return (
        f"{count_text(number, 'lease')} of the {what}{where}"
        f" {'was' if number == 1 else 'were'} not given back for {duration_text(seconds)} after"
        f" {was}: nobody could use {'it' if number == 1 else 'them'}."
    )


def _lost_wakeup(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    waiting = detail.get("waiting", 0)
    if resource:
        free = detail.get("free", 0)
        return (
            f"{count_text(waiting, 'call')} to {model_of(resource)} could have gone out, with"
            f" {count_text(free, 'place')} free and nothing against it, but for"
            f" {duration_text(seconds)} none was let out: the scheduler missed it."
        )
    return (
        f"{count_text(waiting, 'task')} could have been started, with task slots free and nothing"
        f" against it, but for {duration_text(seconds)} none was: the scheduler missed it."
    )


def _lag(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    return (
        f"The event loop was held up for {duration_text(seconds)}: in that time nothing at all"
        " could be started, sent or received."
    )


def _unsatisfiable(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    return (
        f"{count_text(detail.get('waiting', 0), 'task')} can never start: one needs"
        f" {detail.get('needed', 0)} of {resource}, and the limit is {detail.get('limit', 0)}."
    )


def _mutual(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    return (
        f"{detail.get('free', 0)} of {detail.get('limit', 0)} {slot_name(resource)} stayed free for"
        f" {duration_text(seconds)} although several groups had tasks that fit: the sharing policy"
        " denied each of them for the sake of the others."
    )


def _debt(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    column = str(detail.get("group", "")).rpartition("/")[2] or "one group"
    owed = detail.get("debt", 0)
    owing = f" It owes {count_text(owed, 'slot')} to other groups." if owed else ""
    return (
        f"Tasks of {column} had borrowed all the {slot_name(resource)} they may beyond their share"
        f" and waited {duration_text(seconds)}.{owing}"
    )


def _downstream(resource: str, seconds: float, detail: dict[str, Any]) -> str:
    return (
        f"All cells were made, and the run waited {duration_text(seconds)} for rows to be"
        " written or worked on further."
    )


_WRITERS: dict[str, Writer] = {
    "request_cooldown": _cooldown,
    "request_domain_limit": _domain_limit,
    "request_ramp": _ramp,
    "request_aggregate_cap": _aggregate,
    "request_waiters_ahead": _waiters_ahead,
    "task_capacity": _task_capacity,
    "group_cap": _group_cap,
    "dependency": _dependency,
    "row_group_horizon": _horizon,
    "provider_latency": _latency,
    "retry_backoff": _backoff,
    "unknown": _unknown,
    "leaked_lease": _leaked,
    "lost_wakeup": _lost_wakeup,
    "event_loop_lag": _lag,
    "unsatisfiable": _unsatisfiable,
    "policy_mutual_denial": _mutual,
    "borrow_debt": _debt,
    "downstream_completion": _downstream,
    "producer_gone": _gone,
}
