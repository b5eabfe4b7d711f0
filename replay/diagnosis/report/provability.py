"""What the stream of a producer tells, and what no event of it can ever prove."""

from __future__ import annotations

from engine.events import RunInfo
from replay.diagnosis.verdicts import BY_NAME, model_of
from replay.diagnosis.verdicts.requests import REQUEST_STREAM


def not_provable(run: RunInfo) -> tuple[str, ...]:
    """Names of verdicts."""
    lacking = [
        name
        for name, kind in sorted(BY_NAME.items())
        if kind.proved_from and any(lack.startswith(kind.proved_from) for lack in run.lacks)
    ]
    foreign = [
        name
        for name, kind in BY_NAME.items()
        if kind.needs_known_policy and run.producer != "headgate"
    ]
    return (*lacking, *foreign)


def tells_of_calls(run: RunInfo) -> bool:
    """Whether the stream of this producer has events of single calls."""
    return not any(lack.startswith(REQUEST_STREAM) for lack in run.lacks)


def called_models(run: RunInfo) -> dict[str, str]:
    """The model that each column calls."""
    return {
        column.name: model_of(column.request_resource)
        for column in run.columns
        if column.request_resource
    }
