"""The filter language: one meaning as SQL and as a predicate, and mistakes told where they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.recording.filters import (
    EVENTS,
    LEASES,
    RUNS,
    STALLS,
    SUBJECTS,
    FilterError,
    Subject,
    parse,
)
from replay.recording.views import ALL_VIEWS
from tests.effort import effort

WORDS = (
    *("judge", "JUDGE", "beta", "gamma/x", "request_sent", "request_*", "*_429", "100%", "a_b"),
    *("İ", "ß", "it's", "back\\slash", "17", "judge/17", "judge/x", "日本", ";--", "%", "_", "*"),
)
TEXTS = st.one_of(st.sampled_from(WORDS), st.text(st.characters(codec="utf-8"), max_size=6))
NUMBERS = st.one_of(
    st.sampled_from((0, 1, 2, 17, -3, 0.25, 2.0, 60.0)),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


printable = TEXTS.filter(str.isprintable)


def comparisons(subject: Subject) -> st.SearchStrategy[str]:
    def of(name: str) -> st.SearchStrategy[str]:
        field = next(field for field in subject.fields if field.name == name)
        if field.kind == "number":
            signs = st.sampled_from((":", "=", "!=", "<", "<=", ">", ">="))
            values = st.sampled_from(("17", "2s", "250ms", "1m", "-3", "0", "12k", "0.25"))
        else:
            signs = st.sampled_from((":", "=", "!="))
            plain = st.sampled_from([word for word in WORDS if word != ";--"])
            values = plain | printable.map(quoted)
        return st.tuples(signs, values).map(lambda pair: name + pair[0] + pair[1])

    return st.sampled_from([field.name for field in subject.fields]).flatmap(of)


def filters(subject: Subject) -> st.SearchStrategy[str]:
    words = st.sampled_from(("judge", "beta", "a_b", "100%", "it's")) | printable.map(quoted)
    return st.recursive(
        comparisons(subject) | words,
        lambda inner: st.one_of(
            inner.map(lambda text: f"!({text})"),
            inner.map(lambda text: f"not ({text})"),
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) ({pair[1]})"),
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) and ({pair[1]})"),
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) or ({pair[1]})"),
        ),
        max_leaves=6,
    )


def columns(subject: Subject) -> dict[str, str]:
    """Columns of the view with a type; the number that ends a task's id is made of a text."""
    kinds: dict[str, str] = {}
    for field in subject.fields:
        if field.part == "all":
            kinds[field.column] = "VARCHAR" if field.kind == "text" else "DOUBLE"
    if "row_index" in kinds:
        kinds["row_index"] = "BIGINT"
    return kinds


def as_bigint(number: float) -> int:
    """The number as a BIGINT may hold it."""
    return int(max(-(2**62), min(number, 2**62)))


def rows(subject: Subject) -> st.SearchStrategy[list[dict[str, Any]]]:
    values = {
        name: st.none()
        | (TEXTS if kind == "VARCHAR" else NUMBERS.map(as_bigint if kind == "BIGINT" else float))
        for name, kind in columns(subject).items()
    }
    return st.lists(st.fixed_dictionaries(values), max_size=6)


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    for subject in SUBJECTS:
        named = ", ".join(f'"{name}" {kind}' for name, kind in columns(subject).items())
        connection.execute(f'CREATE TABLE "{subject.view}" (nth INTEGER, {named})')
    yield connection
    connection.close()


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_sql_and_predicate_choose_the_same_rows(
    database: duckdb.DuckDBPyConnection, subject: Subject
) -> None:
    names = list(columns(subject))

    @settings(max_examples=effort(60, 2_000), deadline=None, derandomize=True)
    @given(filters(subject), rows(subject))
    def check(text: str, table: list[dict[str, Any]]) -> None:
        database.execute(f'DELETE FROM "{subject.view}"')
        for nth, row in enumerate(table):
            marks = ", ".join("?" * (len(names) + 1))
            database.execute(
                f'INSERT INTO "{subject.view}" VALUES ({marks})', [nth, *map(row.get, names)]
            )
        where = subject.where(text)
        chosen = database.execute(f'SELECT nth FROM "{subject.view}" WHERE {where}').fetchall()
        matches = subject.predicate(text)
        expected = {nth for nth, row in enumerate(table) if matches(row)}
        assert {nth for (nth,) in chosen} == expected, text

    check()


@pytest.mark.parametrize("subject", [EVENTS, STALLS, LEASES], ids=lambda subject: subject.name)
def test_every_field_is_a_column_of_the_documented_view(subject: Subject) -> None:
    view = next(view for view in ALL_VIEWS if view.name == subject.view)
    known = {column.name for column in view.columns}
    assert {field.column for field in subject.fields} <= known


JUDGE = {
    "task_column": "judge",
    "task_id": "judge/17",
    "kind": "request_lease_acquired",
    "resource": "beta/large/chat",
    "t": 2.5,
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("judge", True),
        ("JUD", True),
        ("column:judge", True),
        ("column:jud", False),
        ("column:jud*", True),
        ("provider:beta", True),
        ("provider:alpha", False),
        ("kind:request_*", True),
        ("at>2s", True),
        ("at>2500ms", False),
        ("at>=2500ms", True),
        ("row:17", True),
        ("!judge", False),
        ("not column:answer", True),
        ("judge answer", False),
        ("judge and row:17", True),
        ("answer or judge", True),
        ("answer judge or row:17", True),
        ("answer (judge or row:17)", False),
        ('"request lease"', False),
        ("reason:x", False),
        ("reason!=x", False),
        ("!reason:x", True),
        ('kind:"request_*"', False),
    ],
)
def test_meaning(text: str, matches: bool) -> None:
    assert EVENTS.predicate(text)(JUDGE) is matches


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("(judge", 0, "not closed"),
        ("judge)", 5, "closes nothing"),
        ("judge or", 8, "missing here"),
        ("or judge", 0, "missing here"),
        ("judge and and x", 10, "missing here"),
        ('"judge', 0, "not closed"),
        ("colour:judge", 0, "events have no colour; they have kind, stream"),
        ("at>soon", 3, "is a number"),
        ("kind>3", 4, "is text"),
        ("kind:", 5, "a value for kind is missing"),
        (":judge", 0, "the name of a field is missing"),
        ("!", 1, "missing here"),
        ("judge\x1b", 5, "can't be shown"),
        ("(" * 60 + "a" + ")" * 60, 50, "too many"),
    ],
)
def test_a_mistake_is_told_where_it_is(text: str, position: int, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        EVENTS.where(text)
    assert caught.value.position == position
    assert words in caught.value.sentence
    assert caught.value.under(text).splitlines()[-1].index("^") == position
    with pytest.raises(FilterError):
        EVENTS.predicate(text)


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_a_mistake(text: str) -> None:
    position = 0
    try:
        parse(text)
    except FilterError as error:
        position = error.position
    assert 0 <= position <= len(text)


def test_runs_have_what_their_list_shows() -> None:
    row = {"name": "demo", "rows_dropped": 3, "seconds": 90.0, "state": "lost"}
    assert RUNS.predicate("dropped>0 duration>1m !state:live")(row)
