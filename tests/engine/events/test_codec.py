from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import (
    ColumnInfo,
    Event,
    HeaderFacts,
    JournalHeader,
    RequestEvent,
    RunInfo,
    RuntimeCorrelation,
    SchedulerEvent,
    decode_line,
    encode_lines,
)

RUN = RunInfo(
    "run-1",
    "small",
    columns=(
        ColumnInfo("draft", "llm_text", "cell", group_kind="model", group_hash="0123"),
        ColumnInfo("odd", "sampler", "batch"),
    ),
)
WHOLE = RuntimeCorrelation("run-1", 2, "draft", "cell", "model", "0123", "e9")

names = st.sampled_from(["run-1", "run-2", "draft", "odd", "model", "cell", "0123", ""])
correlations = st.none() | st.builds(
    RuntimeCorrelation,
    st.sampled_from(["run-1", "run-2"]),
    st.none() | st.integers(0, 3),
    st.none() | names,
    st.none() | names,
    st.none() | names,
    st.none() | names,
    st.none() | names,
)


def written(event: Event) -> dict[str, object]:
    line: dict[str, object] = json.loads(encode_lines([HeaderFacts(RUN).shorten(event)]))
    return line


@settings(max_examples=200)
@given(correlations)
def test_reading_puts_back_what_writing_left_out(reported: RuntimeCorrelation | None) -> None:
    events: tuple[Event, Event] = (
        SchedulerEvent("selected", 1.0, 1, reported),
        RequestEvent("request_queue_formed", 1.0, 1, reported),
    )
    facts = HeaderFacts(RUN)
    for event in events:
        [line] = encode_lines([facts.shorten(event)]).splitlines()
        read = decode_line(line)
        assert isinstance(read, SchedulerEvent | RequestEvent)
        assert facts.complete(read) == event


def test_what_the_header_says_is_not_said_again() -> None:
    assert written(SchedulerEvent("selected", 1.0, 1, WHOLE))["captured_correlation"] == {
        "row_group": 2,
        "task_column": "draft",
        "task_execution_id": "e9",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": "run-2"},
        {"task_column": "odd"},
        {"task_column": "unheard"},
        {"task_type": "batch"},
        {"scheduling_group_kind": None},
        {"scheduling_group_identity_hash": "4567"},
    ],
)
def test_what_differs_from_the_header_is_written_whole(change: dict[str, str | None]) -> None:
    reported = msgspec.structs.replace(WHOLE, **change)
    correlation = written(SchedulerEvent("selected", 1.0, 1, reported))["captured_correlation"]
    kept = {k: v for k, v in msgspec.structs.asdict(reported).items() if v is not None}
    assert correlation == kept


def test_a_header_is_left_as_it_is() -> None:
    header = JournalHeader(RUN, 1, 1)
    assert HeaderFacts(RUN).shorten(header) is header
