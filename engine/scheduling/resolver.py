"""`TaskSchedulingResolver`: from a generator's metadata to its group and scheduler resources."""

from __future__ import annotations

from collections.abc import Mapping

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.metadata import SchedulingMetadata, SchedulingMetadataError
from engine.scheduling.types import (
    ResolvedTaskScheduling,
    SchedulerResourceRequest,
    TaskGroupSpec,
)

SUBMISSION = SchedulerResourceKey("submission")


class TaskSchedulingResolver:
    """Resolves each column once per run.

    `local_limits` maps resource names to limits; a local task needs `local:<name>` only where one
    is configured. Raises `SchedulingMetadataError` (`non_deterministic_identity`) where one column
    is resolved twice with different metadata.
    """

    def __init__(self, local_limits: Mapping[str, int] | None = None) -> None:
        self._local_limits = dict(local_limits or {})
        self._by_column: dict[
            str, tuple[SchedulingMetadata, tuple[str, ...], ResolvedTaskScheduling]
        ] = {}

    def resolve(
        self, column: str, metadata: SchedulingMetadata, output_columns: tuple[str, ...]
    ) -> ResolvedTaskScheduling:
        known = self._by_column.get(column)
        if known is not None:
            if known[:2] != (metadata, output_columns):
                raise SchedulingMetadataError(
                    "non_deterministic_identity",
                    f"Column {column!r} gave two different scheduling metadata in one run.",
                    diagnostics={"column": column},
                )
            return known[2]
        amounts = {SUBMISSION: 1}
        stage = self._stage(metadata)
        if stage is not None:
            amounts[stage] = 1
        resolved = ResolvedTaskScheduling(
            TaskGroupSpec(
                TaskGroupKey(metadata.kind, metadata.identity + output_columns),
                float(metadata.weight),
            ),
            SchedulerResourceRequest(amounts),
        )
        self._by_column[column] = (metadata, output_columns, resolved)
        return resolved

    def _stage(self, metadata: SchedulingMetadata) -> SchedulerResourceKey | None:
        if metadata.kind == "local":
            name = metadata.identity[1]
            return SchedulerResourceKey("local", name) if name in self._local_limits else None
        return SchedulerResourceKey("model_stage", "/".join(metadata.identity[1:3]))
