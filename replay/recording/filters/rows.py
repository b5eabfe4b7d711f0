"""Events, verdicts and leases as rows of their views, for predicates.

The values are those that the views compute from what is stored; times are run time.
"""

from __future__ import annotations

from engine.events import Event, RequestEvent


def event_view_row(event: Event, ordinal: int, t0: float) -> dict[str, object]:
    """An event by the columns of the view `events`."""
    correlation = event.captured_correlation
    row: dict[str, object] = {
        "ordinal": ordinal,
        "t": event.captured_at_monotonic - t0,
        "kind": event.event_kind,
        "task_column": correlation.task_column if correlation is not None else None,
        "row_group": correlation.row_group if correlation is not None else None,
    }
    if isinstance(event, RequestEvent):
        key = event.request_resource_key
        resource = None if key is None else f"{key.provider_name}/{key.model_id}/{key.domain}"
        return row | {
            "stream": "request",
            "attempt_id": event.request_attempt_id,
            "lease_id": event.request_lease_id,
            "resource": resource,
            "reason": event.reason_or_outcome,
        }
    return row | {
        "stream": "scheduler",
        "task_id": event.task_id,
        "lease_id": event.task_lease_id,
        "resource": event.scheduler_resource_key,
        "reason": event.reason_or_result,
    }
