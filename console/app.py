"""`ConsoleApp`: one session, its screens, and how one goes from one to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from console.controls import (
    GENERAL,
    LISTS,
    OUTPUT,
    RANGE,
    SCREENS,
    SCRIPT_RUNS,
    SHARE,
    TIME,
    Control,
    bindings,
)
from console.driver import TerminalDriver
from console.focus_names import name_of
from console.goto import Target
from console.outcome import OpenRun, StartView
from console.paint import AsciiFilter, clean
from console.palettes import THEMES, Depth
from console.playback_mode import mode_of
from console.screens.base import FrameScreen
from console.screens.call_page import drill_screen
from console.screens.capacity import CapacityScreen
from console.screens.ceilings import CeilingsScreen
from console.screens.dialogs import QuitAnswer, QuitDialog
from console.screens.drill import DrillScreen
from console.screens.errors import ErrorsScreen
from console.screens.events import EventsScreen
from console.screens.filters import Filtered
from console.screens.help import HelpScreen
from console.screens.leases import LeasesScreen
from console.screens.output import OutputWindow
from console.screens.overview import OverviewScreen
from console.screens.queue import QueueScreen
from console.screens.runs import RunActions, RunsScreen
from console.screens.stalls import StallsScreen
from console.screens.things import things
from console.session_thread import SessionLike
from console.settings import SLOW_TICK_SECONDS, Settings
from console.sharing_app import SharingApp
from console.surroundings import Surroundings
from console.terminal_app import appearance_of
from console.theme import textual_theme
from replay.playback.focus import Focus, TasksFocus
from replay.playback.frame import Frame
from replay.runs.catalogue import RunEntry

_OWN_SURROUNDINGS = Surroundings()


class ConsoleApp(SharingApp):
    """Shows one session; returns `quit`, `stop` where the user wants the run to be stopped, or the
    run that is to be opened in its place."""

    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(LISTS),
        *bindings(SCREENS),
        *bindings(TIME),
        *bindings(RANGE[:1]),
        *bindings(RANGE[1:], priority=True),
        *bindings(OUTPUT),
        *bindings(SCRIPT_RUNS),
        *bindings(SHARE),
        *bindings(GENERAL),
        Binding("left", "extend_range(-1)", show=False, priority=True),
        Binding("right", "extend_range(1)", show=False, priority=True),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(
        self,
        session: SessionLike,
        *,
        title: str = "",
        on_quit: Literal["leave", "ask"] = "leave",
        output: Path | None = None,
        settings: Settings | None = None,
        depth: Depth = "full",
        follow: bool = True,
        at_end: bool = False,
        run_actions: RunActions | None = None,
        start: StartView | None = None,
        surroundings: Surroundings = _OWN_SURROUNDINGS,
        next_run: Callable[[], bool] | None = None,
        script_runs: Callable[[], list[RunEntry]] | None = None,
    ) -> None:
        """Create the app.

        Args:
            session: The session to show.
            title: Name of the run for the header.
            on_quit: "ask" whether the run goes on; for a run that this command has started.
            output: The file that the run's script prints to, if it is kept.
            settings: What the user has set.
            depth: How many colours the terminal can tell apart.
            follow: Follow the newest event; False plays from the first one.
            at_end: Do not play, but go to the end once all is read, with the whole run in view.
            run_actions: What the list of runs reads and does.
            start: The view to open with.
            surroundings: Clocks and folders.
            next_run: Whether another run of the same script is there, to go on to once this one is
                over and nobody has gone back in it.
            script_runs: The runs of the same script until now.
        """
        settings = Settings() if settings is None else settings
        appearance = appearance_of(settings, os.environ, depth)
        colour = appearance.palette.colour
        if surroundings.tick_seconds is not None and settings.slow:
            surroundings = replace(surroundings, tick_seconds=SLOW_TICK_SECONDS)
        super().__init__(
            session,
            follow=follow,
            at_end=at_end,
            surroundings=surroundings,
            ansi_color=None if colour else True,
        )
        self._settings = settings
        self._depth = depth
        self._mouse = settings.mouse
        self._most_lag = settings.thresholds.lag
        self._terminal_title = ""
        self.appearance = appearance
        if colour:
            self._use_theme()
        self.set_keymap(dict(settings.keys))
        self.title = title
        self._on_quit = on_quit
        self._output = output
        self._run_actions = run_actions
        self._next_run = next_run
        self._script_runs = script_runs
        self._start = start
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

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, AsciiFilter()] if self.appearance.ascii_only else filters

    def on_mount(self) -> None:
        for name, page in self._pages.items():
            self.install_screen(page, name)  # kept, not removed, while another is on view
        if not self._mouse and isinstance(self._driver, TerminalDriver):
            self._driver.take_mouse(False)
        self.push_screen(self._pages[self._settings.first_screen])

    def on_first_frame(self, frame: Frame) -> None:
        super().on_first_frame(frame)
        if self._start is not None:
            start, self._start = self._start, None
            self._open_view(start)

    def _open_view(self, start: StartView) -> None:
        page = self._pages.get(start.screen)
        if isinstance(page, Filtered) and start.where:
            page.apply_filter(start.where)
        if start.screen:
            self.action_go(start.screen)
        self._go_to(start.target)
        if start.focus is not None:
            self.open_page(start.focus, name_of(start.focus))

    def action_go(self, page: str) -> None:
        """Show a page; what was entered from another one is left."""
        if self.screen is not self.page:
            return
        while isinstance(self.screen, DrillScreen):
            self.pop_screen()
        if self.screen is not self._pages[page]:
            self.switch_screen(self._pages[page])

    def go_filtered(self, page: str, where: str) -> None:
        """Show a page with this filter."""
        shown = self._pages[page]
        if isinstance(shown, Filtered):
            shown.apply_filter(where)
        self.action_go(page)

    def show_between(self, start: float, end: float) -> None:
        """Show this time on the timeline, with the cursor at its begin."""
        leases = self._pages["leases"]
        assert isinstance(leases, LeasesScreen)
        leases.frame_between(start, end)
        self.seek_time(start)
        self.action_go("leases")

    @property
    def trail(self) -> tuple[str, ...]:
        """Names of the pages from the outermost to the one that is shown."""
        page = self.page
        if isinstance(page, DrillScreen):
            return page.trail
        return () if page is None else (page.page_name,)

    def open_page(self, focus: Focus, name: str) -> None:
        """Enter the page about one thing; `name` is its crumb."""
        page = self.page
        if self.screen is not page or (isinstance(page, DrillScreen) and page.focus_on == focus):
            return
        trail = (*self.trail, name)
        self.push_screen(drill_screen(self.appearance, str(self.title), focus, trail))

    def action_leave_page(self) -> None:
        """Leave a page that was entered from another one."""
        if isinstance(self.screen, DrillScreen):
            self.pop_screen()

    def _go_to(self, target: Target | None) -> None:
        if target is not None and target.row is not None:
            self.open_page(TasksFocus(row=target.row), f"row {target.row}")
        else:
            super()._go_to(target)

    def action_runs(self) -> None:
        if self.screen is self.page:
            self.push_screen(RunsScreen(self.appearance, self._run_actions), self._open_run)

    def action_script_runs(self) -> None:
        if self._script_runs is not None and self.screen is self.page:
            actions = replace(self._run_actions or RunActions(), entries=self._script_runs)
            listed = RunsScreen(self.appearance, actions, heading="Runs of this script")
            self.push_screen(listed, self._open_run)

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
        output = OUTPUT if self._output is not None else ()
        return (*output, *(SCRIPT_RUNS if self._script_runs is not None else ()))

    def action_output(self) -> None:
        if self._output is not None and self.screen is self.page:
            self.push_screen(OutputWindow(self.appearance, self._output))

    def _use_theme(self) -> None:
        theme = textual_theme(self.appearance.theme, self._depth)
        self.register_theme(theme)
        self.theme = theme.name

    def action_next_theme(self) -> None:
        following = (THEMES.index(self.appearance.theme) + 1) % len(THEMES)
        self.appearance.use(THEMES[following])
        if self.appearance.palette.colour:
            self._use_theme()
        for screen in (*self._pages.values(), *self.screen_stack):
            if isinstance(screen, FrameScreen) and screen.is_mounted:
                screen.redraw_all()

    async def _turn(self, elapsed: float) -> None:
        await super()._turn(elapsed)
        frame = self._frame
        if self._next_run is None or frame is None or self.run_goes_on:
            return
        at_end = frame.ordinal >= frame.last_ordinal and not self._playing
        if at_end and self.screen is self.page and self._next_run():
            self.exit("next")

    def on_frame(self, frame: Frame) -> None:
        super().on_frame(frame)
        self._name_terminal(frame)

    def _name_terminal(self, frame: Frame) -> None:
        """The state in the title of the window, where it can be read while another is in front."""
        mode = mode_of(frame, self._playing, self._most_lag)
        progress, total = frame.progress, frame.rows_total
        done = f" {100 * progress.rows_done // total} %" if total else ""
        dropped = f", {progress.rows_dropped} dropped" if progress.rows_dropped else ""
        title = clean(f"{mode}{done}{dropped} {frame.run.name or self.title}")
        if title != self._terminal_title and isinstance(self._driver, TerminalDriver):
            self._terminal_title = title
            self._driver.set_title(title)

    def action_toggle_mouse(self) -> None:
        """Without it the terminal selects text as everywhere else."""
        self._mouse = not self._mouse
        if isinstance(self._driver, TerminalDriver):
            self._driver.take_mouse(self._mouse)
        whose = "the console's again" if self._mouse else "the terminal's: it selects text"
        self.notify(f"The mouse is {whose}; m changes that.")

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
        for control in (
            *LISTS,
            *SCREENS,
            *TIME,
            *RANGE,
            *self.extra_controls,
            *SHARE,
            *GENERAL,
            *own,
        ):
            if control.command:
                yield SystemCommand(
                    control.help, f"Key: {control.shown}", self._runner(control.action)
                )

        if self._frame is not None:
            yield from things(self._frame, self)

    def _runner(self, action: str) -> Callable[[], Any]:
        async def run() -> None:
            await self.run_action(action, self)

        return run
