"""The event kinds: every kind of both streams, what it is about and what it carries.

This table is the only list of kinds. The vocabularies, the kinds that a journal never sheds, the
significance of an event in a console and the tables of `plans/event-stream.md` derive from it. It
is one long table on purpose: a new kind is one entry here and the code that emits it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Stream = Literal["scheduler", "request"]
DenialReason = Literal["no_capacity", "group_cap", "borrow_debt", "policy_denial", "shutdown"]
DENIAL_ORDER: tuple[DenialReason, ...] = get_args(DenialReason)
"""Reasons why a head gets no task lease; the first of equally frequent ones counts."""
Subject = Literal["run", "loop", "row_group", "queue", "task", "resource", "attempt", "recording"]
Significance = Literal["failure", "wait", "progress", "routine", "background"]
"""How much an event matters to somebody who watches: `failure` (refused, dropped or lost), `wait`
(work is held up), `progress`, `routine`, or `background` (periodic, of no interest by itself)."""


class PayloadField(NamedTuple):
    """One entry of `diagnostics`. An entry with its default value may be absent."""

    name: str
    type: str
    """`int`, `float`, `str`, `bool`, `[T]` for a list, `{key: T}` for a map."""
    meaning: str
    unit: str = ""
    """`s` for durations, `monotonic s` for instants; "" for counts and names."""


class EventKind(NamedTuple):
    """One kind of event."""

    name: str
    stream: Stream
    subject: Subject
    meaning: str
    result: str = ""
    """What `reason_or_result` or `reason_or_outcome` holds; "" where it is absent."""
    payload: tuple[PayloadField, ...] = ()
    significance: Significance = "routine"
    shed: bool = True
    """Whether a journal may drop it when the disk refuses writes. Ends and gaps are never dropped,
    so that no task or lease seems to last for ever."""
    published: bool = True
    """False for additions of this engine to the published vocabulary, which readers may ignore."""


_GROUP = PayloadField("group", "str", "task group")
_ROW = PayloadField("row", "int", "row over all row groups, from 0; absent for a batch")
_ATTEMPT = PayloadField("attempt", "int", "attempt of the task; absent for the first")
_RESOURCES = PayloadField("resources", "{resource: int}", "units that the task needs")
_ROW_GROUP = PayloadField("row_group", "int", "number of the row group, from 0")
_IN_FLIGHT_GROUPS = PayloadField("in_flight", "int", "row groups under way")
_TARGET = PayloadField("target", "int", "row groups that may be under way")
_DEBT = PayloadField(
    "debt",
    "{group: {resource: int}}",
    "units owed now, where this event changed what is owed; 0 is paid off",
)
_MESSAGE = PayloadField("message", "str", "the error as one sanitised sentence")
_BLOCKED = (
    PayloadField("queued_count", "int", "tasks in the queue"),
    PayloadField("reasons", "{denial: int}", "heads of groups by what denies them"),
    PayloadField("groups", "{group: denial}", "what denies the head of each group"),
    PayloadField(
        "resources",
        "{resource: {needed, limit, free, holders, more_holders}}",
        "the resources that are short; `holders` are the eight groups with the most leases, each "
        "with `group`, `leases` and `oldest_age` (s)",
    ),
    PayloadField("available_after", "float", "when a cooldown will have ended", "monotonic s"),
)
_WAITERS = PayloadField("waiters", "int", "attempts that wait for this resource")
_LIMIT = PayloadField("limit", "int", "adaptive ceiling of the resource")
_WAITED = PayloadField("waited_seconds", "float", "time waited", "s")
_BLOCKED_UNTIL = PayloadField("blocked_until", "float", "end of the cooldown", "monotonic s")
_RETRY_AFTER = PayloadField("retry_after", "float", "wait that the provider asked for", "s")
_PREVIOUS = PayloadField("previous", "int", "value before")
_CURRENT = PayloadField("current", "int", "value from now on")
_STALL = (
    PayloadField("from", "float", "last sign of life before", "monotonic s"),
    PayloadField("to", "float", "first sign of life after, or the time of telling", "monotonic s"),
    PayloadField("ongoing", "bool", "whether it still goes on"),
    PayloadField("cpu_seconds", "float", "processor time of the process in that time", "s"),
    PayloadField("loop_cpu_seconds", "float", "of the loop's thread, where known", "s"),
    PayloadField("core_wait", "float", "time for which that thread wanted a core", "s"),
)
_CLASS = PayloadField("class", "str", "class of the failure, as in `events/failures.py`")
_STATUS = PayloadField("status", "int", "HTTP status, or the one that the body means")
_CODE = PayloadField("code", "str", "the provider's own code, else its type of error")
_PARAM = PayloadField("param", "str", "the parameter that the provider names")
_ANSWERED = (
    _CLASS,
    _STATUS,
    _CODE,
    _PARAM,
    PayloadField("message", "str", "the provider's words, sanitised and bounded"),
)
_RELEASE_DIAGNOSTIC = "`duplicate`, `stale_lease`, `wrong_controller_generation`, `unknown_lease`"

EVENT_KINDS: tuple[EventKind, ...] = (
    EventKind(
        "scheduler_job_started",
        "scheduler",
        "run",
        "the scheduler begins",
        payload=(
            PayloadField("records", "int", "records to make"),
            PayloadField("row_groups", "int", "row groups they are divided into"),
            PayloadField("buffer_size", "int", "records of one row group"),
            PayloadField("limits", "{resource: int}", "configured limits"),
        ),
    ),
    EventKind(
        "run_resumed",
        "scheduler",
        "run",
        "the run goes on after an interruption; what was open then has no end, and the time "
        "between does not count",
        payload=(
            PayloadField("records", "int", "records to make"),
            PayloadField("row_groups", "int", "row groups they are divided into"),
            PayloadField("buffer_size", "int", "records of one row group"),
            PayloadField("limits", "{resource: int}", "configured limits"),
            PayloadField("resumes", "int", "how often it has been resumed, this time included"),
            PayloadField("paused_seconds", "float", "wall time of the interruption", "s"),
            PayloadField("wall", "float", "wall time of this event", "Unix s"),
            PayloadField("rows_done", "int", "records written so far"),
            PayloadField("rows_dropped", "int", "records dropped so far"),
            PayloadField("row_groups_done", "int", "row groups that are finished"),
            PayloadField("restored_cells", "int", "cells of open row groups that are kept"),
            PayloadField("completed_by_column", "{column: int}", "tasks completed so far"),
        ),
        significance="progress",
        shed=False,
        published=False,
    ),
    EventKind(
        "scheduler_health_snapshot",
        "scheduler",
        "run",
        "a keyframe: the engine's own ledger at this instant, in `snapshot`",
        payload=(PayloadField("reason", "str", "`start`, `periodic`, `segment` or `end`"),),
        significance="background",
    ),
    EventKind(
        "row_group_admitted",
        "scheduler",
        "row_group",
        "work on a row group begins",
        payload=(
            _ROW_GROUP,
            PayloadField("rows", "int", "records in it"),
            _IN_FLIGHT_GROUPS,
            _TARGET,
        ),
    ),
    EventKind(
        "row_group_admission_target_changed",
        "scheduler",
        "row_group",
        "more or fewer row groups may be under way",
        "`queue_empty`: nothing in the queue could use a free slot",
        (_PREVIOUS, _TARGET, _IN_FLIGHT_GROUPS),
    ),
    EventKind(
        "row_group_admission_blocked",
        "scheduler",
        "row_group",
        "the next row group has to wait",
        "`target_reached`",
        (
            PayloadField("next_row_group", "int", "the one that waits"),
            _IN_FLIGHT_GROUPS,
            _TARGET,
        ),
        "wait",
    ),
    EventKind(
        "row_group_checkpoint_started",
        "scheduler",
        "row_group",
        "the rows of a finished row group are being written",
        payload=(_ROW_GROUP,),
        published=False,
    ),
    EventKind(
        "row_group_checkpointed",
        "scheduler",
        "row_group",
        "the rows of a row group are written",
        payload=(
            _ROW_GROUP,
            PayloadField("rows", "int", "records in it"),
            PayloadField("surviving_rows", "int", "records written"),
            PayloadField("dropped_rows", "int", "records dropped"),
            PayloadField("unfinished_rows", "int", "records that a stop left unfinished"),
            PayloadField("surviving_before", "int", "of those, written before the run was resumed"),
            PayloadField("dropped_before", "int", "dropped before the run was resumed"),
        ),
        significance="progress",
    ),
    EventKind(
        "row_group_write_retried",
        "scheduler",
        "row_group",
        "the rows of a row group could not be written and will be tried again",
        payload=(
            _ROW_GROUP,
            PayloadField("try", "int", "the try that failed, from 1"),
            PayloadField("delay_seconds", "float", "time to the next", "s"),
            _MESSAGE,
        ),
        significance="failure",
        published=False,
    ),
    EventKind(
        "run_warning",
        "scheduler",
        "run",
        "something that a user should know, at the start or while a provider is degraded",
        "code",
        (PayloadField("message", "str", "one sentence"),),
        "failure",
        published=False,
    ),
    EventKind(
        "run_stopping",
        "scheduler",
        "run",
        "nothing new starts any more",
        "`stopped`, `drain`, `abort`, `run_failed`",
        (
            PayloadField("message", "str", "why, as one sentence, where the run stops by itself"),
            PayloadField("running", "int", "tasks that run"),
            PayloadField("seconds_left", "float", "until they are cancelled", "s"),
        ),
        "failure",
        shed=False,
        published=False,
    ),
    EventKind(
        "dependency_ready",
        "scheduler",
        "task",
        "all that the task needs is made",
        payload=(_GROUP, _ROW, _ATTEMPT),
    ),
    EventKind(
        "ready_enqueued",
        "scheduler",
        "task",
        "the task is in the queue",
        payload=(
            _GROUP,
            PayloadField("weight", "float", "the group's share among others"),
            PayloadField("admitted_limit", "int", "leases that the group may hold, where limited"),
            _RESOURCES,
            PayloadField("request_resource", "str", "resource of its first request, where known"),
            _ROW,
            _ATTEMPT,
        ),
    ),
    EventKind("selected", "scheduler", "task", "the task is next in fair order"),
    EventKind(
        "request_pressure_advisory_skipped",
        "scheduler",
        "task",
        "passed over because its request resource is under pressure; emitted once a lease",
        "`cooldown`, `waiters`",
        (
            PayloadField("request_resource", "str", "the resource under pressure"),
            _WAITERS,
            _LIMIT,
            _BLOCKED_UNTIL,
            PayloadField("peer", "str", "the task chosen instead"),
        ),
    ),
    EventKind(
        "task_lease_acquired",
        "scheduler",
        "task",
        "the task may become a worker",
        payload=(_RESOURCES, _DEBT),
    ),
    EventKind("worker_spawned", "scheduler", "task", "a worker executes the task"),
    EventKind(
        "worker_spawn_failed",
        "scheduler",
        "task",
        "no worker could be started",
        "error type",
        significance="failure",
    ),
    EventKind("stale_selection", "scheduler", "task", "the task was gone when its turn had come"),
    EventKind(
        "admission_denied",
        "scheduler",
        "task",
        "a selected task was refused its lease",
        "denial",
        (_GROUP,),
        "wait",
    ),
    EventKind(
        "retry_deferred",
        "scheduler",
        "task",
        "the attempt failed; the task comes back after its back-off",
        "error type",
        (
            PayloadField("attempt", "int", "the attempt that failed, from 1"),
            PayloadField("delay_seconds", "float", "back-off", "s"),
            PayloadField("retry_at", "float", "end of the back-off", "monotonic s"),
            _MESSAGE,
            _CLASS,
            _STATUS,
            _CODE,
            _PARAM,
        ),
        "failure",
        shed=False,
    ),
    EventKind(
        "salvage_redispatched",
        "scheduler",
        "task",
        "the back-off is over",
        payload=(
            PayloadField("attempt", "int", "the attempt to come, from 1"),
            PayloadField("deferred_seconds", "float", "time deferred", "s"),
            PayloadField(
                "uses_attempt", "bool", "false if the failure was of a provider that is out"
            ),
        ),
    ),
    EventKind(
        "non_retryable_dropped",
        "scheduler",
        "task",
        "no attempt is left or none can help: the row is dropped",
        "error type",
        (
            PayloadField("attempt", "int", "the attempt that failed, from 1"),
            _MESSAGE,
            _CLASS,
            _STATUS,
            _CODE,
            _PARAM,
        ),
        "failure",
        shed=False,
    ),
    EventKind(
        "cancelled",
        "scheduler",
        "task",
        "the task was given up",
        "cause",
        significance="failure",
        shed=False,
    ),
    EventKind(
        "task_completed",
        "scheduler",
        "task",
        "the task has its value",
        significance="progress",
        shed=False,
    ),
    EventKind(
        "task_lease_released",
        "scheduler",
        "task",
        "what the task held is free again",
        "`released`",
        (_DEBT,),
        shed=False,
    ),
    EventKind(
        "release_diagnostic",
        "scheduler",
        "task",
        "a release that matches no live lease",
        _RELEASE_DIAGNOSTIC,
        significance="failure",
    ),
    EventKind(
        "queue_empty",
        "scheduler",
        "queue",
        "a dispatch pass ended with nothing queued",
        payload=(
            PayloadField("ready", "int", "always 0"),
            PayloadField("in_flight", "int", "tasks with a lease"),
            PayloadField("deferred", "int", "tasks in their back-off"),
        ),
    ),
    EventKind(
        "admission_blocked",
        "scheduler",
        "queue",
        "a dispatch pass ended with tasks queued, none of which may go",
        "dominant denial",
        _BLOCKED,
        "wait",
    ),
    EventKind(
        "group_capped",
        "scheduler",
        "queue",
        "as `admission_blocked`, where every queued group is at its own cap",
        "dominant denial",
        _BLOCKED,
        "wait",
    ),
    EventKind("queue_drained", "scheduler", "queue", "the last queued task has left"),
    EventKind(
        "scheduler_loop_heartbeat",
        "scheduler",
        "loop",
        "the event loop is alive",
        payload=(
            PayloadField("period", "float", "from one heartbeat to the next", "s"),
            PayloadField("drift", "float", "how late this one is", "s"),
            PayloadField("cpu_seconds", "float", "processor time of the process since then", "s"),
            PayloadField(
                "watch",
                "float",
                "from one look of the watchdog thread to the next; where it is, the loop ran since "
                "the last heartbeat, but in the intervals of `loop_blocked` and `process_paused`",
                "s",
            ),
            PayloadField("late_seconds", "float", "how late the loop's beats were in all", "s"),
            PayloadField(
                "core_wait", "float", "time for which the loop's thread wanted a core", "s"
            ),
            PayloadField(
                "frames", "[frame]", "where a process that computed all the time was, as below"
            ),
        ),
        significance="background",
        published=False,
    ),
    EventKind(
        "loop_blocked",
        "scheduler",
        "loop",
        "the event loop did not run, though the process did; a later one with the same `from` "
        "replaces it. A line outside the numbering",
        "`waiting` (its thread slept), `computing`, `interpreter_lock` (code that lets no other "
        "thread run computed)",
        (
            *_STALL,
            PayloadField("samples", "int", "how often the watchdog looked"),
            PayloadField(
                "frames",
                "[{module, function, file, line, count, column, thread, library}]",
                "where the loop's thread was, in the user's own code if it was there; `thread` is "
                "`other` for a thread that held the interpreter lock instead, `library` is true "
                "where none of the user's own code was",
            ),
        ),
        "failure",
        shed=False,
        published=False,
    ),
    EventKind(
        "process_paused",
        "scheduler",
        "loop",
        "the whole process did not run; told when it is over. A line outside the numbering",
        "`stopped`, `starved` (it wanted a core), `suspended` (the machine slept), `unclear`",
        (
            *_STALL,
            PayloadField(
                "suspended_seconds", "float", "time of which this clock knows nothing", "s"
            ),
        ),
        "failure",
        shed=False,
        published=False,
    ),
    EventKind(
        "recording_gap",
        "scheduler",
        "recording",
        "events were lost; a line of the journal's own, outside the numbering",
        "cause",
        (
            PayloadField("stream", "str", "the stream that has the gap"),
            PayloadField("first_lost", "int", "first missing sequence number"),
            PayloadField("last_lost", "int", "last missing sequence number"),
            PayloadField("cause", "str", "why they are missing"),
        ),
        "failure",
        shed=False,
        published=False,
    ),
    EventKind(
        "metadata_diagnostic",
        "scheduler",
        "run",
        "a generator's metadata could not be used as it is",
        "code",
        (
            PayloadField("message", "str", "what was done instead"),
            PayloadField("column", "str", "column of the generator"),
        ),
        published=False,
    ),
    EventKind(
        "scheduler_job_completed",
        "scheduler",
        "run",
        "the scheduler has ended",
        "`success`, `failed`, `cancelled`, `stopped`",
        (
            PayloadField("rows_done", "int", "records written"),
            PayloadField("rows_dropped", "int", "records dropped"),
            PayloadField("rows_unfinished", "int", "records begun and left unfinished"),
            PayloadField("message", "str", "why it failed, as one sentence"),
            PayloadField(
                "capacity",
                "{runtime_snapshot, observed_maxima}",
                "capacity values of the whole run",
            ),
            PayloadField("sink_failures", "{listener: int}", "batches each listener failed at"),
        ),
        shed=False,
    ),
    EventKind(
        "request_resource_registered",
        "request",
        "resource",
        "a provider/model/domain has a ceiling from now on",
        payload=(
            PayloadField("static_cap", "int", "cap over all domains of the model"),
            PayloadField("effective_max", "int", "most that the ceiling can become"),
            _LIMIT,
            PayloadField("aliases", "[str]", "models of the workflow that mean it"),
            PayloadField("raw_caps", "{alias: int}", "cap that each alias gives"),
        ),
    ),
    EventKind(
        "request_effective_cap_changed",
        "request",
        "resource",
        "the static cap is another",
        payload=(_PREVIOUS, _CURRENT),
    ),
    EventKind("request_queue_formed", "request", "resource", "a first attempt waits"),
    EventKind("request_queue_drained", "request", "resource", "no attempt waits any more"),
    EventKind(
        "request_wait_started",
        "request",
        "attempt",
        "an attempt asks for a lease; also where it need not wait",
        payload=(
            PayloadField("reason", "str", "`none`, or a wait reason"),
            PayloadField("waiters", "int", "attempts that waited before this one"),
            PayloadField("in_flight", "int", "leases of the resource"),
            _LIMIT,
            PayloadField("aggregate_in_flight", "int", "leases over all domains of the model"),
            PayloadField("repeats", "str", "first attempt of the call, where this is a later one"),
        ),
    ),
    EventKind(
        "request_wait_reason_changed",
        "request",
        "resource",
        "what keeps the head of the resource's queue waiting has changed",
        payload=(
            PayloadField("from", "str", "wait reason before"),
            PayloadField("to", "str", "wait reason from now on"),
            PayloadField(
                "dimension",
                "str",
                "of `request_rate_budget`: `requests`, `tokens`, `input_tokens`, `output_tokens`",
            ),
            _WAITERS,
            PayloadField("until", "float", "when it ends, where known", "monotonic s"),
        ),
        published=False,
    ),
    EventKind(
        "request_wait_completed",
        "request",
        "attempt",
        "the wait is over",
        payload=(_WAITED,),
    ),
    EventKind(
        "request_wait_timeout",
        "request",
        "attempt",
        "the attempt waited longer than it may",
        "denial",
        (_WAITED,),
        "failure",
        shed=False,
    ),
    EventKind(
        "request_wait_cancelled",
        "request",
        "attempt",
        "the attempt was given up while it waited",
        "denial",
        (_WAITED,),
        shed=False,
    ),
    EventKind(
        "request_acquire_denied",
        "request",
        "attempt",
        "the attempt was refused without a wait",
        "denial",
        (_WAITED,),
        "failure",
        shed=False,
    ),
    EventKind(
        "request_lease_acquired",
        "request",
        "attempt",
        "the call may go out",
        payload=(
            PayloadField(
                "probe", "bool", "true if it asks a resource that is out whether it is back"
            ),
        ),
    ),
    EventKind("model_request_started", "request", "attempt", "the call goes out"),
    EventKind(
        "model_request_completed",
        "request",
        "attempt",
        "the call has its answer, or failed",
        "outcome",
        (
            PayloadField("duration_seconds", "float", "time at the provider", "s"),
            PayloadField("prompt_tokens", "int", "tokens in"),
            PayloadField("completion_tokens", "int", "tokens out"),
            PayloadField("cached_tokens", "int", "of those in, from the provider's cache"),
            PayloadField("reasoning_tokens", "int", "of those out, for reasoning"),
            PayloadField("cost", "float", "as the provider or the workflow's price says", "USD"),
            PayloadField("error_type", "str", "type of the error"),
            *_ANSWERED,
            PayloadField("finish_reason", "str", "why the answer ended"),
            PayloadField("verdict", "str", "class of an answer that is not as it should be"),
            PayloadField("action", "str", "`accept`, `retry` or `drop`: what became of it"),
            PayloadField("first_token_seconds", "float", "time to the first token", "s"),
        ),
        shed=False,
    ),
    EventKind(
        "request_rate_limited",
        "request",
        "resource",
        "the provider refused a call because of load",
        payload=(
            _RETRY_AFTER,
            PayloadField("retry_after_said", "float", "the same, where it is not obeyed", "s"),
            _CLASS,
            _STATUS,
            _CODE,
            _BLOCKED_UNTIL,
            PayloadField("cut", "bool", "whether this refusal lowered the ceiling"),
        ),
        significance="failure",
    ),
    EventKind(
        "request_outage",
        "request",
        "resource",
        "the resource answers nobody, or does again",
        "`opened`, `probe_failed`, `closed`",
        (
            *_ANSWERED,
            PayloadField("since", "float", "when it was opened", "monotonic s"),
            PayloadField("failures", "int", "failures in a row that opened it"),
            PayloadField("probes", "int", "probes that have failed"),
            PayloadField("next_probe_at", "float", "when it is probed again", "monotonic s"),
            PayloadField("duration_seconds", "float", "how long it lasted", "s"),
            PayloadField("confirmed", "bool", "true if a probe has failed"),
        ),
        "failure",
        shed=False,
        published=False,
    ),
    EventKind(
        "request_suspended",
        "request",
        "resource",
        "the resource answers nobody until a person acts",
        "class of the failure",
        (
            *_ANSWERED[1:],
            PayloadField("returns_in_seconds", "float", "until a quota is said to be back", "s"),
        ),
        "failure",
        shed=False,
        published=False,
    ),
    EventKind(
        "request_rate_budget_observed",
        "request",
        "resource",
        "the provider told of one of its budgets",
        "`requests`, `tokens`, `input_tokens`, `output_tokens`",
        (
            PayloadField("limit", "int", "size of the budget"),
            PayloadField("remaining", "int", "what is left of it"),
            PayloadField("reset_seconds", "float", "until it is whole again", "s"),
        ),
        published=False,
    ),
    EventKind(
        "request_limit_decreased",
        "request",
        "resource",
        "the ceiling is lower",
        "`rate_limited`, `carried`, `registration`, `plateau`",
        (
            _PREVIOUS,
            _CURRENT,
            PayloadField("soft_ceiling", "int", "from where on it grows slowly"),
            _BLOCKED_UNTIL,
            _RETRY_AFTER,
        ),
        "failure",
    ),
    EventKind(
        "request_limit_increased",
        "request",
        "resource",
        "the ceiling is higher",
        "`successes`, `ramp`, `registration`, `outage_over`, `plateau`",
        (_PREVIOUS, _CURRENT, PayloadField("successes", "int", "successes that it took")),
        "progress",
    ),
    EventKind(
        "request_soft_ceiling_recovered",
        "request",
        "resource",
        "the ceiling is where it was before it was cut",
        payload=(_CURRENT,),
        significance="progress",
    ),
    EventKind(
        "request_fully_recovered",
        "request",
        "resource",
        "the ceiling is at its maximum again",
        payload=(_CURRENT,),
        significance="progress",
    ),
    EventKind(
        "request_lease_released",
        "request",
        "attempt",
        "the call's slot is free again",
        "outcome",
        shed=False,
    ),
    EventKind(
        "request_release_diagnostic",
        "request",
        "attempt",
        "a release that matches no live lease",
        _RELEASE_DIAGNOSTIC,
        significance="failure",
    ),
)

BY_NAME: dict[str, EventKind] = {kind.name: kind for kind in EVENT_KINDS}


def kinds_of(stream: Stream) -> frozenset[str]:
    """Names of all kinds of `stream`."""
    return frozenset(kind.name for kind in EVENT_KINDS if kind.stream == stream)


ALL_SCHEDULER_KINDS = kinds_of("scheduler")
ALL_REQUEST_KINDS = kinds_of("request")
OUTSIDE_NUMBERING = frozenset(
    {"recording_gap", "loop_blocked", "process_paused", "scheduler_loop_heartbeat"}
)
"""Kinds whose events may have number 0: then they are no part of the producer's own count."""
NEVER_SHED = frozenset(kind.name for kind in EVENT_KINDS if not kind.shed)


def stream_of(kind: str) -> Stream | None:
    """Stream of a known kind, else None."""
    known = BY_NAME.get(kind)
    return None if known is None else known.stream


def significance_of(kind: str) -> Significance:
    """Significance of `kind`; an unknown one is routine."""
    known = BY_NAME.get(kind)
    return "routine" if known is None else known.significance
