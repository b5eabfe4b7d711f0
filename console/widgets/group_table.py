"""Queue depth by group: a line each, with its trend and what blocks it."""

from __future__ import annotations

from collections.abc import Sequence

from console.formatting import count, doubt_of, duration, short, words
from console.paint import Row, StyledLine, fit_tail, width_of
from console.theme import Appearance
from console.widgets.chart import sparkline
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.playback.frame import Frame, GroupRow
from replay.playback.queue_rows import QueueRow

_NUMBERS = (("queued", 7), ("leased", 7), ("running", 8), ("deferred", 9))
_SHORT = (("queued", 7), ("leased", 7), ("run", 5), ("defer", 6))
_OLDEST = 8
_BLOCKED = 13
"""Two spaces and `no capacity`."""


class GroupTable(LineWidget):
    """Title, column names, one line a group; the last line counts those that do not fit."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="groups")
        self._frame: Frame | None = None

    def show(self, frame: Frame) -> None:
        self._frame = frame
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame = self._frame
        groups = frame.groups if frame else ()
        queued = sum(group.queued for group in groups)
        rows = [title(self.appearance, "Queue by group", width, f"{count(queued)} queued")]
        if frame is None or not groups:
            return [*rows, Row().put(" no group has work yet", "dim").line()]
        numbers = _NUMBERS if width >= 90 else _SHORT
        room = width - sum(size for _, size in numbers) - _OLDEST - _BLOCKED - 1
        name_width = min(max(width_of(group.label) for group in groups) + 1, 28)
        trend = 9 if width < 72 else 12 if width < 90 else 24
        trend = max(5, min(trend, room - name_width))
        name = max(8, min(name_width, room - trend))
        head = Row().put(" group", "dim", name + 1).put("", "dim", trend)
        for label, size in numbers:
            head.put(label, "dim", size, ">")
        rows.append(head.put("oldest", "dim", _OLDEST, ">").put("  waits for", "dim").line())
        depth = dict(zip((group.key for group in groups), frame.queue_depth, strict=False))
        top = max((max(values, default=0.0) for values in frame.queue_depth), default=0.0)
        places = {row.key: row for row in frame.queue}
        lines = height - len(rows)
        shown = groups if len(groups) <= lines else groups[: max(0, lines - 1)]
        for group in shown:
            line = Row().put(" ").put(fit_tail(group.label, name - 1), "bright").put(" ")
            spark = sparkline(depth.get(group.key, ()), trend - 1, top, self.appearance.glyphs)
            line.put(spark, "sky").put(" ")
            rows.append(
                self._facts(line, group, numbers, doubt_of(frame), places.get(group.key)).line()
            )
        if len(shown) < len(groups):
            rest = groups[len(shown) :]
            more = f" {len(rest)} more groups, {sum(group.queued for group in rest)} queued"
            rows.append(Row().put(more, "dim").line())
        return rows

    def _facts(
        self,
        row: Row,
        group: GroupRow,
        numbers: Sequence[tuple[str, int]],
        doubt: str,
        more: QueueRow | None,
    ) -> Row:
        values = (group.queued, group.leased, group.running, group.deferred)
        for (_, size), value, style in zip(
            numbers, values, ("bright", "text", "text", "orange"), strict=True
        ):
            row.put(
                (short(value) if value >= 10_000 else str(value)) + (doubt if value else ""),
                style if value else "faint",
                size,
                ">",
            )
        oldest = group.oldest_wait
        age_style = "dim" if oldest is None else "orange" if oldest >= 10 else "text"
        row.put(duration(oldest), age_style, _OLDEST, ">").put("  ")
        if group.blocked_by:
            row.put(words(group.blocked_by), "orange")
        elif more is not None and more.calls_waiting:
            row.put(f"{count(more.calls_waiting)} calls wait", "orange")
        elif more is not None and more.calls_in_provider:
            row.put(f"{count(more.calls_in_provider)} calls out", "dim")
        elif group.ready and not group.queued:
            row.put(f"{group.ready} ready", "dim")
        return row
