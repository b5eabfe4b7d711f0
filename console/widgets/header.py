"""The header: state, clock, progress; notes; the bottleneck line; the footer's keys."""

from __future__ import annotations

from collections.abc import Sequence

from textual.events import Click

from console.controls import Control
from console.formatting import at_end, cells_done, count, duration, percent, short
from console.paint import Row, StyledLine, clean, cut_line, width_of
from console.playback_mode import MODE_COLOUR, PlaybackView, speed_label
from console.theme import Appearance, verdict_look
from console.widgets.line_widget import LineWidget
from replay.diagnosis.report.shares import Share, subject
from replay.diagnosis.report.text_layout import wrap
from replay.diagnosis.verdicts import VerdictRow, clock
from replay.playback.frame import Frame
from replay.state.spending import money_words

_MOST_NOTE_LINES, _FEW_NOTE_LINES = 5, 2
_LOW = 16
"""Lines of a terminal below which notes are cut, so that the page has some too."""
_NAMES_FIT, _NAME_FITS = 150, 64
"""Cells from which on the footer names every screen."""


_WIDE_ENOUGH_FOR_MONEY, _ERROR_FITS = 100, 64
"""Columns of the screen."""


class Header(LineWidget):
    """Two lines: who and when; how far."""

    DEFAULT_CSS = "Header { height: 2; }"

    def __init__(self, appearance: Appearance, title: str) -> None:
        super().__init__(appearance, id="header")
        self._title = title
        self._frame: Frame | None = None
        self._view: PlaybackView | None = None

    def show(self, frame: Frame, view: PlaybackView) -> None:
        self._frame, self._view = frame, view
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame, view = self._frame, self._view
        if frame is None or view is None:
            return [Row().put(f" {self._title} ", "bold bright").put("opening …", "dim").line()]
        return [self._state_line(frame, view, width), self._progress_line(frame, view, width)]

    def _state_line(self, frame: Frame, view: PlaybackView, width: int) -> StyledLine:
        badge = view.mode
        if view.mode == "REPLAY" and view.speed is not None:
            badge = f"REPLAY {speed_label(view.speed)}"  # type: ignore[assignment]
        right = self._facts(frame, view)
        while len(right) > 1 and sum(width_of(text) for text, _ in right) > width - 34:
            right.pop(0)
        right_width = sum(width_of(text) for text, _ in right)
        row = Row().put(f" {badge} ", f"bold ink on {MODE_COLOUR[view.mode]}").put(" ")
        name = frame.run.name or self._title
        room = max(4, width - row.used - right_width - 2)
        row.put(name, "bold bright", min(width_of(name), room))
        row.to(max(row.used + 1, width - right_width - 1))
        for text, style in right:
            row.put(text, style)
        return row.line()

    def _facts(self, frame: Frame, view: PlaybackView) -> list[tuple[str, str]]:
        total = frame.t1 - frame.t0
        tenths = view.mode not in ("LIVE", "WAITING")
        facts: list[tuple[str, str]] = []
        if view.mode == "BEHIND":
            facts.append((f"{duration(frame.lag)} behind the run   ", "bold orange"))
        if view.quiet >= 3:
            facts.append((f"no event for {duration(view.quiet)}   ", "orange"))
        if view.mode in ("PAUSED", "REPLAY"):
            facts.append((f"event {count(frame.ordinal)}", "text"))
            if frame.liveness == "live":
                facts.append((f" +{count(frame.last_ordinal - frame.ordinal)} since", "yellow"))
            else:
                facts.append((f" of {count(frame.last_ordinal)}", "dim"))
        else:
            facts.append((f"{count(frame.last_ordinal)} events", "dim"))
        if frame.lost_events:
            facts.append((f" {count(frame.lost_events)} lost", "bold vermillion"))
        facts.append(("   ", "text"))
        if view.wall:
            facts.append((f"{view.wall}   ", "dim"))
        facts.append((clock(view.clock, tenths=tenths), "bold bright"))
        if view.mode in ("PAUSED", "REPLAY") or frame.recorded:
            facts.append((f" / {clock(total, tenths=tenths)}", "dim"))
        return facts

    def _progress_line(self, frame: Frame, view: PlaybackView, width: int) -> StyledLine:
        progress = frame.progress
        facts: list[tuple[str, str]] = []
        done = count(progress.rows_done)
        if frame.rows_total:
            facts.append((f"{done}/{count(frame.rows_total)} rows", "bright"))
            if not progress.rows_done and cells_done(frame) > 0:
                facts.append((f"cells {percent(cells_done(frame))}", "text"))
        else:
            facts.append((f"{done} rows", "bright"))
        ending = frame.ending if view.mode == "ENDED" else None
        if progress.rows_dropped and (ending is None or "dropped" not in ending.words):
            facts.append((f"{count(progress.rows_dropped)} dropped", "bold vermillion"))
        if frame.quiet_seconds is not None and (frame.liveness == "live" or not at_end(frame)):
            quiet = frame.quiet_seconds + view.quiet
            no_eta = ", no ETA" if frame.liveness == "live" else ""
            facts.append((f"no cell done for {clock(quiet)}{no_eta}", "orange"))
        if frame.rows_per_second is not None:
            facts.append((f"{short(frame.rows_per_second)} rows/s", "text"))
        if frame.tokens_per_second:
            facts.append((f"{short(frame.tokens_per_second)} tokens/s", "text"))
        if progress.priced_calls and width >= _WIDE_ENOUGH_FOR_MONEY:
            ended = frame.outcome is not None
            facts.append((money_words(progress, frame.run, ended=ended), "text"))
        if frame.eta_seconds is not None and frame.outcome is None and frame.liveness == "live":
            error = frame.eta_error_seconds if width >= _ERROR_FITS else None
            facts.append((_eta(frame.eta_seconds, error), "text"))
        if ending is not None:
            facts.append((ending.words, "bold green" if ending.good else "bold vermillion"))
        row = Row().put(" ")
        while (bar := width - _joined(facts) - 10) < 12 and len(facts) > 2:
            rates = [fact for fact in facts if fact[0].endswith("/s")]
            if not rates:
                break
            facts.remove(rates[-1])
        if ending is not None and _joined(facts) >= width:
            facts = facts[-1:]
        bar = min(64, bar)
        if frame.rows_total and bar >= 6:
            fraction = min(1.0, (progress.rows_done + progress.rows_dropped) / frame.rows_total)
            glyphs = self.appearance.glyphs
            full = int(bar * fraction + 1e-9)
            made = min(full, int(bar * progress.rows_done / frame.rows_total + 1e-9))
            begun = max(full, int(bar * cells_done(frame)))
            row.put(glyphs.bar_full * made, "green")
            row.put(glyphs.bar_full * (full - made), "vermillion")
            row.put(glyphs.bar_begun * (begun - full), "green")
            row.put(glyphs.bar_rest * (bar - begun), "faint")
            row.put(f"{int(fraction * 100)} %", "bright", 6, ">").put("  ")
        for index, (text, style) in enumerate(facts):
            if index:
                row.put(" · ", "faint")
            row.put(text, style)
        return cut_line(row.line(), width)


def _joined(facts: Sequence[tuple[str, str]]) -> int:
    return sum(width_of(text) for text, _ in facts) + 3 * (len(facts) - 1)


class Notes(LineWidget):
    """What nobody may overlook, over the full width; what the source never tells, in one line."""

    DEFAULT_CSS = "Notes { height: 0; }"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="notes")
        self._alarms: list[str] = []
        self._aside = ""

    def show(self, frame: Frame, problem: str) -> None:
        """`problem` is the app's own, beside what the frame says."""
        lacks = "; ".join(frame.run.lacks)
        asides = [note for note in frame.notes if lacks and lacks in note]
        self._alarms = [note for note in (*frame.notes, problem) if note and note not in asides]
        self._aside = asides[0] if asides else ""
        self.fit_terminal()
        self.redraw()

    def fit_terminal(self) -> None:
        """As many lines as the notes take at the size that the terminal has."""
        height = self.lines_for(self.app.size.width)
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height

    def lines_for(self, width: int) -> int:
        """Lines that the notes take at this width."""
        return len(self._wrapped(width)) + bool(self._aside)

    def _wrapped(self, width: int) -> list[str]:
        lines: list[str] = []
        low = self.app.size.height < _LOW
        most = _FEW_NOTE_LINES if low else _MOST_NOTE_LINES
        for note in self._alarms:
            first, *rest = wrap(clean(note), width - 4, max_lines=1 if low else 2) or [""]
            lines.append(f" ! {first}")
            lines.extend(f"   {line}" for line in rest)
        if len(lines) > most:
            lines = [*lines[: most - 1], f" ! {len(self._alarms)} notes in all"]
        return lines

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        style = "bold ink on vermillion"
        rows = [Row().put(line, style).to(width, style).line() for line in self._wrapped(width)]
        if self._aside:
            rows.append(Row().put(" ").put(self._aside, "dim", width - 2).line())
        return rows


class BottleneckLine(LineWidget):
    """What limited the run lately; where there is room, what stands still at this moment."""

    DEFAULT_CSS = "BottleneckLine { height: 2; margin: 1 0 0 0; }"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="bottleneck")
        self._frame: Frame | None = None

    def show(self, frame: Frame) -> None:
        self._frame = frame
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame = self._frame
        edge = self.appearance.glyphs.edge
        bottleneck = frame.bottleneck if frame else None
        if frame is None or bottleneck is None:
            return [
                Row().put(f" {edge} ", "grey").put(line, "text").line()
                for line in wrap(clean(_nothing_limits(frame)), width - 4, max_lines=height)
            ]
        colour = verdict_look(bottleneck.verdict).colour
        if frame.ending is not None and not frame.ending.good:
            colour = "vermillion"
        stall = stall_here(frame)
        room = height - (stall is not None and height > 1)
        rows = [
            Row().put(f" {edge} ", colour).put(line, "bold bright" if index == 0 else "text").line()
            for index, line in enumerate(_first_lines(frame, bottleneck.sentence, width - 4, room))
        ]
        if stall is not None and len(rows) < height:
            row = Row().put(f" {edge} ", verdict_look(stall.verdict).colour).put("now: ", "dim")
            rows.append(row.put(_stall_text(stall, width - 9), "text").line())
        return rows


def _first_lines(frame: Frame, short_form: str, width: int, height: int) -> list[str]:
    """What limits the span, in one sentence; where there is room, more of what a report says."""
    lines = wrap(clean(short_form), width, max_lines=height)
    if height <= 2 or frame.answer is None:
        return lines
    answer = frame.answer
    parts = [part for part in (answer.ending, answer.failures, answer.pace, answer.lost) if part]
    more = wrap(clean(" ".join(parts)), width, max_lines=max(1, height - len(lines)))
    return [*lines, *more][:height]


def stall_here(frame: Frame) -> VerdictRow | None:
    """What stands still where the cursor is: of several, the highest tier, then the oldest."""
    if frame.outcome is not None or frame.unknown:
        return None
    return min(frame.standing, key=lambda row: (row.tier, row.start), default=None)


def _stall_text(stall: VerdictRow, width: int) -> str:
    """Its sentence where that fits, else its name and how long."""
    if width_of(stall.sentence) <= width:
        return stall.sentence
    about = subject(Share(stall.verdict, 1.0, stall.resource))
    return f"{about}, for {duration(stall.end - stall.start)}"


def _eta(seconds: float, error: float | None) -> str:
    """When it will be finished, and how sure that is."""
    sure = "" if error is None else f" ± {clock(error, tenths=False)}"
    return f"ETA {clock(seconds, tenths=False)}{sure}"


def _nothing_limits(frame: Frame | None) -> str:
    if frame is not None and frame.awaited:
        return frame.awaited
    if frame is None or frame.last_ordinal == 0:
        return "Waiting for the first events."
    return "Too little seen yet to say what limits the run."


class Footer(LineWidget):
    """The screens and the most used keys; a click on one does what the key does."""

    DEFAULT_CSS = "Footer { height: 1; dock: bottom; }"
    ground = "text on raised"

    def __init__(self, appearance: Appearance, screens: Sequence[Control], current: str) -> None:
        super().__init__(appearance, id="footer")
        self._screens = screens
        self._current = current
        self._controls: tuple[Control, ...] = ()
        self._pinned: tuple[Control, ...] = ()
        self._click_areas: list[tuple[int, int, str]] = []

    def show(self, controls: tuple[Control, ...], pinned: tuple[Control, ...]) -> None:
        """`controls` as far as there is room beside `pinned`."""
        self._controls, self._pinned = controls, pinned
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        row = Row().put(" ", self.ground)
        self._click_areas = []
        for control in self._screens:
            current = control.brief == self._current
            start = row.used
            style = "bold ink on sky" if current else "bold bright on raised"
            named = (current and width >= _NAME_FITS) or width >= _NAMES_FIT
            brief = f" {control.brief} " if named else ""
            before = "" if width < _NAME_FITS else " "
            row.put(f"{before}{self._shown(control)}{brief or before}", style)
            self._click_areas.append((start, row.used, control.action))
        row.put(f" {self.appearance.glyphs.now} ", "faint on raised")
        pinned = [control for control in self._pinned if control.brief]
        room = width - sum(map(self._cells, pinned))
        fitting: list[Control] = []
        for control in self._controls:
            if control.brief and row.used + sum(map(self._cells, (*fitting, control))) <= room:
                fitting.append(control)
        for control in (*fitting, *pinned):
            start = row.used
            row.put(f"{self._shown(control)} ", "bold sky on raised")
            row.put(control.brief, "dim on raised")
            self._click_areas.append((start, row.used, control.action))
            row.put("  ", self.ground)
        return [row.line()]

    def _shown(self, control: Control) -> str:
        return self.appearance.shown_key(control.id, control.shown)

    def _cells(self, control: Control) -> int:
        """Cells in the footer, with the space behind it."""
        return len(self._shown(control)) + len(control.brief) + 3

    async def on_click(self, event: Click) -> None:
        for start, end, action in self._click_areas:
            if start <= event.x < end:
                await self.screen.run_action(action)
                return
