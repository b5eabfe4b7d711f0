"""Capacity: each value that the run uses, where it comes from, and the most that was observed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from console.formatting import words
from console.screens.table_screen import TableScreen
from console.theme import Appearance
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.playback.frame import Frame

_COLUMNS = (
    TableColumn("value of", 0, keeps_end=False),
    TableColumn("set to", 22, "<"),
    TableColumn("observed max", 15, "<", 64),
    TableColumn("source", 22, "<", 80),
)
_OBSERVED = {
    "row_group_concurrency": "row_groups_in_flight",
    "initial_target": "row_group_target",
    "submission_capacity": "leases_by_resource",
    "task_resource_limits": "leases_by_resource",
    "provider_model_static_caps": "aggregate_in_flight",
    "request_domain_initial_limits": "current_limits",
    "transport_pool_limits": "transport_utilisation",
}
"""Configured value -> the maximum that belongs beside it."""
_OWN_KEY = {"submission_capacity": "submission"}


class CapacityScreen(TableScreen):
    page_name = "Capacity"
    detail_lines = 5

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        empty = "This run does not tell its capacity plan."
        super().__init__(
            appearance, run_title, SelectTable(appearance, "Capacity plan", _COLUMNS, empty)
        )
        self._values: dict[str, Mapping[str, Any]] = {}

    def show_rows(self, frame: Frame) -> None:
        self._values = dict(_configured(frame.capacity))
        maxima = _mapping(frame.capacity.get("observed_maxima"))
        rows = [row for name, value in self._values.items() for row in _rows(name, value, maxima)]
        self.table.show(rows, f"{len(rows)} values" if rows else "")

    def show_facts(self, frame: Frame, key: str | None) -> None:
        value = self._values.get((key or "").partition("\n")[0])
        if key is None or value is None:
            self.facts.show("", "", ())
            return
        facts = [("source", words(str(value.get("source", "not told"))))]
        if value.get("fallback_from"):
            facts.append(("the rest from", words(str(value["fallback_from"]))))
        if value.get("missing_reason"):
            facts.append(("not known", str(value["missing_reason"])))
        self.facts.show(key.replace("\n", " of "), "", facts)


def _configured(capacity: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, capacity value) for each configured one; a struct of values is one name each."""
    for name, value in _mapping(capacity.get("configured")).items():
        if not isinstance(value, Mapping):
            continue
        if "source" in value:
            yield name, value
        else:
            for inner, below in value.items():
                if isinstance(below, Mapping):
                    yield inner, below


def _rows(name: str, value: Mapping[str, Any], maxima: Mapping[str, Any]) -> Iterator[TableRow]:
    """One row, or one for each key of a value that is a map."""
    source = words(str(value.get("source", "")))
    observed = _mapping(maxima.get(_OBSERVED.get(name, ""))).get("value")
    content = value.get("value")
    if isinstance(content, Mapping):
        for key, one in content.items():
            most = observed.get(key) if isinstance(observed, Mapping) else None
            yield _row(f"{name}\n{key}", f"{words(name)}: {key}", one, most, source)
        return
    if isinstance(observed, Mapping):
        observed = observed.get(_OWN_KEY.get(name, ""))
    yield _row(name, words(name), content, observed, source)


def _row(key: str, label: str, value: Any, most: Any, source: str) -> TableRow:
    used_up = isinstance(value, int | float) and isinstance(most, int | float) and most >= value
    return TableRow(
        key,
        (
            Cell(label, "bright", label),
            Cell(_shown(value), "text" if value is not None else "dim", _sortable(value)),
            Cell(
                "–" if most is None else _shown(most),
                "orange" if used_up else "text",
                _sortable(most),
            ),
            Cell(source, "dim", source),
        ),
    )


def _shown(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return str(value)


def _sortable(value: Any) -> float | str | None:
    return value if isinstance(value, int | float | str) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
