from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from engine.identity import (
    ModelAlias,
    ProviderModelKey,
    SchedulerResourceKey,
    TaskGroupKey,
    merge_static_caps,
)
from engine.metadata import (
    DEFAULT_METADATA,
    FATAL_CODES,
    SchedulingMetadata,
    SchedulingMetadataError,
)
from engine.scheduling.resolver import SUBMISSION, MetadataDiagnostic, TaskSchedulingResolver

MODEL = SchedulingMetadata("model", ("model", "alpha", "gen-8b", "chat"), 8)
CPU = SchedulingMetadata("local", ("local", "cpu"))


class Source:
    """A generator of which only the metadata matters."""

    def __init__(self, tell: Callable[[], Any]) -> None:
        self.calls = 0
        self._tell = tell

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        self.calls += 1
        metadata: SchedulingMetadata = self._tell()
        return metadata


def tells(metadata: Any) -> Source:
    return Source(lambda: metadata)


def raises(error: Exception) -> Source:
    def tell() -> SchedulingMetadata:
        raise error

    return Source(tell)


def test_a_model_column_needs_a_slot_and_its_model_stage() -> None:
    resolved = TaskSchedulingResolver().resolve("question", tells(MODEL), ("question",))
    assert resolved.group.key.label == "model/alpha/gen-8b/chat/question"
    assert resolved.group.weight == 8
    assert resolved.resource_request.labels == {"submission": 1, "model_stage:alpha/gen-8b": 1}


def test_a_custom_model_column_is_staged_by_namespace_and_resource() -> None:
    metadata = SchedulingMetadata("custom_model", ("custom_model", "team", "tool", "v2"))
    resolved = TaskSchedulingResolver().resolve("c", tells(metadata), ("c", "d"))
    assert resolved.resource_request.labels == {"submission": 1, "model_stage:team/tool": 1}
    assert resolved.group.key == TaskGroupKey(
        "custom_model", ("custom_model", "team", "tool", "v2", "c", "d")
    )


def test_a_local_resource_counts_only_where_it_is_limited() -> None:
    limited = TaskSchedulingResolver({"cpu": 2})
    assert limited.resolve("a", tells(CPU), ("a",)).resource_request.amounts == {
        SUBMISSION: 1,
        SchedulerResourceKey("local", "cpu"): 1,
    }
    default = limited.resolve("b", tells(DEFAULT_METADATA), ("b",))
    assert default.resource_request.amounts == {SUBMISSION: 1}


def test_two_columns_on_one_resource_are_two_groups() -> None:
    resolver = TaskSchedulingResolver()
    item = resolver.resolve("a", tells(DEFAULT_METADATA), ("a",))
    other = resolver.resolve("b", tells(DEFAULT_METADATA), ("b",))
    assert item.group.key != other.group.key


def test_a_column_is_asked_for_once_per_run() -> None:
    resolver = TaskSchedulingResolver()
    source = tells(MODEL)
    first = resolver.resolve("a", source, ("a",))
    calls = source.calls
    assert resolver.resolve("a", source, ("a",)) is first
    assert source.calls == calls


def test_an_answer_that_changes_is_fatal() -> None:
    numbers = itertools.count()
    restless = Source(lambda: SchedulingMetadata("local", ("local", f"gpu{next(numbers)}")))
    with pytest.raises(SchedulingMetadataError, match='column "a"') as caught:
        TaskSchedulingResolver().resolve("a", restless, ("a",))
    assert caught.value.code == "non_deterministic_identity"


def test_an_explained_fallback_is_taken_and_told() -> None:
    resolver = TaskSchedulingResolver()
    error = SchedulingMetadataError("no_gpu", "no GPU is here; the CPU does the same work", CPU)
    resolved = resolver.resolve("a", raises(error), ("a",))
    assert resolved.group.key.identity == ("local", "cpu", "a")
    assert resolver.diagnostics == [
        MetadataDiagnostic("a", "no_gpu", "no GPU is here; the CPU does the same work")
    ]


@pytest.mark.parametrize("code", sorted(FATAL_CODES))
def test_no_fallback_mends_a_fatal_code(code: str) -> None:
    with pytest.raises(SchedulingMetadataError) as caught:
        TaskSchedulingResolver().resolve(
            "a", raises(SchedulingMetadataError(code, "because", CPU)), ("a",)
        )
    assert caught.value.code == code


@pytest.mark.parametrize(
    "error",
    [
        SchedulingMetadataError("no_gpu", "no GPU is here"),
        SchedulingMetadataError("no_gpu", "  ", CPU),
    ],
)
def test_without_a_fallback_or_its_explanation_an_error_is_fatal(error: Exception) -> None:
    resolver = TaskSchedulingResolver()
    with pytest.raises(SchedulingMetadataError, match='column "a": '):
        resolver.resolve("a", raises(error), ("a",))
    assert resolver.diagnostics == []


def test_an_error_of_the_users_code_is_one_sentence_without_its_words() -> None:
    with pytest.raises(SchedulingMetadataError) as caught:
        TaskSchedulingResolver().resolve("a", raises(KeyError("secret")), ("a",))
    assert str(caught.value) == 'column "a": get_scheduling_metadata failed with KeyError'


def test_anything_but_metadata_is_refused() -> None:
    with pytest.raises(SchedulingMetadataError, match="not str") as caught:
        TaskSchedulingResolver().resolve("a", tells("gpu"), ("a",))
    assert caught.value.code == "invalid_metadata"


def test_metadata_may_lower_the_cap_of_its_endpoint_and_never_raise_it() -> None:
    resolver = TaskSchedulingResolver(static_caps={ProviderModelKey("alpha", "gen-8b"): 6})
    assert resolver.resolve("a", tells(MODEL), ("a",)).group.weight == 6
    assert [diagnostic.code for diagnostic in resolver.diagnostics] == ["weight_above_cap"]
    lower = SchedulingMetadata("model", MODEL.identity, 2)
    assert resolver.resolve("b", tells(lower), ("b",)).group.weight == 2
    assert len(resolver.diagnostics) == 1


def test_the_order_of_aliases_changes_nothing() -> None:
    aliases = [
        ModelAlias("writer", ProviderModelKey("alpha", "gen"), 9),
        ModelAlias("twin", ProviderModelKey("alpha", "gen"), 4),
        ModelAlias("judge", ProviderModelKey("beta", "gen"), 2),
    ]
    merged = merge_static_caps(aliases)
    for order in itertools.permutations(aliases):
        again = merge_static_caps(order)
        assert list(again.items()) == list(merged.items())
    cap = merged[ProviderModelKey("alpha", "gen")]
    assert (cap.cap, cap.aliases) == (4, ("twin", "writer"))
    assert cap.raw_caps == {"twin": 4, "writer": 9}
