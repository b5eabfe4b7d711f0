"""The dialogs of the pages: a filter that is typed, and a question before something is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from console.controls import Control, bindings
from console.filter_history import FilterHistory
from console.paint import Row, StyledLine
from console.screens.dialogs import FixedLines
from console.theme import Appearance
from replay.recording.filters import FilterError, Subject

_RAISED = " on raised"


class FilterDialog(ModalScreen[str | None]):
    """One line at the bottom; what is typed is applied at once, Esc restores what was before.

    Dismissed with the filter, or with None where nothing is to change.
    """

    controls: ClassVar[tuple[Control, ...]] = (
        Control("escape", "Esc", "cancel", "Back, with the filter as it was"),
        Control("up", "↑", "recall(1)", "The filter used before"),
        Control("down", "↓", "recall(-1)", "The one after it"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = """
    FilterDialog { align: left bottom; background: transparent; }
    FilterDialog > Vertical {
        width: 100%; height: 3; background: $surface; padding: 0 1;
    }
    FilterDialog Input, FilterDialog Input:focus {
        border: none; height: 1; padding: 0; background: $panel;
    }
    """

    def __init__(
        self,
        appearance: Appearance,
        subject: Subject,
        text: str,
        on_change: Callable[[str], None],
        history: FilterHistory | None = None,
    ) -> None:
        """`history`: filters that were used before, for the arrow keys."""
        super().__init__()
        self._history = FilterHistory() if history is None else history
        self._place = -1
        self._subject = subject
        self._before = text
        self._on_change = on_change
        self._typed_ahead = ""
        names = " ".join(field.name for field in subject.fields)
        self._hint = f"words  field:value  wait>2s  !not  or  ( )   fields: {names}"
        self._head = FixedLines(
            appearance, [(self._line(f"Filter {subject.name}", "bold bright"), "")]
        )
        self._below = FixedLines(appearance, [(self._line(self._hint, "dim"), "")])

    @staticmethod
    def _line(text: str, style: str) -> StyledLine:
        return Row().put(text, f"{style}{_RAISED}").line()

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._head
            field = Input(self._before + self._typed_ahead, select_on_focus=False)
            field.cursor_blink = False
            yield field
            yield self._below

    def type_ahead(self, character: str) -> None:
        """Add a character that was typed before the dialog was open."""
        self._typed_ahead += character
        for field in self.query(Input):
            field.value = self._before + self._typed_ahead
            field.cursor_position = len(field.value)

    def problem(self, text: str) -> FilterError | None:
        try:
            self._subject.predicate(text)
        except FilterError as error:
            return error
        return None

    def on_input_changed(self, message: Input.Changed) -> None:
        error = self.problem(message.value)
        if error is None:
            self._below.set_line(0, self._line(self._hint, "dim"))
            self._on_change(message.value.strip())
        else:
            # Where the sentence would not fit behind its caret it stands before it.
            caret, room = error.position, self.size.width - 2
            text = f"{' ' * caret}^ {error.sentence}"
            if len(text) > room and caret >= len(error.sentence) + 1:
                text = f"{error.sentence} ^".rjust(caret + 1)
            self._below.set_line(0, self._line(text, "bold vermillion"))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        if self.problem(message.value) is None:
            self._history.add(self._subject.name, message.value.strip())
            self.dismiss(message.value.strip())

    def action_recall(self, by: int) -> None:
        """Put an earlier filter into the field."""
        earlier = self._history.of(self._subject.name)
        self._place = max(-1, min(self._place + by, len(earlier) - 1))
        text = self._before if self._place < 0 else earlier[self._place]
        for field in self.query(Input):
            field.value = text
            field.cursor_position = len(text)

    def action_cancel(self) -> None:
        self._on_change(self._before)
        self.dismiss(None)


class ConfirmDialog(ModalScreen[bool]):
    """A question that only its own key answers with yes."""

    DEFAULT_CSS = """
    ConfirmDialog { align: center middle; background: $background 60%; }
    ConfirmDialog > Vertical {
        width: 64; max-width: 96%; height: auto; background: $surface; padding: 1 2;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(
            (
                Control("y", "y", "answer(True)", "Yes"),
                Control("escape,n,enter", "Esc", "answer(False)", "No"),
            )
        )
    ]

    def __init__(self, appearance: Appearance, question: list[str], yes: str) -> None:
        super().__init__()
        lines: list[tuple[StyledLine, str]] = [
            (Row().put(text, f"{'bold bright' if not nth else 'text'}{_RAISED}").line(), "")
            for nth, text in enumerate(question)
        ]
        lines.append(((), ""))
        for key, label, action in (
            ("y", yes, "answer(True)"),
            ("Esc", "Leave it as it is", "answer(False)"),
        ):
            row = Row().put(key, f"bold sky{_RAISED}", 8).put(label, f"text{_RAISED}")
            lines.append((row.line(), action))
        self._lines = FixedLines(appearance, lines)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._lines

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


ExportFormat = Literal["csv", "json", "svg"]


class ExportDialog(ModalScreen[ExportFormat | None]):
    """In which form what is shown is written."""

    DEFAULT_CSS = """
    ExportDialog { align: center middle; background: $background 60%; }
    ExportDialog > Vertical {
        width: 64; max-width: 96%; height: auto; background: $surface; padding: 1 2;
    }
    """
    controls: ClassVar[tuple[Control, ...]] = (
        Control("c,enter", "c", "answer('csv')", "CSV: the rows of this page"),
        Control("j", "j", "answer('json')", "JSON: the same rows"),
        Control("s", "s", "answer('svg')", "SVG: the screen as it is, in its colours"),
        Control("escape,q", "Esc", "cancel", "Nothing"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]

    def __init__(self, appearance: Appearance) -> None:
        super().__init__()
        head = Row().put("Export what is shown as", f"bold bright{_RAISED}").line()
        lines: list[tuple[StyledLine, str]] = [(head, ""), ((), "")]
        for control in self.controls:
            row = Row().put(control.shown, f"bold sky{_RAISED}", 8)
            lines.append((row.put(control.help, f"text{_RAISED}").line(), control.action))
        self._lines = FixedLines(appearance, lines)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._lines

    def action_answer(self, answer: ExportFormat) -> None:
        self.dismiss(answer)

    def action_cancel(self) -> None:
        self.dismiss(None)
