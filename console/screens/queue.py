"""Queue: where the tasks of each group are, and who holds what they lack."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual.binding import BindingType

from console.controls import Control, bindings
from console.formatting import count, doubt_of, duration, percent, wait_words
from console.screens.table_screen import FILTERED, MOVES, SAMPLES, TableScreen
from console.theme import Appearance
from console.widgets.chart import WAIT_BAR_CELLS, wait_bar
from console.widgets.group_table import waits_for
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.playback.focus import TasksFocus
from replay.playback.frame import Frame, GroupRow, Want
from replay.playback.queue_rows import QueueRow
from replay.recording.filters import QUEUE

_COLUMNS = (
    TableColumn("group", 0),
    TableColumn("queued", 8),
    TableColumn("leased", 8),
    TableColumn("calls wait", 12, least=90),
    TableColumn("in provider", 13, least=90),
    TableColumn("deferred", 10, least=64),
    TableColumn("share", 7, least=72),
    TableColumn("debt", 6, least=100),
    TableColumn("oldest", 8),
    TableColumn("wait, log scale", WAIT_BAR_CELLS + 1, "<", 130),
    TableColumn("waits for", 21, "<", 64),
)
_MOST_HOLDERS = 4


class QueueScreen(TableScreen):
    """The groups of the queue as a table."""

    page_name = "Queue"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "open", "The tasks of this group, next in order first", "tasks"),
        *MOVES,
        *FILTERED,
    )
    subject = QUEUE
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        empty = "No group has work yet."
        super().__init__(
            appearance, run_title, SelectTable(appearance, "Queue by group", _COLUMNS, empty)
        )

    def want(self) -> Want:
        return Want(samples=SAMPLES, queue=True)

    def show_rows(self, frame: Frame) -> None:
        more = {row.key: row for row in frame.queue}
        queued = sum(group.queued for group in frame.groups)
        doubt, appearance = doubt_of(frame), self.appearance
        rows = []
        for group in frame.groups:
            row = more.get(group.key)
            if not self.filter_text or self.matches(view_row(group, row)):
                rows.append(TableRow(group.key, partial(_cells, group, row, doubt, appearance)))
        oldest = max(frame.groups, key=lambda group: group.oldest_wait or 0.0, default=None)
        worst = None if oldest is None else oldest.key
        note = f"{count(queued)} queued in {count(len(frame.groups))} groups"
        if self.filter_text:
            note = self.filter_note(len(rows), len(frame.groups))
        self.table.show(rows, note, worst)

    def show_facts(self, frame: Frame, key: str | None) -> None:
        group = next((group for group in frame.groups if group.key == key), None)
        row = next((row for row in frame.queue if row.key == key), None)
        if group is None:
            self.facts.show("", "", ())
            return
        facts = [("where", where(group, row))]
        limits = {name: (leased, limit) for name, leased, limit in frame.limits}
        if row is not None:
            facts.append(("weight", f"{row.weight:g}, a share of {percent(row.share)} of the work"))
            for resource in row.demand or row.held:
                leased, limit = limits.get(resource, (0, 0))
                use = f"{leased} of {limit} in use" if limit else "no limit known"
                facts.append((resource, f"{use}; {_holders(frame, resource)}"))
            if row.debt:
                debts = ", ".join(f"{count(n)} of {name}" for name, n in row.debt.items())
                facts.append(("borrowed", debts))
        self.facts.show(group.label, group.key, facts)

    def action_open(self) -> None:
        key = self.table.key_at_cursor()
        groups = self.frame.groups if self.frame is not None else ()
        group = next((group for group in groups if group.key == key), None)
        if group is not None:
            self.console.open_page(TasksFocus(group=group.key), group.label)


def view_row(group: GroupRow, row: QueueRow | None) -> dict[str, object]:
    """A group by the columns that filters know."""
    reason, _ = waits_for(group, row)
    return {
        "label": group.label,
        "key": group.key,
        "reason": reason or None,
        "queued": group.queued,
        "running": group.running,
        "calls_waiting": row.calls_waiting if row is not None else None,
        "calls_in_provider": row.calls_in_provider if row is not None else None,
        "deferred": group.deferred,
        "oldest_wait": group.oldest_wait,
    }


def where(group: GroupRow, row: QueueRow | None) -> str:
    """Where the tasks of the group are, in words."""
    parts = [f"{count(group.queued)} queued"]
    if group.blocked_by:
        parts[0] += f" ({wait_words(group.blocked_by)})"
    parts.append(f"{count(group.running)} running")
    if row is not None and row.calls_waiting:
        why = f" ({wait_words(row.waits_for)})" if row.waits_for else ""
        parts.append(f"{count(row.calls_waiting)} calls wait{why}")
    if row is not None and row.calls_in_provider:
        parts.append(f"{count(row.calls_in_provider)} calls in the provider")
    if group.deferred:
        parts.append(f"{count(group.deferred)} deferred after an error")
    return ", ".join(parts)


def _holders(frame: Frame, resource: str) -> str:
    """Which groups hold leases of a scheduler resource, the largest first."""
    labels = {group.key: group.label for group in frame.groups}
    held = [(row.held.get(resource, 0), labels.get(row.key, row.key)) for row in frame.queue]
    holders = sorted(((n, label) for n, label in held if n), key=lambda pair: (-pair[0], pair[1]))
    if not holders:
        return "nobody holds it"
    named = ", ".join(f"{label} {n}" for n, label in holders[:_MOST_HOLDERS])
    rest = len(holders) - _MOST_HOLDERS
    return f"held by {named}" + (f" and {rest} more groups" if rest > 0 else "")


def _cells(
    group: GroupRow, row: QueueRow | None, doubt: str, appearance: Appearance
) -> tuple[Cell, ...]:
    debt = sum(row.debt.values()) if row is not None else 0
    waiting = row.calls_waiting if row is not None else 0
    calling = row.calls_in_provider if row is not None else 0
    oldest = group.oldest_wait
    age_style = "orange" if (oldest or 0) >= appearance.old_wait else "text"
    return (
        Cell(group.label, "bright", group.label),
        _number(group.queued, "bright"),
        _number(group.leased, "text", doubt),
        _number(waiting, "orange", doubt),
        _number(calling, "sky", doubt),
        _number(group.deferred, "orange"),
        Cell(percent(row.share) if row is not None else "–", "text", row.share if row else 0.0),
        _number(debt, "purple"),
        Cell(duration(oldest), age_style, oldest or 0.0),
        Cell(wait_bar(oldest, appearance.glyphs), age_style, oldest or 0.0),
        Cell(*waits_for(group, row), group.blocked_by or "~"),
    )


def _number(value: int, style: str, doubt: str = "") -> Cell:
    return Cell(f"{count(value)}{doubt if value else ''}", style if value else "faint", value)
