"""`FramesApp`: a session's frames, one after the other, on the page that is shown."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from textual.command import CommandPalette
from textual.events import Resize

from console.playback_mode import MOST_LAG, PlaybackView, is_too_small, mode_of
from console.screens.base import FrameScreen
from console.screens.dialogs import QuitDialog
from console.session_thread import Command, SessionLike, SessionThread
from console.surroundings import Surroundings
from console.terminal_app import TerminalApp
from replay.playback.frame import Frame, Want
from replay.sources.base import SourceError


class FramesApp(TerminalApp):
    """The session belongs to a thread of the app while it runs, and to the caller before and after;
    the caller closes it."""

    def __init__(
        self,
        session: SessionLike,
        *,
        surroundings: Surroundings,
        ansi_color: bool | None = None,
    ) -> None:
        """
        Args:
            session: The session to show.
            surroundings: Clocks and folders.
            ansi_color: As for Textual's `App`.
        """
        super().__init__(ansi_color=ansi_color)
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._session_thread = SessionThread(session)
        self._frame: Frame | None = None
        self._frame_at = 0.0
        self._event_at = 0.0
        self._began = False
        self._reading = False
        """The source is read to its end before anything is shown as its state."""
        self._playing = False
        self._speed = 1.0
        self._problem = ""
        self._most_lag = MOST_LAG
        self._utc = False
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._header_state: tuple[Any, ...] = ()

    def on_first_frame(self, frame: Frame) -> None:
        """Called once, with the first frame that has read all there was."""

    def on_frame(self, frame: Frame) -> None:
        """Called with each frame, before it is shown."""

    def wanted(self, page: FrameScreen) -> Want:
        """What the next frame must hold."""
        return page.want()

    def on_mount(self) -> None:
        self.run_worker(self._feed(), name="frames", exit_on_error=False)

    def on_unmount(self) -> None:
        self._session_thread.stop()

    def on_resize(self, event: Resize) -> None:
        """Textual's palette fails where its list has no room."""
        screen = self.screen_stack[-1] if self.screen_stack else None
        if isinstance(screen, CommandPalette) and is_too_small(*event.size):
            screen.dismiss()

    def request_frame(self) -> None:
        """Ask for a frame now instead of at the next tick."""
        self._settled.clear()
        self._wake.set()

    async def settle(self) -> None:
        """Wait until everything requested so far is on the screen."""
        await self._settled.wait()

    async def _feed(self) -> None:
        """Run a turn per tick, or at once when one was requested or there is more to read."""
        last = self._clock()
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._surroundings.tick_seconds)
                self._wake.clear()
                now = self._clock()
                await self._turn(now - last)
                last = now
                if self._session_thread.behind:
                    self._wake.set()
                if not self._wake.is_set() and not self._session_thread.pending:
                    self._settled.set()
        except SourceError as error:
            self._problem = str(error)
            self._show_header()
        except Exception as error:
            if not self._exit:  # the screens are removed while a last frame is still read
                self.failure = self.failure or error
                self.exit()
        finally:
            self._settled.set()

    async def _turn(self, elapsed: float) -> None:
        page = self.page
        if page is None or not page.is_mounted:
            return
        speed = self._speed if self._playing else None
        frame = await self._session_thread.turn(self.wanted(page), speed, elapsed)
        if frame is None:
            if self._frame is not None and page.frame is not self._frame:
                page.show(self._frame, self._view(self._frame))  # the page before wanted the same
            else:
                self._show_header()
            return
        now = self._clock()
        if self._frame is None or frame.last_ordinal != self._frame.last_ordinal:
            self._event_at = now
        self._frame, self._frame_at = frame, now
        if not self._began and frame.last_ordinal and not self._session_thread.behind:
            self._began = True
            self.on_first_frame(frame)
        self.on_frame(frame)
        at_end = frame.ordinal >= frame.last_ordinal
        if self._playing and at_end and not self._session_thread.behind:
            self._playing = False
            if frame.liveness == "live":
                self._command(lambda session: session.follow())
        current = self.page
        if current is not None and current.is_mounted:
            view = self._view(frame)
            self._header_state = (view, current)
            current.show(frame, view)
        if isinstance(self.screen, QuitDialog) and not self.run_goes_on:
            self.screen.dismiss("cancel")

    @property
    def run_goes_on(self) -> bool:
        return self._frame is None or self._frame.liveness in ("live", "waiting")

    def _show_header(self) -> None:
        """Draw only the header: the clock of a live run goes on between events."""
        frame, page = self._frame, self.page
        if frame is None or page is None or not page.is_mounted:
            return
        view = self._view(frame)
        if self._header_state != (view, page):
            self._header_state = (view, page)
            page.show_view(frame, view)

    def _view(self, frame: Frame) -> PlaybackView:
        mode = mode_of(frame, self._playing, self._most_lag)
        if self._reading and not self._began and frame.last_ordinal:
            mode = "READING"
        now = self._clock()
        clock, quiet = frame.at - frame.t0, 0.0
        if mode == "LIVE":
            clock = float(int(clock + max(0.0, now - self._frame_at)))
            quiet = float(int(max(0.0, now - self._event_at)))
        return PlaybackView(
            mode,
            self._speed if self._playing else None,
            clock,
            quiet,
            self._wall_clock(frame, clock),
            self._problem,
        )

    def _wall_clock(self, frame: Frame, run_time: float) -> str:
        """The time of the day at a run time, here or in UTC."""
        at = frame.wall_clock.at(frame.t0 + run_time)
        if at is None or not frame.last_ordinal:
            return ""
        try:
            there = time.gmtime(at) if self._utc else self._surroundings.local(at)
        except (OverflowError, ValueError, OSError):  # a clock of no year that there is
            return ""
        return time.strftime("%H:%M:%S", there) + (" UTC" if self._utc else "")

    def action_toggle_utc(self) -> None:
        self._utc = not self._utc
        self._show_header()

    @property
    def page(self) -> FrameScreen | None:
        """The page that is shown, also below a dialog."""
        for screen in reversed(self.screen_stack if self._screen_stacks else []):
            if isinstance(screen, FrameScreen):
                return screen
        return None

    def _command(self, command: Command) -> None:
        self._session_thread.push(command)
        self.request_frame()
