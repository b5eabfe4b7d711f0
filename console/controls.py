"""One declaration of each control: its binding, its help and its place in the footer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True, slots=True)
class Control:
    """A key (or several) that does one thing."""

    keys: str
    """Textual's names, separated by commas."""
    shown: str
    """The keys as a person reads them."""
    action: str
    help: str
    brief: str = ""
    """One or two words for the footer; empty: not shown there."""
    command: bool = False
    """Also offered by the command palette."""

    @property
    def id(self) -> str:
        """Its name in the settings: of `app.step(-1)` it is `step(-1)`."""
        return self.action.removeprefix("app.").replace("'", "").replace("()", "")


def bindings(controls: Iterable[Control], *, priority: bool = False) -> list[Binding]:
    """The bindings of controls, for a `BINDINGS` of Textual."""
    return [
        Binding(
            control.keys, control.action, control.help, show=False, priority=priority, id=control.id
        )
        for control in controls
    ]


LISTS = (Control("0", "0", "app.runs", "Runs: what is running, what was recorded", "Runs", True),)

SCREENS = (
    Control("1", "1", "app.go('overview')", "Overview: what limits the run now", "Overview", True),
    Control("2", "2", "app.go('queue')", "Queue: where each group's tasks are", "Queue", True),
    Control(
        "3", "3", "app.go('ceilings')", "Ceilings: limits of calls over time", "Ceilings", True
    ),
    Control("4", "4", "app.go('leases')", "Leases: who holds what, on a timeline", "Leases", True),
    Control("5", "5", "app.go('stalls')", "Stalls: what stood still, and why", "Stalls", True),
    Control("6", "6", "app.go('events')", "Events: the stream, one by one", "Events", True),
    Control(
        "7", "7", "app.go('capacity')", "Capacity: each value and its source", "Capacity", True
    ),
    Control("8", "8", "app.compare", "Compare: this run beside another one", "Compare", True),
    Control("9", "9", "app.go('errors')", "Errors: what failed, and its cost", "Errors", True),
)

TIME = (
    Control("space,p", "space", "app.toggle_play", "Pause, or play from here", "pause/play", True),
    Control(
        "left_square_bracket,left_parenthesis,shift+left",
        "[",
        "app.step(-1)",
        "One event back; also ( and Shift+←",
    ),
    Control(
        "right_square_bracket,right_parenthesis,shift+right",
        "]",
        "app.step(1)",
        "One event forward; also ) and Shift+→",
    ),
    Control(
        "left_curly_bracket,K,ctrl+left",
        "{",
        "app.stall(-1)",
        "Back to where a stall began; also K and Ctrl+←",
    ),
    Control(
        "right_curly_bracket,J,ctrl+right",
        "}",
        "app.stall(1)",
        "On to where the next stall begins; also J and Ctrl+→",
    ),
    Control("less_than_sign", "<", "app.slower", "Play slower, down to ¼×"),
    Control("greater_than_sign", ">", "app.faster", "Play faster, up to 64× and max"),
    Control(
        "g",
        "g",
        "app.ask_time",
        "Go to 1:23.5, 17:39:50, 50%, +5, #12, 20-40, row 17",
        "go to",
        True,
    ),
    Control("left", "←", "app.nudge(-1)", "A little earlier, by the time in view"),
    Control("right", "→", "app.nudge(1)", "A little later"),
    Control("home", "Home", "app.start", "Go to the first event", command=True),
    Control("end", "End", "app.end", "Go to the newest event; a live run is followed again"),
    Control("f", "f", "app.follow", "Follow the newest event", "follow", True),
)

RANGE = (
    Control("v", "v", "app.mark", "Mark a stretch: move, then v ends it; or draw it", "mark"),
    Control("enter", "Enter", "app.zoom_range", "Zoom to the stretch that is marked"),
    Control("L", "L", "app.loop_range", "Play the stretch that is marked over and over"),
    Control("escape", "Esc", "app.drop_range", "Let go of the stretch that is marked"),
)
"""All but the first only while a stretch is marked."""

OUTPUT = (Control("o", "o", "app.output", "What the script prints", "output", True),)
"""Only where a script's output is kept."""

SCRIPT_RUNS = (
    Control(
        "R", "R", "app.script_runs", "Runs of the script behind this console", "its runs", True
    ),
)
"""Only of a script that may make more than one."""

SHARE = (
    Control("y", "y", "app.copy_view", "Copy the command that opens this view again", "copy", True),
    Control("Y", "Y", "app.copy_verdict", "Copy what is said here as Markdown", command=True),
    Control("x", "x", "app.export", "Export what is shown: CSV, JSON or SVG", "export", True),
)

GENERAL = (
    Control("question_mark", "?", "app.help", "This help", "help", True),
    Control("ctrl+p", "Ctrl+P", "app.command_palette", "All commands by name"),
    Control(
        "t", "t", "app.next_theme", "Colours: dark, light, colour-blind, contrast", command=True
    ),
    Control(
        "m", "m", "app.toggle_mouse", "Leave the mouse to the terminal, or take it", command=True
    ),
    Control("u", "u", "app.toggle_utc", "Wall clock of this place, or UTC", command=True),
    Control("ctrl+z", "Ctrl+Z", "app.suspend_process", "Suspend; fg comes back"),
    Control("q", "q", "app.leave", "Quit the console", "quit", True),
)
