"""What an emitted event may carry, by the table of event kinds."""

from __future__ import annotations

from engine.events import Event, RequestEvent
from engine.events.kinds import BY_NAME


def check_declared(event: Event) -> None:
    """Assert that the table declares the stream, the payload and the result of `event`."""
    kind = BY_NAME[event.event_kind]
    is_request = isinstance(event, RequestEvent)
    assert kind.stream == ("request" if is_request else "scheduler")
    declared = {field.name for field in kind.payload}
    assert event.diagnostics.keys() <= declared, (event.event_kind, event.diagnostics)
    result = event.reason_or_outcome if isinstance(event, RequestEvent) else event.reason_or_result
    assert kind.result or not result, (event.event_kind, result)
