"""Which verdicts no event of a producer can ever prove, so that their absence says nothing."""

from __future__ import annotations

from engine.events import RunInfo

_NEEDS = {
    "event_loop_lag": "loop heartbeat",
    "provider_latency": "request stream",
    "request_ramp": "changes of wait reasons",
}
"""What a verdict is proved from, as `RunInfo.lacks` begins to name it."""
_OF_KNOWN_POLICY = ("lost_wakeup",)
"""An independent selection proves them, and that of a foreign producer is not known."""


def not_provable(run: RunInfo) -> tuple[str, ...]:
    """Names of verdicts."""
    lacking = [
        verdict
        for verdict, needed in _NEEDS.items()
        if any(lack.startswith(needed) for lack in run.lacks)
    ]
    foreign = _OF_KNOWN_POLICY if run.producer != "headgate" else ()
    return (*lacking, *foreign)
