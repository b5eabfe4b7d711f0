"""`ColumnGraph`: which column needs which."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter


class ColumnGraph:
    """Columns and their dependencies; `order` is topological and keeps the declared order
    wherever dependencies leave a choice."""

    def __init__(self, dependencies: Mapping[str, Sequence[str]]) -> None:
        """Raises `ValueError` for a cycle or a dependency that is no column."""
        cycle = find_cycle(dependencies)
        if cycle:
            raise ValueError(f"the columns form a cycle: {' → '.join(cycle)}")
        dependants: dict[str, list[str]] = {name: [] for name in dependencies}
        for name, needed in dependencies.items():
            for other in needed:
                if other not in dependants:
                    raise ValueError(f'column "{name}" uses the unknown column "{other}"')
                dependants[other].append(name)
        self.depends_on: dict[str, tuple[str, ...]] = {
            name: tuple(needed) for name, needed in dependencies.items()
        }
        self.dependants: dict[str, tuple[str, ...]] = {
            name: tuple(others) for name, others in dependants.items()
        }
        self.order: tuple[str, ...] = self._ordered()

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(name for name in self.order if not self.depends_on[name])

    def ancestors(self, name: str) -> set[str]:
        """Columns that this one needs, also by way of others."""
        return _reached(name, self.depends_on)

    def between(self, sources: Collection[str], target: str) -> tuple[str, ...]:
        """The columns through which `sources` reach `target`, sources included and target not, in
        topological order."""
        before = self.ancestors(target)
        after = set(sources).union(*(_reached(name, self.dependants) for name in sources))
        return tuple(name for name in self.order if name in after & before)

    def _ordered(self) -> tuple[str, ...]:
        missing = {name: len(needed) for name, needed in self.depends_on.items()}
        ready = deque(name for name, count in missing.items() if count == 0)
        order = []
        while ready:
            name = ready.popleft()
            order.append(name)
            for other in self.dependants[name]:
                missing[other] -= 1
                if missing[other] == 0:
                    ready.append(other)
        return tuple(order)


def _reached(name: str, steps: Mapping[str, Sequence[str]]) -> set[str]:
    reached: set[str] = set()
    rest = [*steps[name]]
    while rest:
        other = rest.pop()
        if other not in reached:
            reached.add(other)
            rest.extend(steps[other])
    return reached


def find_cycle(dependencies: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """One cycle as `(a, b, a)`, each column needing the next; empty where there is none."""
    try:
        TopologicalSorter(dependencies).prepare()
    except CycleError as error:
        # graphlib lists each node before the one that needs it.
        return tuple(reversed(error.args[1]))
    return ()
