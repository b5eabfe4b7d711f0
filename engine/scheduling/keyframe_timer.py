"""`KeyframeTimer`: when is the next keyframe due, and how late does the event loop run?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from engine.clock import Clock
from engine.events import EventStream
from engine.watch.loop_watch import LoopWatch


class KeyframeTimer:
    """Requests keyframes by time and by number of events, and emits heartbeats.

    A keyframe that is due by time is omitted if there were only heartbeats since the last one.

    Args:
        emit_keyframe: Called with the reason when a keyframe is due.
        keyframe_seconds: Most seconds between keyframes.
        keyframe_events: Most events between keyframes.
        heartbeat_seconds: Seconds between heartbeats; a heartbeat reports by how much the loop
            called it late.
        loop_watch: Watches the loop while the timers run, and adds to each heartbeat; None under
            virtual time.
    """

    def __init__(
        self,
        stream: EventStream,
        clock: Clock,
        emit_keyframe: Callable[[str], None],
        *,
        keyframe_seconds: float,
        keyframe_events: int,
        heartbeat_seconds: float,
        loop_watch: LoopWatch | None,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._emit_keyframe = emit_keyframe
        self._keyframe_seconds = keyframe_seconds
        self._keyframe_events = keyframe_events
        self._heartbeat_seconds = heartbeat_seconds
        self._loop_watch = loop_watch
        self._heartbeat_at = 0.0
        self._events_at_keyframe = 0
        self._quiet_since = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the timers, unless no sink takes the scheduler stream."""
        if not self._stream.scheduler_enabled:
            return
        self._loop = loop
        self._stream.after_flush = self._check_count
        self._heartbeat_at = self._clock.monotonic()
        if self._loop_watch is not None:
            self._loop_watch.start(loop)
        self._expect_heartbeat()
        self._expect_keyframe()

    def stop(self) -> None:
        if self._loop_watch is not None and self._loop is not None:
            self._loop_watch.stop()
            now = self._clock.monotonic()
            self._emit_heartbeat(now, now - self._heartbeat_at, 0.0)
        if self._stream.after_flush == self._check_count:
            self._stream.after_flush = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._loop = None

    def note_keyframe(self) -> None:
        """A keyframe was emitted, for whatever reason."""
        self._events_at_keyframe = self._quiet_since = self._events()

    def _check_count(self) -> None:
        if self._loop_watch is not None:
            self._loop_watch.sign(self._clock.monotonic())
        if self._events() - self._events_at_keyframe >= self._keyframe_events:
            self._emit_keyframe("periodic")

    def _events(self) -> int:
        return self._stream.scheduler_sequence + self._stream.request_sequence

    def _expect_keyframe(self) -> None:
        if self._loop is not None:
            self._timers["keyframe"] = self._loop.call_later(self._keyframe_seconds, self._tick)

    def _tick(self) -> None:
        if self._events() != self._quiet_since:
            self._emit_keyframe("periodic")
        self._expect_keyframe()

    def _expect_heartbeat(self) -> None:
        if self._loop is not None:
            due = self._clock.monotonic() + self._heartbeat_seconds
            self._timers["heartbeat"] = self._loop.call_later(
                self._heartbeat_seconds, self._beat, due
            )

    def _beat(self, due: float) -> None:
        now = self._clock.monotonic()
        quiet = self._events() == self._quiet_since
        self._emit_heartbeat(now, self._heartbeat_seconds, max(0.0, now - due))
        if quiet:
            self._quiet_since = self._events()
        self._expect_heartbeat()

    def _emit_heartbeat(self, now: float, period: float, drift: float) -> None:
        diagnostics: dict[str, Any] = {"period": period, "drift": drift}
        if self._loop_watch is not None:
            diagnostics.update(self._loop_watch.report())
        self._heartbeat_at = now
        self._stream.scheduler("scheduler_loop_heartbeat", diagnostics=diagnostics, at=now)
