"""`ConsoleApp`: one session, its screens, and the keys that move its cursor."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.events import Key, Resize
from textual.filter import LineFilter
from textual.screen import Screen

from console.controls import GENERAL, LISTS, OUTPUT, SCREENS, SHARE, TIME, Control, bindings
from console.goto import Target, resolve
from console.outcome import OpenRun, StartView
from console.paint import AsciiFilter, clean
from console.playback_mode import SPEEDS, View, is_too_small, mode_of
from console.screens.base import FrameScreen
from console.screens.capacity import CapacityScreen
from console.screens.ceilings import CeilingsScreen
from console.screens.dialogs import GoToDialog, QuitAnswer, QuitDialog
from console.screens.errors import ErrorsScreen
from console.screens.events import EventsScreen
from console.screens.filters import Filtered
from console.screens.help import HelpScreen
from console.screens.leases import LeasesScreen
from console.screens.output import OutputWindow
from console.screens.overview import OverviewScreen
from console.screens.questions import FilterDialog
from console.screens.queue import QueueScreen
from console.screens.runs import RunActions, RunsScreen
from console.screens.stalls import StallsScreen
from console.session_thread import Command, SessionLike, SessionThread
from console.terminal_app import TerminalApp
from console.theme import Appearance, prefers_dark, textual_theme
from engine.events.run_index import index_home
from replay.playback.frame import Frame
from replay.sources.base import SourceError

TICK_SECONDS = 0.25


class ConsoleApp(TerminalApp):
    """Shows one session; returns `quit`, `stop` where the user wants the run to be stopped, or the
    run that is to be opened in its place.

    The session belongs to a thread of the app while it runs, and to the caller before and after;
    the caller closes it.
    """

    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(LISTS),
        *bindings(SCREENS),
        *bindings(TIME),
        *bindings(OUTPUT),
        *bindings(SHARE),
        *bindings(GENERAL),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(
        self,
        session: SessionLike,
        *,
        title: str = "",
        on_quit: Literal["leave", "ask"] = "leave",
        output: Path | None = None,
        ascii_only: bool = False,
        follow: bool = True,
        tick_seconds: float | None = TICK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        run_actions: RunActions | None = None,
        start: StartView | None = None,
        copies: Path | None = None,
    ) -> None:
        """Create the app.

        Args:
            session: The session to show.
            title: Name of the run for the header.
            on_quit: "ask" whether the run goes on; for a run that this command has started.
            output: The file that the run's script prints to, if it is kept.
            ascii_only: Draw with ASCII characters only.
            follow: Follow the newest event; False plays from the first one.
            tick_seconds: Longest time between two turns; None waits until one is requested.
            clock: Monotonic time in seconds.
            run_actions: What the list of runs reads and does.
            start: The view to open with.
            copies: Folder of the file that keeps what was copied last.
        """
        colour = not os.environ.get("NO_COLOR")
        super().__init__(ansi_color=None if colour else True)
        dark = prefers_dark(os.environ)
        self.appearance = Appearance(dark=dark, colour=colour, ascii_only=ascii_only)
        for variant in (True, False):
            self.register_theme(textual_theme(dark=variant))
        if colour:
            self.theme = textual_theme(dark=dark).name
        self.title = title
        self._dark = dark
        self._on_quit = on_quit
        self._output = output
        self._tick_seconds = tick_seconds
        self._clock = clock
        self._run_actions = run_actions
        self._start = start
        self._copies = copies if copies is not None else index_home().parent
        self._session_thread = SessionThread(session)
        self._frame: Frame | None = None
        self._frame_at = 0.0
        self._event_at = 0.0
        self._playing = not follow
        self._speed = 1.0
        self._resume_follows = False
        self._problem = ""
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._header_state: tuple[Any, ...] = ()
        self._pages: dict[str, FrameScreen] = {
            "overview": OverviewScreen(self.appearance, title),
            "queue": QueueScreen(self.appearance, title),
            "ceilings": CeilingsScreen(self.appearance, title),
            "leases": LeasesScreen(self.appearance, title),
            "stalls": StallsScreen(self.appearance, title),
            "events": EventsScreen(self.appearance, title),
            "capacity": CapacityScreen(self.appearance, title),
            "errors": ErrorsScreen(self.appearance, title),
        }
        if follow:
            self._session_thread.push(lambda session: session.follow())
        else:
            self._session_thread.push(lambda session: session.seek_ordinal(1))

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, AsciiFilter()] if self.appearance.ascii_only else filters

    # -- frames --------------------------------------------------------------------------------

    def on_mount(self) -> None:
        for name, page in self._pages.items():
            self.install_screen(page, name)  # kept, not removed, while another is on view
        self.push_screen(self._pages["overview"])
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
                    await asyncio.wait_for(self._wake.wait(), self._tick_seconds)
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
        frame = await self._session_thread.turn(page.want(), speed, elapsed)
        if frame is None:
            self._show_header()
            return
        now = self._clock()
        if self._frame is None or frame.last_ordinal != self._frame.last_ordinal:
            self._event_at = now
        self._frame, self._frame_at = frame, now
        if self._start is not None and frame.last_ordinal and not self._session_thread.behind:
            start, self._start = self._start, None
            self._open_view(start)
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

    def _view(self, frame: Frame) -> View:
        mode = mode_of(frame, self._playing)
        now = self._clock()
        clock, quiet = frame.at - frame.t0, 0.0
        if mode == "LIVE":
            clock = float(int(clock + max(0.0, now - self._frame_at)))
            quiet = float(int(max(0.0, now - self._event_at)))
        return View(mode, self._speed if self._playing else None, clock, quiet, self._problem)

    @property
    def page(self) -> FrameScreen | None:
        """The page that is shown, also below a dialog."""
        for screen in reversed(self.screen_stack if self._screen_stacks else []):
            if isinstance(screen, FrameScreen):
                return screen
        return None

    # -- the cursor ----------------------------------------------------------------------------

    def _command(self, command: Command) -> None:
        self._session_thread.push(command)
        self.request_frame()

    def _move(self, command: Command) -> None:
        """Move the cursor, and hold it where it then is."""
        self._playing = False
        self._resume_follows = False

        def held(session: SessionLike) -> None:
            session.hold()
            command(session)

        self._command(held)

    def seek_time(self, time: float) -> None:
        self._move(lambda session: session.seek_time(time))

    def seek_ordinal(self, ordinal: int) -> None:
        self._move(lambda session: session.seek_ordinal(ordinal))

    def seek_match(self, condition: str, direction: int) -> None:
        self._move(lambda session: session.seek_match(condition, direction))

    def action_step(self, delta: int) -> None:
        self._move(lambda session: session.step(delta))

    def action_stall(self, direction: int) -> None:
        self._move(lambda session: session.seek_stall(direction))

    def action_start(self) -> None:
        self.seek_ordinal(1)

    def action_end(self) -> None:
        self.action_follow()

    def action_follow(self) -> None:
        self._playing = False
        self._resume_follows = False
        self._command(lambda session: session.follow())

    def action_toggle_play(self) -> None:
        """Pause, or play from here; a live run paused at its newest event is followed again."""
        frame = self._frame
        if frame is None:
            return
        if self._playing:
            self._playing = False
            self._command(lambda session: session.hold())
        elif self._resume_follows:
            self.action_follow()
        elif frame.following and frame.liveness == "live":
            self._resume_follows = True
            self._command(lambda session: session.hold())
        else:
            at_end = frame.ordinal >= frame.last_ordinal
            self._playing = True

            def play(session: SessionLike) -> None:
                session.hold()
                if at_end:
                    session.seek_ordinal(1)

            self._command(play)

    def action_slower(self) -> None:
        self._change_speed(-1)

    def action_faster(self) -> None:
        self._change_speed(1)

    def _change_speed(self, by: int) -> None:
        index = SPEEDS.index(self._speed) + by
        self._speed = SPEEDS[max(0, min(index, len(SPEEDS) - 1))]
        self._show_header()

    def action_ask_time(self) -> None:
        self.push_screen(GoToDialog(self.appearance, self._refusal), self._go_to)

    def on_key(self, event: Key) -> None:
        """Pass on a key that was typed while a dialog with a text was opening."""
        if (
            isinstance(self.screen, GoToDialog | FilterDialog)
            and event.is_printable
            and event.character
        ):
            self.screen.type_ahead(event.character)

    def _refusal(self, target: Target) -> str:
        place = resolve(target, self._frame) if self._frame is not None else "Nothing is read yet."
        return place if isinstance(place, str) else ""

    def _go_to(self, target: Target | None) -> None:
        frame = self._frame
        if target is None or frame is None:
            return
        place = resolve(target, frame)
        if isinstance(place, str):
            self._problem = place
        elif place.ordinal is not None:
            self.seek_ordinal(place.ordinal)
        elif place.time is not None:
            self.seek_time(place.time)

    def _open_view(self, start: StartView) -> None:
        page = self._pages.get(start.screen)
        if isinstance(page, Filtered) and start.where:
            page.apply_filter(start.where)
        if start.screen:
            self.action_go(start.screen)
        self._go_to(start.target)

    # -- what is carried away -------------------------------------------------------------------

    @property
    def view_command(self) -> str:
        """The command that opens this view again."""
        frame, page = self._frame, self.page
        words = ["headgate", "replay", str(self.title)]
        if frame is not None:
            words += ["--at", f"#{frame.ordinal}"]
        if page is not None:
            words += ["--screen", page.page_name.lower()]
        if isinstance(page, Filtered) and page.filter_text:
            words += ["--where", page.filter_text]
        return shlex.join(words)

    def action_copy_view(self) -> None:
        self._copy(self.view_command)

    def action_copy_verdict(self) -> None:
        page, frame = self.page, self._frame
        if page is None or frame is None:
            return
        said = page.markdown(frame)
        self._copy(f"{said}\n\n`{self.view_command}`\n")

    def _copy(self, text: str) -> None:
        """Ask the terminal to put it on the clipboard (OSC 52), which not every terminal does, so
        it is written to a file too."""
        self.copy_to_clipboard(text)
        path = self._copies / "copied.txt"
        try:
            self._copies.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            where = f"the terminal was asked to copy it; {path}: {error.strerror}"
        else:
            where = f"copied by the terminal, if it can (OSC 52); also in {path}"
        self.notify(f"{clean(text.splitlines()[0])}\n{clean(where)}", title="Copied", markup=False)

    # -- the console ---------------------------------------------------------------------------

    def action_go(self, page: str) -> None:
        if self.page is not self._pages[page] and self.screen is self.page:
            self.switch_screen(self._pages[page])

    def action_runs(self) -> None:
        if self.screen is self.page:
            self.push_screen(RunsScreen(self.appearance, self._run_actions), self._open_run)

    def action_compare(self) -> None:
        """Choose the other run in the list, where this one is marked."""
        if self.screen is self.page:
            run_id = self._frame.run.run_id if self._frame is not None else ""
            listed = RunsScreen(self.appearance, self._run_actions, mark=run_id)
            self.push_screen(listed, self._open_run)

    def _open_run(self, run: OpenRun | None) -> None:
        if run is not None:
            self.exit(run)

    def action_help(self) -> None:
        page = self.page
        if page is not None and self.screen is page:
            controls = (*page.controls, *self.extra_controls)
            self.push_screen(HelpScreen(self.appearance, page.page_name, controls))

    @property
    def extra_controls(self) -> tuple[Control, ...]:
        """Controls that this run has beyond those of every run."""
        return OUTPUT if self._output is not None else ()

    def action_output(self) -> None:
        if self._output is not None and self.screen is self.page:
            self.push_screen(OutputWindow(self.appearance, self._output))

    def action_toggle_dark(self) -> None:
        self._dark = not self._dark
        self.appearance.use(dark=self._dark)
        if self.appearance.palette.colour:
            self.theme = textual_theme(dark=self._dark).name
        for page in self._pages.values():
            if page.is_mounted:
                page.redraw_all()

    def action_leave(self) -> None:
        if self._on_quit == "ask" and self.run_goes_on:
            scripts = self._output is not None
            on_stop = "as Ctrl+C in it would" if scripts else "work in flight is drained"
            self.push_screen(QuitDialog(self.appearance, on_stop), self._answered)
        else:
            self.exit("quit")

    def _answered(self, answer: QuitAnswer | None) -> None:
        if answer == "leave":
            self.exit("quit")
        elif answer == "stop":
            self.exit("stop")

    async def action_quit(self) -> None:
        """Ctrl+Q does the same as `q`."""
        self.action_leave()

    def action_interrupt(self) -> None:
        """Ctrl+C does the same as `q`, and stops the run where that is the question already."""
        if isinstance(self.screen, QuitDialog):
            self.screen.dismiss("stop")
        else:
            self.action_leave()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette offers the same controls as the keys."""
        page = self.page
        own = page.controls if page is not None else ()
        for control in (*LISTS, *SCREENS, *TIME, *self.extra_controls, *SHARE, *GENERAL, *own):
            if control.command:
                yield SystemCommand(
                    control.help, f"Key: {control.shown}", self._runner(control.action)
                )

    def _runner(self, action: str) -> Callable[[], Any]:
        async def run() -> None:
            await self.run_action(action, self)

        return run
