"""Queue: where the tasks of each group are, and who holds what they lack."""

from __future__ import annotations

from console.formatting import count, doubt_of, duration, percent, words
from console.screens.table_screen import SAMPLES, TableScreen
from console.theme import Appearance
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.playback.frame import Frame, GroupRow, Want
from replay.playback.queue_rows import QueueRow

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
    TableColumn("blocked by", 16, "<", 56),
)
_MOST_HOLDERS = 4


class QueueScreen(TableScreen):
    page_name = "Queue"

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
        rows = [_row(group, more.get(group.key), doubt_of(frame)) for group in frame.groups]
        oldest = max(frame.groups, key=lambda group: group.oldest_wait or 0.0, default=None)
        worst = None if oldest is None else oldest.key
        self.table.show(rows, f"{count(queued)} queued in {count(len(rows))} groups", worst)

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


def where(group: GroupRow, row: QueueRow | None) -> str:
    """Where the tasks of the group are, in words."""
    parts = [f"{count(group.queued)} queued"]
    if group.blocked_by:
        parts[0] += f" ({words(group.blocked_by)})"
    parts.append(f"{count(group.running)} running")
    if row is not None and row.calls_waiting:
        why = f" ({words(row.waits_for)})" if row.waits_for else ""
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


def _row(group: GroupRow, row: QueueRow | None, doubt: str) -> TableRow:
    debt = sum(row.debt.values()) if row is not None else 0
    waiting = row.calls_waiting if row is not None else 0
    calling = row.calls_in_provider if row is not None else 0
    oldest = group.oldest_wait
    return TableRow(
        group.key,
        (
            Cell(group.label, "bright", group.label),
            _number(group.queued, "bright"),
            _number(group.leased, "text", doubt),
            _number(waiting, "orange", doubt),
            _number(calling, "sky", doubt),
            _number(group.deferred, "orange"),
            Cell(percent(row.share) if row is not None else "–", "text", row.share if row else 0.0),
            _number(debt, "purple"),
            Cell(duration(oldest), "orange" if (oldest or 0) >= 10 else "text", oldest or 0.0),
            Cell(words(group.blocked_by or ""), "orange", group.blocked_by or "~"),
        ),
    )


def _number(value: int, style: str, doubt: str = "") -> Cell:
    return Cell(f"{count(value)}{doubt if value else ''}", style if value else "faint", value)
