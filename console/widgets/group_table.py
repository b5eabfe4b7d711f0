"""Queue depth by group: a line each, with its trend and what blocks it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.events import Click
from textual.message import Message

from console.formatting import count, doubt_of, duration, short, wait_words
from console.paint import Row, StyledLine, fit_tail, width_of
from console.theme import Appearance
from console.widgets.chart import sparkline
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.playback.frame import Frame, GroupRow
from replay.playback.queue_rows import QueueRow

_NUMBERS = (("queued", 8), ("running", 9), ("call waits", 11), ("in provider", 12))
_SHORT = (("queued", 7), ("run", 5), ("waits", 6), ("calls", 6))
_OLDEST = 8
_HEAD = 2
"""Title and names of the columns."""
_REASON = 22
"""Two spaces and `cooldown after 429s`."""
_REFUSED = ("cooldown", "overload")
"""Their provider takes no more calls for a while."""
_LEAST_REASON = 14
"""Two spaces and `slots in use`."""


class GroupTable(LineWidget):
    """Title, column names, one line a group; the last line counts those that do not fit."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="groups")
        self._frame: Frame | None = None
        self._shown: tuple[GroupRow, ...] = ()

    class Picked(Message):
        """The line of a group was clicked."""

        def __init__(self, key: str, label: str) -> None:
            super().__init__()
            self.key = key
            self.label = label

    def on_click(self, event: Click) -> None:
        if _HEAD <= event.y < _HEAD + len(self._shown):
            group = self._shown[event.y - _HEAD]
            self.post_message(self.Picked(group.key, group.label))

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
        lines = height - _HEAD
        shown = groups
        if len(groups) > lines:  # of many those in which most wait
            deepest = sorted(groups, key=lambda group: (-group.queued, -(group.oldest_wait or 0.0)))
            shown = tuple(deepest[: max(0, lines - 1)])
        self._shown = shown
        numbers = _NUMBERS if width >= 100 else _SHORT
        reason = _REASON if width >= 76 else _LEAST_REASON
        room = width - sum(size for _, size in numbers) - _OLDEST - reason - 1
        name_width = min(max((width_of(group.label) for group in shown), default=0) + 1, 28)
        trend = 9 if width < 72 else 12 if width < 90 else 24
        trend = max(5, min(trend, room - name_width))
        name = max(8, min(name_width, room - trend))
        head = Row().put(" group", "dim", name + 1).put("", "dim", trend)
        for label, size in numbers:
            head.put(label, "dim", size, ">")
        rows.append(head.put("oldest", "dim", _OLDEST, ">").put("  waits for", "dim").line())
        depth = dict(zip((group.key for group in groups), frame.queue_depth, strict=False))
        peaks = (max(depth.get(group.key, ()), default=0.0) for group in shown)
        top = max(peaks, default=0.0)
        places = {row.key: row for row in frame.queue}
        for group in shown:
            line = Row().put(" ").put(fit_tail(group.label, name - 1), "bright").put(" ")
            spark = sparkline(depth.get(group.key, ()), trend - 1, top, self.appearance.glyphs)
            line.put(spark, "sky").put(" ")
            place, brief = places.get(group.key), reason < _REASON
            self._facts(line, group, numbers, doubt_of(frame), place, brief)
            rows.append(line.line())
        if len(shown) < len(groups):
            rest = queued - sum(group.queued for group in shown)
            more = f" {count(len(groups) - len(shown))} more groups, {count(rest)} queued"
            rows.append(Row().put(more, "dim").line())
        return rows

    def _facts(
        self,
        row: Row,
        group: GroupRow,
        numbers: Sequence[tuple[str, int]],
        doubt: str,
        more: QueueRow | None,
        brief: bool,
    ) -> Row:
        waiting = more.calls_waiting if more is not None else 0
        calling = more.calls_in_provider if more is not None else 0
        values = (group.queued, group.running, waiting, calling)
        for (_, size), value, style in zip(
            numbers, values, ("bright", "text", "orange", "sky"), strict=True
        ):
            row.put(
                (short(value) if value >= 10_000 else str(value)) + (doubt if value else ""),
                style if value else "faint",
                size,
                ">",
            )
        oldest = group.oldest_wait
        age_style = (
            "dim" if oldest is None else "orange" if oldest >= self.appearance.old_wait else "text"
        )
        row.put(duration(oldest), age_style, _OLDEST, ">").put("  ")
        reason, style = waits_for(group, more)
        if brief:
            reason = reason.replace(" after 429s", "")
        return row.put(reason, style)


def waits_for(group: GroupRow, more: QueueRow | None) -> tuple[str, str]:
    """What most of the group's tasks that do not move wait for, and the style of that: calls
    before the queue, as tasks that wait for a call hold the slots that the queue waits for."""
    if more is not None and more.calls_waiting and more.waits_for is not None:
        return wait_words(more.waits_for), "orange"
    if group.blocked_by and group.queued:
        return wait_words(group.blocked_by), "orange" if group.blocked_by in _REFUSED else "text"
    if group.deferred:
        return f"{count(group.deferred)} to be retried", "orange"
    if group.ready and not group.queued:
        return f"{group.ready} ready", "dim"
    return "", "dim"
