"""The dialogs: which time to go to, and whether the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import Click
from textual.screen import ModalScreen
from textual.widgets import Input

from console.controls import Control, bindings
from console.goto import EXAMPLES, Target, parse_target
from console.paint import Row, StyledLine, cut_line
from console.theme import Appearance
from console.widgets.line_widget import LineWidget

QuitAnswer = Literal["leave", "stop", "cancel"]
_RAISED = " on raised"


class FixedLines(LineWidget):
    """Fixed lines in a window; a click runs the action of a line that has one."""

    ground = f"text{_RAISED}"

    def __init__(self, appearance: Appearance, lines: list[tuple[StyledLine, str]]) -> None:
        super().__init__(appearance)
        self._fixed = lines
        self.styles.height = len(lines)

    def set_line(self, index: int, line: StyledLine) -> None:
        self._fixed[index] = (line, self._fixed[index][1])
        self.redraw()

    def draw(self, width: int, height: int) -> list[StyledLine]:
        return [cut_line(line, width) for line, _ in self._fixed]

    async def on_click(self, event: Click) -> None:
        if event.y < len(self._fixed) and self._fixed[event.y][1]:
            await self.screen.run_action(self._fixed[event.y][1])


_DIALOG_CSS = """
{name} {{ align: center middle; background: $background 60%; }}
{name} > Vertical {{
    width: 64; max-width: 96%; height: auto; background: $surface; padding: 1 2;
}}
{name} Input, {name} Input:focus {{
    border: none; height: 1; padding: 0; background: $panel; margin: 1 0;
}}
"""


class GoToDialog(ModalScreen[Target | None]):
    """Asks for a time, a row or a task, and answers with the target; None if cancelled."""

    controls: ClassVar[tuple[Control, ...]] = (Control("escape", "Esc", "cancel", "Back"),)
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = _DIALOG_CSS.format(name="GoToDialog")

    def __init__(
        self, appearance: Appearance, refusal: Callable[[Target], str] = lambda target: ""
    ) -> None:
        """`refusal` says why a target is nowhere in the run; empty where it is somewhere."""
        super().__init__()
        self._refusal = refusal
        self._head = FixedLines(
            appearance, [(Row().put("Go to", f"bold bright{_RAISED}").line(), "")]
        )
        self._ahead = ""
        hint = "1:23.5 run time  17:39:50 clock  50%  +5 from here  #1234"
        self._hint = FixedLines(appearance, [(Row().put(hint, f"dim{_RAISED}").line(), "")])

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._head
            target = Input(self._ahead, select_on_focus=False)
            target.cursor_blink = False
            yield target
            yield self._hint

    def type_ahead(self, character: str) -> None:
        """Add a character that was typed before the dialog was open."""
        self._ahead += character
        for target in self.query(Input):
            target.value = self._ahead
            target.cursor_position = len(self._ahead)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        if not message.value.strip():
            self.dismiss(None)
            return
        target = parse_target(message.value)
        mistake = f"That is no time and no event. Try {EXAMPLES}."
        if target is not None:
            mistake = self._refusal(target)
        if target is None or mistake:
            self._hint.set_line(0, Row().put(mistake, f"bold vermillion{_RAISED}").line())
        else:
            self.dismiss(target)

    def action_cancel(self) -> None:
        self.dismiss(None)


class QuitDialog(ModalScreen[QuitAnswer]):
    """Asks whether a run that still goes on is left running or stopped."""

    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter,l", "Enter", "answer('leave')", "Leave it running"),
        Control("s", "s", "answer('stop')", "Stop it"),
        Control("escape,c", "Esc", "answer('cancel')", "Stay in the console"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = _DIALOG_CSS.format(name="QuitDialog")

    def __init__(self, appearance: Appearance, on_stop: str) -> None:
        super().__init__()
        head = Row().put("The run is still going. What about it?", f"bold bright{_RAISED}").line()
        lines: list[tuple[StyledLine, str]] = [(head, ""), ((), "")]
        for control in self.controls:
            row = Row().put(control.shown, f"bold sky{_RAISED}", 8)
            label = f"{control.help}: {on_stop}" if "stop" in control.action else control.help
            lines.append((row.put(label, f"text{_RAISED}").line(), control.action))
        self._lines = FixedLines(appearance, lines)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._lines

    def action_answer(self, answer: QuitAnswer) -> None:
        self.dismiss(answer)
