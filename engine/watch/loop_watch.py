"""`LoopWatch`: does the event loop run, and if not, is it the code, the process or the machine?

Two beats: one on the loop, one on a watchdog thread. A beat of the loop that comes late while the
watchdog was on time is a loop that was blocked; both late is a process that did not run, or code in
C that held the interpreter lock, which the processor time tells apart. While the loop is late the
watchdog looks where its thread is.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from types import FrameType
from typing import Any

from .meter import ProcessUsage, UsageMeter
from .places import CodePlace, Places

BEAT_SECONDS = 0.1
"""From one beat of the loop to the next."""
WATCH_SECONDS = 0.25
"""From one beat of the watchdog to the next."""
LATE_SECONDS = 0.1
"""A beat that is so late is a stall."""
LOOK_SECONDS = 0.05
"""A loop that is so late is looked at."""
TELL_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""A stall that is so long is told while it lasts; beyond the last, every `TELL_EVERY_SECONDS`."""
TELL_EVERY_SECONDS = 10.0
JITTER_SECONDS = 0.004
"""A watchdog that is so late on average waits for the interpreter lock: threads hand it over after
5 ms."""
TICKS_JUDGED = 4
SUSPENDED_SECONDS = 1.0
BUSY_SHARE = 0.8
"""A process that computes so much of the time is looked at, for what it computes; beside busy
neighbours, where its threads wait for the interpreter lock, `COMPUTING_SHARE` is enough."""
COMPUTING_SHARE = 0.1
"""A stall of whose time so much was computed is one of code; a busy machine leaves no more."""
SCARCE_SHARE = 0.3
"""A stall of whose time so much went by without a processor core is one of the machine."""
CLEAR_SECONDS = 0.5
"""A shorter pause may also be that of a thread which held the interpreter lock and had no core."""
MAX_FRAMES, MAX_BUSY_FRAMES = 5, 3

BLOCKED, PAUSED = "loop_blocked", "process_paused"


Emit = Callable[[str, float, str, dict[str, Any]], None]
"""Takes kind, time, reason and payload of an event; is called from either thread."""


class LoopWatch:
    """Watches one loop from `start` to `stop`, both called in the loop's thread.

    Args:
        emit: Takes the events `loop_blocked` and `process_paused`.
        column_of: The column for which a frame works, where that can be seen from it.
        own_folders: Folders whose code is never the user's.
        clock: Monotonic seconds.
        measure: What the process has used; None for the system's own figures.
        stacks: The innermost frame of each thread, by id of the thread.
    """

    def __init__(
        self,
        emit: Emit,
        *,
        column_of: Callable[[FrameType], str | None] = lambda frame: None,
        own_folders: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        measure: Callable[[], ProcessUsage] | None = None,
        stacks: Callable[[], dict[int, FrameType]] = sys._current_frames,
    ) -> None:
        self._emit = emit
        self._places = Places(column_of, own_folders)
        self._clock = clock
        self._meter = UsageMeter() if measure is None else None
        self._measure = self._meter.read if self._meter is not None else measure
        self._stacks = stacks
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread_id = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.begin()
        self._loop = loop
        self._expect()
        threading.Thread(target=self._watch, name="headgate-watchdog", daemon=True).start()

    def begin(self) -> None:
        """Count from now on; without a timer and a thread."""
        self._thread_id = threading.get_ident()
        if self._meter is not None:
            self._meter.open()
        usage = self._now()
        self._at_turn = self._at_tick = self._at_report = usage
        self._turn = usage.at
        self._due = usage.at + BEAT_SECONDS
        self._tick_due = usage.at + WATCH_SECONDS
        self._forgiven_until = usage.at
        self._late_seconds = 0.0
        self._jitter: deque[float] = deque(maxlen=TICKS_JUDGED)
        self._held: list[tuple[float, float]] = []
        self._pauses: list[tuple[str, dict[str, Any]]] = []
        self._seen: Counter[CodePlace] = Counter()
        self._looks = 0
        self._busy: Counter[CodePlace] = Counter()
        self._reports = 0

    def stop(self) -> None:
        """A stall that has just ended is told."""
        self.beat()
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None
        with self._lock:
            if self._meter is not None:
                self._meter.close()

    def sign(self, at: float) -> None:
        """The loop went on at `at`: a stall that begins thereafter began no earlier."""
        if at <= self._due:
            self._turn = at

    def report(self) -> dict[str, Any]:
        """What a heartbeat says of the time since the last report."""
        with self._lock:
            usage = self._now()
            before, self._at_report = self._at_report, usage
            facts: dict[str, Any] = {
                "cpu_seconds": usage.cpu - before.cpu,
                "watch": WATCH_SECONDS,
                "late_seconds": self._late_seconds,
            }
            if usage.core_wait is not None and before.core_wait is not None:
                facts["core_wait"] = usage.core_wait - before.core_wait
            if self._busy:
                facts["frames"] = _frame_payloads(self._busy, MAX_BUSY_FRAMES)
            self._busy.clear()
            self._late_seconds = 0.0
            return facts

    # The loop's beat

    def _expect(self) -> None:
        if self._loop is not None:
            delay = max(0.0, self._due - self._clock())
            self._timer = self._loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self.beat()
        self._expect()

    def beat(self) -> None:
        """The loop runs."""
        with self._lock:
            usage = self._now()
            late = usage.at - self._due
            self._late_seconds += max(0.0, late)
            if late >= LATE_SECONDS:
                self._end_stall(usage)
            self._at_turn = usage
            self._turn = usage.at
            self._due = usage.at + BEAT_SECONDS
            self._held.clear()
            self._pauses.clear()
            self._seen.clear()
            self._looks = self._reports = 0

    def _end_stall(self, usage: ProcessUsage) -> None:
        end = usage.at
        if end - self._tick_due >= LATE_SECONDS / 2:  # the watchdog has not come back yet either
            self._held.append((self._at_tick.at, end))
        held = sum(
            max(0.0, min(until, end) - max(since, self._turn)) for since, until in self._held
        )
        facts = self._used(self._turn, self._at_turn, usage)
        if held >= (end - self._turn) / 2:
            reason = _reason_of_pause(facts, end - self._turn)
            if reason is not None:
                self._emit(PAUSED, end, reason, facts)
                return
            # On a machine without a free core the watchdog may have waited for that instead.
            scarce = facts.get("core_wait", 0.0) >= SCARCE_SHARE * (end - self._turn)
            own = facts.get("loop_cpu_seconds", facts["cpu_seconds"]) >= facts["cpu_seconds"] / 2
            self._tell_blocked("computing" if scarce and own else "interpreter_lock", end, facts)
            return
        for why, pause in self._pauses:
            self._emit(PAUSED, end, why, pause)
        reason = self._reason_of_block(facts, end - self._turn)
        if reason == "waiting" and facts.get("core_wait", 0.0) >= SCARCE_SHARE * (end - self._turn):
            self._emit(PAUSED, end, "starved", facts)
            return
        self._tell_blocked(reason, end, facts)

    def _reason_of_block(self, facts: dict[str, Any], seconds: float) -> str:
        if _computed(facts.get("loop_cpu_seconds", facts["cpu_seconds"]), seconds):
            return "computing"
        unseen = not self._looks  # too short for the watchdog to tell
        contended = facts["cpu_seconds"] >= 0.5 * seconds and (unseen or self._lock_is_contended())
        return "interpreter_lock" if contended else "waiting"

    def _lock_is_contended(self) -> bool:
        return sum(self._jitter) >= JITTER_SECONDS * max(len(self._jitter), 1)

    def _tell_blocked(self, reason: str, at: float, facts: dict[str, Any]) -> None:
        seen = self._seen or self._busy
        others = Counter({code: n for code, n in seen.items() if code.thread is not None})
        loop_cpu = facts.get("loop_cpu_seconds", facts["cpu_seconds"])
        if reason == "interpreter_lock" and others and loop_cpu < facts["cpu_seconds"] / 2:
            seen = others  # where the loop's own thread waited says nothing
        frames = _frame_payloads(seen, MAX_FRAMES)
        self._emit(BLOCKED, at, reason, {**facts, "samples": self._looks, "frames": frames})

    # The watchdog's beat

    def _watch(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._stopped.wait(max(0.0, self._tick_due - self._clock())):
            loop = self._loop
            if loop is None or not loop.is_running():
                return
            self.tick()

    def tick(self) -> None:
        """The watchdog runs."""
        with self._lock:
            if self._stopped.is_set():
                return
            usage = self._now()
            late = max(0.0, usage.at - self._tick_due)
            if late >= LATE_SECONDS:
                self._note_pause(usage)
            self._jitter.append(late)
            overdue = usage.at - max(self._due, self._forgiven_until)
            if usage.at - self._due >= LOOK_SECONDS:
                self._look()
                if overdue >= LATE_SECONDS:
                    self._tell_meanwhile(usage)
            elif usage.cpu - self._at_tick.cpu >= (usage.at - self._at_tick.at) * (
                COMPUTING_SHARE if self._lock_is_contended() else BUSY_SHARE
            ):
                self._look_for_work()
            self._at_tick = usage
            self._tick_due = usage.at + WATCH_SECONDS

    def _note_pause(self, usage: ProcessUsage) -> None:
        """The watchdog itself was late: it could not run, for one of several reasons."""
        if self._due > usage.at:
            return  # the loop was there first, and has told it
        start = max(self._at_tick.at, self._turn)
        self._held.append((start, usage.at))
        self._forgiven_until = usage.at
        facts = self._used(start, self._at_tick, usage)
        reason = _reason_of_pause(facts, usage.at - start)
        if reason is not None:
            self._pauses.append((reason, facts))

    def _tell_meanwhile(self, usage: ProcessUsage) -> None:
        seconds = usage.at - self._turn
        due = (
            TELL_SECONDS[self._reports]
            if self._reports < len(TELL_SECONDS)
            else TELL_SECONDS[-1] + TELL_EVERY_SECONDS * (self._reports - len(TELL_SECONDS) + 1)
        )
        if seconds < due:
            return
        while self._reports < len(TELL_SECONDS) and TELL_SECONDS[self._reports] <= seconds:
            self._reports += 1
        if due > TELL_SECONDS[-1]:
            self._reports += 1
        facts = self._used(self._turn, self._at_turn, usage)
        self._tell_blocked(
            self._reason_of_block(facts, seconds), usage.at, {**facts, "ongoing": True}
        )

    def _look(self) -> None:
        frame = self._stacks().get(self._thread_id)
        if frame is not None:
            self._looks += 1
            self._seen[self._places.of(frame)] += 1
        if self._lock_is_contended():
            self._count_others(self._seen)

    def _look_for_work(self) -> None:
        """Where do the threads compute? Those that wait in the standard library do not."""
        frame = self._stacks().get(self._thread_id)
        if frame is not None and self._places.is_users(frame):
            self._busy[self._places.of(frame)] += 1
        self._count_others(self._busy)

    def _count_others(self, counter: Counter[CodePlace]) -> None:
        own = (self._thread_id, threading.get_ident())
        for thread, frame in self._stacks().items():
            if thread not in own and self._places.is_users(frame):
                counter[self._places.of(frame)._replace(thread="other")] += 1

    # Both

    def _now(self) -> ProcessUsage:
        assert self._measure is not None
        return self._measure()._replace(at=self._clock())

    def _used(self, start: float, before: ProcessUsage, after: ProcessUsage) -> dict[str, Any]:
        seconds = after.at - start
        facts: dict[str, Any] = {
            "from": start,
            "to": after.at,
            "cpu_seconds": after.cpu - before.cpu,
        }
        if after.loop_cpu is not None and before.loop_cpu is not None:
            facts["loop_cpu_seconds"] = min(seconds, after.loop_cpu - before.loop_cpu)
        if after.core_wait is not None and before.core_wait is not None:
            facts["core_wait"] = min(seconds, after.core_wait - before.core_wait)
        if after.suspended - before.suspended >= SUSPENDED_SECONDS:
            facts["suspended_seconds"] = after.suspended - before.suspended
        return facts


def _reason_of_pause(facts: dict[str, Any], seconds: float) -> str | None:
    """Why the whole process did not run; None where it computed all the while."""
    if "suspended_seconds" in facts:
        return "suspended"
    if _computed(facts["cpu_seconds"], seconds):
        return None
    if facts.get("core_wait", 0.0) >= SCARCE_SHARE * seconds:
        return "starved"
    return "stopped" if seconds >= CLEAR_SECONDS else "unclear"


def _computed(cpu_seconds: float, seconds: float) -> bool:
    """Whether a stall is one of code: it would have been late on a machine of its own as well."""
    return cpu_seconds >= max(LATE_SECONDS, COMPUTING_SHARE * seconds)


def _frame_payloads(counter: Counter[CodePlace], most: int) -> list[dict[str, Any]]:
    return [frame.as_payload(count) for frame, count in counter.most_common(most)]
