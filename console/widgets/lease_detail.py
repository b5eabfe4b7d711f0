"""One task lease in words: what it is, and where its time went."""

from __future__ import annotations

from collections.abc import Sequence

from console.formatting import duration, words
from console.paint import Row, StyledLine, width_of
from console.theme import Appearance
from console.widgets.blame_bar import parts
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.diagnosis.report.shares import Share
from replay.diagnosis.verdicts import clock
from replay.playback.frame import Frame, LeaseBar
from replay.playback.frame_builder import bar_waits


class LeaseDetail(LineWidget):
    """Title, identity, waits as words and as a bar, the latest attempts."""

    DEFAULT_CSS = "LeaseDetail { height: 6; }"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="detail")
        self._bar: LeaseBar | None = None
        self._frame: Frame | None = None

    def show(self, frame: Frame, bar: LeaseBar | None) -> None:
        self._frame, self._bar = frame, bar
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        bar, frame = self._bar, self._frame
        if bar is None or frame is None:
            hint = "Press ↓ or click a bar to see where its time goes."
            return [title(self.appearance, "Lease", width), Row().put(f" {hint}", "dim").line()]
        rows = [title(self.appearance, f"Lease {bar.lease_id}", width, self._result(bar))]
        row = Row().put(" ").put(bar.task_id, "bold bright", min(40, max(8, width_of(bar.task_id))))
        facts = [f"column {bar.column}"] if width >= 100 else []
        if bar.row_group is not None:
            facts.append(f"row group {bar.row_group}")
        if bar.row is not None:
            facts.append(f"row {bar.row}")
        facts.append(f"attempt {bar.attempt}")
        end = frame.at if bar.end is None else bar.end
        started = clock(bar.start - frame.t0)
        facts.append(f"from {started} for {duration(end - bar.start)}")
        for fact in facts:
            row.put(" · ", "faint").put(fact, "text")
        if bar.error:
            row.put(" · ", "faint").put(bar.error, "vermillion")
        rows.append(row.line())
        waits = bar_waits(bar, frame.at)
        named = (
            ("queued", waits.ready_queue_wait, "dim"),
            ("admission", waits.task_admission_wait, "purple"),
            ("waiting", waits.request_wait, "orange"),
            ("provider", waits.provider_time, "sky"),
            ("own", waits.own_time, "green"),
        )
        row = Row().put(" ")
        for index, (name, seconds, style) in enumerate(named):
            if index:
                row.put(" · ", "faint")
            row.put(f"{name} ", "dim").put(
                duration(seconds) if seconds is not None else "unknown", style
            )
        rows.append(row.line())
        rows.append(self._bar_line(named, width))
        rows.extend(self._attempts(bar, frame.at, height - len(rows)))
        return rows

    def _bar_line(self, named: Sequence[tuple[str, float | None, str]], width: int) -> StyledLine:
        glyphs = self.appearance.glyphs
        fills = (" ", glyphs.leased, glyphs.waiting, glyphs.in_provider, glyphs.own)
        shares = [Share(name, seconds or 0.0) for name, seconds, _ in named]
        row = Row().put(" ")
        for (_, cells), fill, (_, _, style) in zip(
            parts(shares, width - 2), fills, named, strict=False
        ):
            row.put((fill if fill != " " else "·") * cells, style)
        return row.line()

    def _attempts(self, bar: LeaseBar, at: float, lines: int) -> list[StyledLine]:
        by_attempt: dict[str, tuple[str, float, float, str | None]] = {}
        for segment in bar.segments:
            resource, waited, called, outcome = by_attempt.get(
                segment.attempt_id, (segment.resource, 0.0, 0.0, None)
            )
            length = (at if segment.end is None else segment.end) - segment.start
            if segment.kind == "waiting":
                waited += length
            elif segment.kind == "in_provider":
                called += length
            by_attempt[segment.attempt_id] = (resource, waited, called, segment.outcome or outcome)
        rows: list[StyledLine] = []
        for attempt, (resource, waited, called, outcome) in list(by_attempt.items())[-lines:]:
            row = Row().put(f" {attempt} ", "dim").put(resource, "text")
            row.put(f"  waited {duration(waited)}, called {duration(called)}", "dim")
            if outcome:
                good = outcome == "success"
                row.put("  ").put(words(outcome), "green" if good else "vermillion")
            rows.append(row.line())
        return rows[:lines]

    @staticmethod
    def _result(bar: LeaseBar) -> str:
        if bar.result == "unknown":
            return "end unknown: the producer is gone"
        return bar.result or "open"
