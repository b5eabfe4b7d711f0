"""`RunsApp`: the list of runs, where no run is open yet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.filter import LineFilter

from console.outcome import OpenRun
from console.paint import AsciiFilter
from console.palettes import Depth
from console.screens.questions import FilterDialog
from console.screens.runs import RunActions, RunsScreen
from console.settings import Settings
from console.terminal_app import TerminalApp, appearance_of
from console.theme import textual_theme


class RunsApp(TerminalApp):
    """Returns the run that is to be opened, or `quit`."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False),
    ]

    def __init__(
        self,
        *,
        actions: RunActions | None = None,
        problem: str = "",
        settings: Settings | None = None,
        depth: Depth = "full",
    ) -> None:
        settings = Settings() if settings is None else settings
        self.appearance = appearance_of(settings, os.environ, depth)
        colour = self.appearance.palette.colour
        super().__init__(ansi_color=None if colour else True)
        theme = textual_theme(self.appearance.theme, depth)
        self.register_theme(theme)
        if colour:
            self.theme = theme.name
        self.title = "runs"
        self.page = RunsScreen(self.appearance, actions, problem)

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, AsciiFilter()] if self.appearance.ascii_only else filters

    def on_mount(self) -> None:
        self.push_screen(self.page, self._chosen)

    def _chosen(self, run: OpenRun | None) -> None:
        self.exit("quit" if run is None else run)

    def on_key(self, event: Key) -> None:
        """Pass on a key that was typed while the filter was opening."""
        if isinstance(self.screen, FilterDialog) and event.is_printable and event.character:
            self.screen.type_ahead(event.character)

    async def action_quit(self) -> None:
        self.exit("quit")
