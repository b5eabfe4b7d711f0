from __future__ import annotations

import pytest

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.metadata import DEFAULT_METADATA, SchedulingMetadata, SchedulingMetadataError
from engine.scheduling.resolver import SUBMISSION, TaskSchedulingResolver


def test_a_model_column_needs_a_slot_and_its_model_stage() -> None:
    metadata = SchedulingMetadata("model", ("model", "alpha", "gen-8b", "chat"), 8)
    resolved = TaskSchedulingResolver().resolve("question", metadata, ("question",))
    assert resolved.group.key.label == "model/alpha/gen-8b/chat/question"
    assert resolved.group.weight == 8
    assert resolved.resource_request.labels == {"submission": 1, "model_stage:alpha/gen-8b": 1}


def test_a_custom_model_column_is_staged_by_namespace_and_resource() -> None:
    metadata = SchedulingMetadata("custom_model", ("custom_model", "team", "tool", "v2"))
    resolved = TaskSchedulingResolver().resolve("c", metadata, ("c", "d"))
    assert resolved.resource_request.labels == {"submission": 1, "model_stage:team/tool": 1}
    assert resolved.group.key == TaskGroupKey(
        "custom_model", ("custom_model", "team", "tool", "v2", "c", "d")
    )


def test_a_local_resource_counts_only_where_it_is_limited() -> None:
    limited = TaskSchedulingResolver({"cpu": 2})
    metadata = SchedulingMetadata("local", ("local", "cpu"))
    assert limited.resolve("a", metadata, ("a",)).resource_request.amounts == {
        SUBMISSION: 1,
        SchedulerResourceKey("local", "cpu"): 1,
    }
    assert limited.resolve("b", DEFAULT_METADATA, ("b",)).resource_request.amounts == {
        SUBMISSION: 1
    }


def test_two_columns_on_one_resource_are_two_groups() -> None:
    resolver = TaskSchedulingResolver()
    one = resolver.resolve("a", DEFAULT_METADATA, ("a",))
    other = resolver.resolve("b", DEFAULT_METADATA, ("b",))
    assert one.group.key != other.group.key


def test_a_column_is_resolved_once_and_must_stay_what_it_was() -> None:
    resolver = TaskSchedulingResolver()
    first = resolver.resolve("a", DEFAULT_METADATA, ("a",))
    assert resolver.resolve("a", DEFAULT_METADATA, ("a",)) is first
    with pytest.raises(SchedulingMetadataError) as caught:
        resolver.resolve("a", SchedulingMetadata("local", ("local", "cpu")), ("a",))
    assert caught.value.code == "non_deterministic_identity"
