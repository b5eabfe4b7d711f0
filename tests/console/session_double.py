"""A session that shows one frame and writes down what was asked of it."""

from __future__ import annotations

from dataclasses import replace

from replay.playback.frame import Frame, Want
from tests.console.focus_parts import focused
from tests.console.frame_parts import make_stretch


class RecordingSession:
    """Moves of the cursor change only the ordinal, time and following of its frame."""

    def __init__(self, frame: Frame) -> None:
        self.shown = frame
        self.calls: list[str] = []
        self.wants: list[Want] = []
        self.changed = False
        self.left_to_read = 0
        self.refreshed = 0
        self.failure: Exception | None = None

    @property
    def behind(self) -> bool:
        return self.left_to_read > 0

    def refresh(self, budget_seconds: float = 0.1) -> bool:
        if self.failure is not None:
            raise self.failure
        self.refreshed += 1
        self.left_to_read = max(0, self.left_to_read - 1)
        changed, self.changed = self.changed, False
        return changed

    def follow(self) -> None:
        self.calls.append("follow")

    def hold(self) -> None:
        self.calls.append("hold")
        self.shown = replace(self.shown, following=False)

    def step(self, delta: int) -> None:
        self.calls.append(f"step {delta}")
        self.shown = replace(self.shown, ordinal=self.shown.ordinal + delta)

    def seek_ordinal(self, n: int) -> None:
        self.calls.append(f"seek_ordinal {n}")
        self.shown = replace(self.shown, ordinal=n)

    def seek_time(self, t: float) -> None:
        self.calls.append(f"seek_time {t:.1f}")
        self.shown = replace(self.shown, at=t)

    def seek_stall(self, direction: int) -> None:
        self.calls.append(f"seek_stall {direction}")

    def seek_match(self, condition: str, direction: int) -> None:
        self.calls.append(f"seek_match {direction} {condition}")

    def advance(self, seconds: float) -> None:
        self.calls.append(f"advance {seconds:g}")

    def frame(self, want: Want) -> Frame:
        self.wants.append(want)
        frame = self.shown
        if want.focus is not None:
            frame = replace(frame, focused=focused(want.focus, frame))
        if want.stretch is not None:
            start, end = want.stretch
            stretch = replace(make_stretch(frame), start=start, end=max(end, start + 1.0))
            frame = replace(frame, stretch=stretch)
        return frame if want.until is None else replace(frame, edge=want.until)
