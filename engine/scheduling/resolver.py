"""`TaskSchedulingResolver`: from a generator's metadata to its group and scheduler resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.identity import ProviderModelKey, SchedulerResourceKey, TaskGroupKey
from engine.metadata import (
    FATAL_CODES,
    SchedulingMetadata,
    SchedulingMetadataError,
    SchedulingMetadataSource,
)
from engine.scheduling.types import (
    ResolvedTaskScheduling,
    SchedulerResourceRequest,
    TaskGroupSpec,
)

SUBMISSION = SchedulerResourceKey("submission")


@dataclass(frozen=True, slots=True)
class MetadataDiagnostic:
    """A fallback that was taken in place of the metadata that a generator gave, and why."""

    column: str
    code: str
    message: str


class TaskSchedulingResolver:
    """Reads the metadata of each column's generator once per run.

    `diagnostics` holds the fallbacks taken so far.

    Args:
        local_limits: Limits by name of local resource; a local task needs `local:<name>` only where
            a limit is configured for that name.
        static_caps: Bounds of the weight of model metadata, by endpoint.
    """

    def __init__(
        self,
        local_limits: Mapping[str, int] | None = None,
        static_caps: Mapping[ProviderModelKey, int] | None = None,
    ) -> None:
        self.diagnostics: list[MetadataDiagnostic] = []
        self._local_limits = dict(local_limits or {})
        self._static_caps = dict(static_caps or {})
        self._resolved: dict[tuple[str, tuple[str, ...]], ResolvedTaskScheduling] = {}

    def resolve(
        self, column: str, source: SchedulingMetadataSource, output_columns: tuple[str, ...]
    ) -> ResolvedTaskScheduling:
        """Group and scheduler resources of every task of a column.

        Args:
            column: Name of the column, for messages.
            source: Its generator.
            output_columns: Names of the columns that it makes.

        Raises:
            SchedulingMetadataError: The metadata can't be scheduled and has no fallback.
        """
        resolution = self._resolved.get((column, output_columns))
        if resolution is not None:
            return resolution
        metadata = self._within_cap(column, self._steady_answer(column, source))
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
        self._resolved[column, output_columns] = resolved
        return resolved

    def _steady_answer(self, column: str, source: SchedulingMetadataSource) -> SchedulingMetadata:
        """The metadata of the source, which is read twice: an identity must not change."""
        metadata, fallback = self._ask(column, source)
        if self._ask(column, source)[0] != metadata:
            raise _named(
                column,
                "non_deterministic_identity",
                "the scheduling metadata must be the same each time, but two answers differ",
            )
        if fallback is not None:
            self.diagnostics.append(fallback)
        return metadata

    def _ask(
        self, column: str, source: SchedulingMetadataSource
    ) -> tuple[SchedulingMetadata, MetadataDiagnostic | None]:
        try:
            metadata = source.get_scheduling_metadata()
        except SchedulingMetadataError as error:
            explained = error.fallback is not None and error.message.strip()
            if error.fallback is None or not explained or error.code in FATAL_CODES:
                raise _named(column, error.code, error.message, error) from None
            return error.fallback, MetadataDiagnostic(column, error.code, error.message)
        except Exception as error:
            raise _named(
                column,
                "metadata_failed",
                f"get_scheduling_metadata failed with {type(error).__name__}",
            ) from None
        if not isinstance(metadata, SchedulingMetadata):
            raise _named(
                column,
                "invalid_metadata",
                "get_scheduling_metadata must return a SchedulingMetadata, "
                f"not {type(metadata).__name__}",
            )
        return metadata, None

    def _within_cap(self, column: str, metadata: SchedulingMetadata) -> SchedulingMetadata:
        """Metadata may ask for less than the static cap of its endpoint, never for more."""
        if metadata.kind != "model":
            return metadata
        endpoint = ProviderModelKey(*metadata.identity[1:3])
        cap = self._static_caps.get(endpoint)
        if cap is None or metadata.weight <= cap:
            return metadata
        message = (
            f"weight {metadata.weight} is above the cap of {endpoint.label}; "
            f"scheduled with the cap, {cap}"
        )
        self.diagnostics.append(MetadataDiagnostic(column, "weight_above_cap", message))
        return SchedulingMetadata(metadata.kind, metadata.identity, cap)

    def _stage(self, metadata: SchedulingMetadata) -> SchedulerResourceKey | None:
        if metadata.kind == "local":
            name = metadata.identity[1]
            return SchedulerResourceKey("local", name) if name in self._local_limits else None
        return SchedulerResourceKey("model_stage", "/".join(metadata.identity[1:3]))


def _named(
    column: str, code: str, message: str, cause: SchedulingMetadataError | None = None
) -> SchedulingMetadataError:
    return SchedulingMetadataError(
        code,
        f'column "{column}": {message}',
        diagnostics={**(cause.diagnostics if cause is not None else {}), "column": column},
    )
