"""The places in Data Designer where its events can be had, and what sits there.

`create_resource_provider` takes a sink for each stream: they get headgate's as well. A sink of
request events there gets the calls to models alone, so admission events come by subscription.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from headgate_bootstrap import control
from headgate_bootstrap.recorder import Preparation, Recorder

HOOKED = "data_designer.engine.resources.resource_provider"
FACTORY = "create_resource_provider"
SCHEDULER_SINK, REQUEST_SINK = "scheduler_event_sink", "request_event_sink"
OBSERVABILITY = "data_designer.engine.observability"
SUBSCRIBE = "subscribe_request_admission_events"
CALLS = "model_request_"

_hooked = False


def hook(module: Any) -> None:
    """Wrap the factory in its module, before anyone imports it from there."""
    global _hooked
    parent = control.open_control()
    if parent is None:
        return
    _hooked = True
    create = getattr(module, FACTORY, None)
    parameters = inspect.signature(create).parameters if callable(create) else {}
    lacks = [name for name in (SCHEDULER_SINK, REQUEST_SINK) if name not in parameters]
    if create is None or SCHEDULER_SINK in lacks:
        _unknown(parent, "nothing of its runs can be recorded")
        return
    recorder = Recorder(parent)
    if not _subscribe(recorder):
        lacks.append(SUBSCRIBE)
    if lacks:
        _unknown(parent, "its requests to models are recorded in part or not at all")
    setattr(module, FACTORY, _watched(create, recorder, REQUEST_SINK in parameters))


def noticed() -> None:
    """Data Designer is in use: at the end it must be known whether it could be watched."""
    parent = control.open_control()
    if parent is not None:
        parent.mark("seen")
        atexit.register(_check, parent)


def _check(parent: control.Control) -> None:
    """Its public class was imported, or its module can't be, and yet there was nothing to wrap."""
    if _hooked:
        return
    folder = f"/{HOOKED.replace('.', '/')}.py"
    paths = getattr(sys.modules.get("data_designer"), "__path__", ())
    missing = not any(os.path.exists(os.path.dirname(path) + folder) for path in paths)
    if missing or "data_designer.interface.data_designer" in sys.modules:
        _unknown(parent, "nothing of its runs can be recorded")


def _unknown(parent: control.Control, what: str) -> None:
    parent.warn(
        "version",
        f"this version of Data Designer is not the one that headgate knows: {what}",
    )


def _subscribe(recorder: Recorder) -> bool:
    subscribe = getattr(sys.modules.get(OBSERVABILITY), SUBSCRIBE, None)
    if subscribe is None:
        return False

    def receive(event: Any) -> None:
        if not str(getattr(event, "event_kind", "")).startswith(CALLS):
            recorder.take(None, True, event)

    try:
        subscribe(receive)
    except Exception:
        return False
    return True


def _watched(create: Callable[..., Any], recorder: Recorder, with_calls: bool) -> Any:
    @functools.wraps(create)
    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            storage = kwargs.get("artifact_storage")
            preparation = recorder.prepare(getattr(storage, "dataset_name", None))
            own: dict[str, Any] = {
                SCHEDULER_SINK: SchedulerSink(recorder, preparation, kwargs.get(SCHEDULER_SINK))
            }
            if with_calls:
                own[REQUEST_SINK] = RequestSink(recorder, preparation, kwargs.get(REQUEST_SINK))
        except Exception:
            own = {}
        return create(*args, **{**kwargs, **own})

    return watched


class SchedulerSink:
    """Passes each event to the sink that was here before, as before, and to the recorder."""

    def __init__(self, recorder: Recorder, preparation: Preparation, before: Any) -> None:
        self._recorder = recorder
        self._preparation = preparation
        self._before = before

    def accepts_scheduler_event(self, event_kind: str) -> bool:
        return True

    def emit_scheduler_event(self, event: Any) -> None:
        self._recorder.take(self._preparation, False, event)
        before = self._before
        if before is None:
            return
        accepts = getattr(before, "accepts_scheduler_event", None)
        if accepts is None or accepts(event.event_kind):
            before.emit_scheduler_event(event)


class RequestSink:
    """As `SchedulerSink`, for the calls to models: the rest comes by subscription."""

    def __init__(self, recorder: Recorder, preparation: Preparation, before: Any) -> None:
        self._recorder = recorder
        self._preparation = preparation
        self._before = before

    def accepts_request_event(self, event_kind: str) -> bool:
        if event_kind.startswith(CALLS) or self._before is None:
            return event_kind.startswith(CALLS)
        accepts = getattr(self._before, "accepts_request_event", None)
        return accepts is None or bool(accepts(event_kind))

    def emit_request_event(self, event: Any) -> None:
        if event.event_kind.startswith(CALLS):
            self._recorder.take(self._preparation, True, event)
        before = self._before
        if before is None:
            return
        accepts = getattr(before, "accepts_request_event", None)
        if accepts is None or accepts(event.event_kind):
            before.emit_request_event(event)
