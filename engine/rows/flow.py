"""`RowGroupFlow`: admits row groups and emits the events about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from engine.events import EventStream
from engine.rows.admission import RowGroupAdmission, RowGroupSpec

_TARGET_REACHED = ("target_reached",)


class RowGroupPeaks(Protocol):
    """Keeps the maxima of row groups."""

    def note_row_groups(self, in_flight: int, target: int, block_reasons: tuple[str, ...]) -> None:
        """There are so many row groups in flight, of a target of so many."""


class RowGroupFlow:
    """Admits row groups as far as `admission` allows, and reports each that has to wait once."""

    def __init__(
        self, stream: EventStream, admission: RowGroupAdmission, peaks: RowGroupPeaks
    ) -> None:
        self._stream = stream
        self._admission = admission
        self._peaks = peaks
        self._reported_blocked: int | None = None

    def admit(self) -> Iterator[RowGroupSpec]:
        """Admit the row groups that may start now; each is reported before it is yielded."""
        row_groups = self._admission
        while (spec := row_groups.try_admit()) is not None:
            self._stream.scheduler(
                "row_group_admitted",
                diagnostics={
                    "row_group": spec.index,
                    "rows": spec.rows,
                    "in_flight": len(row_groups.in_flight),
                    "target": row_groups.target,
                },
            )
            yield spec
        blocked = row_groups.next
        self._peaks.note_row_groups(
            len(row_groups.in_flight), row_groups.target, () if blocked is None else _TARGET_REACHED
        )
        if blocked is not None and blocked.index != self._reported_blocked:
            self._reported_blocked = blocked.index
            self._stream.scheduler(
                "row_group_admission_blocked",
                reason=_TARGET_REACHED[0],
                diagnostics={
                    "next_row_group": blocked.index,
                    "in_flight": len(row_groups.in_flight),
                    "target": row_groups.target,
                },
            )

    def use_free_slots(self) -> bool:
        """Nothing is queued, so free task slots stay unused: raise the target of row groups if it
        may grow. Returns whether it did."""
        row_groups = self._admission
        before = row_groups.target
        if not row_groups.raise_target():
            return False
        self._stream.scheduler(
            "row_group_admission_target_changed",
            reason="queue_empty",
            diagnostics={
                "previous": before,
                "target": row_groups.target,
                "in_flight": len(row_groups.in_flight),
            },
        )
        return True
