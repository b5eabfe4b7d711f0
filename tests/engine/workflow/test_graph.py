from __future__ import annotations

import pytest

from engine.workflow.graph import ColumnGraph, find_cycle


def test_the_order_is_topological_and_else_as_declared() -> None:
    graph = ColumnGraph({"last": ["b", "a"], "b": ["a"], "a": [], "free": []})
    assert graph.order == ("a", "free", "b", "last")
    assert graph.roots == ("a", "free")


def test_both_directions_of_an_edge() -> None:
    graph = ColumnGraph({"a": [], "b": ["a"], "c": ["a", "b"]})
    assert graph.depends_on["c"] == ("a", "b")
    assert graph.dependants["a"] == ("b", "c")
    assert graph.dependants["c"] == ()


def test_a_cycle_reads_along_the_needs() -> None:
    needs = {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}
    cycle = find_cycle(needs)
    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"a", "b", "c"}
    assert all(cycle[i + 1] in needs[cycle[i]] for i in range(3))
    with pytest.raises(ValueError, match="cycle"):
        ColumnGraph(needs)


def test_a_column_that_needs_itself() -> None:
    assert find_cycle({"a": ["a"]}) == ("a", "a")


def test_no_cycle() -> None:
    assert find_cycle({"a": [], "b": ["a"]}) == ()


def test_an_unknown_dependency_is_refused() -> None:
    with pytest.raises(ValueError, match='unknown column "x"'):
        ColumnGraph({"a": ["x"]})
