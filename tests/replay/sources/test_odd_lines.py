"""Lines that are nearly good: what can be read of them is read, and the rest is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.events import Event, JournalHeader, RunInfo, encode_lines
from engine.events.run_folder import RunFolder
from replay.runs.open import open_source
from replay.sources.base import BrokenLine
from replay.sources.feed import Feed, open_journal, open_lines
from tests.replay.sources.json_lines import drain

YEAR = 366 * 86_400.0


def own(value: str, at: str = "5.5", sequence: int = 2) -> bytes:
    return (
        '{"stream":"scheduler","event_kind":"selected",'
        f'"captured_at_monotonic":{at},"sequence":{sequence},"diagnostics":{{"odd":{value}}}}}'
    ).encode()


def foreign(value: str, at: str = "5.5", sequence: int = 2) -> bytes:
    return own(value, at, sequence).replace(b'"stream":"scheduler",', b"")


Make = Callable[..., bytes]


def lines_file(folder: Path, lines: list[bytes]) -> Feed:
    (folder / "run.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return open_lines(folder / "run.jsonl", False)


def own_journal(folder: Path, lines: list[bytes]) -> Feed:
    run = RunFolder.create(folder / "run")
    header = encode_lines([JournalHeader(RunInfo("r", "n"), 1, 1)])
    run.segment(1).write_bytes(header + b"\n".join(lines) + b"\n")
    return open_journal(run)


def foreign_journal(folder: Path, lines: list[bytes]) -> Feed:
    run = RunFolder.create(folder / "run")
    info = RunInfo("r", "n", "data_designer")
    header = encode_lines([JournalHeader(info, 1, 1, "data_designer")])
    run.segment(1).write_bytes(header + b"\n".join(lines) + b"\n")
    return open_journal(run)


SHAPES = {
    "own file": (lines_file, own),
    "foreign file": (lines_file, foreign),
    "own journal": (own_journal, own),
    "foreign journal": (foreign_journal, foreign),
}
Open = Callable[[Path, list[bytes]], Feed]


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> tuple[Open, Make]:
    return SHAPES[request.param]


def read(feed: Feed) -> tuple[list[Event], list[BrokenLine]]:
    with closing(feed):
        return drain(feed)


@pytest.mark.parametrize(
    ("value", "becomes", "reported"),
    [
        ("NaN", None, "NaN is read as null"),
        ("-Infinity", None, "-Infinity is read as null"),
        ("[1e999,Infinity]", [None, None], "1e999 is read as null, Infinity is read as null"),
        ('"a\\ud800b"', "a\ufffdb", "surrogate"),
        ('{"\\udfff":1}', {"\ufffd": 1}, "surrogate"),
        ('"a\udcffb"', "a\ufffdb", "not UTF-8"),
        ('"\udced\udca0\udc80\\u001b"', "\ufffd\ufffd\ufffd\ufffd", "not UTF-8"),
    ],
)
def test_an_event_is_kept_without_what_is_no_json(
    tmp_path: Path, shape: tuple[Open, Make], value: str, becomes: object, reported: str
) -> None:
    opened, line = shape
    odd = line("~").replace(b"~", value.encode(errors="surrogateescape"))
    events, broken = read(opened(tmp_path, [line("1", "5", 1), odd, line("2", "6", 3)]))
    assert [event.sequence for event in events] == [1, 2, 3]
    assert events[1].diagnostics["odd"] == becomes
    assert len(broken) == 1
    assert reported in broken[0].problem
    assert not broken[0].skipped


@pytest.mark.parametrize(
    "at",
    ["NaN", "Infinity", "1e308", "1e99", "-9.9e9", "9.9e9", f"{YEAR * 1.1:.0f}", "null", '"x"'],
)
def test_a_time_that_can_not_be_breaks_its_line_alone(
    tmp_path: Path, shape: tuple[Open, Make], at: str
) -> None:
    opened, line = shape
    lines = [line("1", str(number), number) for number in range(1, 9)]
    lines[4] = line("1", at, 5)
    events, broken = read(opened(tmp_path, lines))
    assert [event.sequence for event in events] == [1, 2, 3, 4, 6, 7, 8]
    assert [broken_line.skipped for broken_line in broken] == [True]


def test_a_first_line_of_another_time_does_not_cost_the_others(tmp_path: Path) -> None:
    lines = [own("1", "9e9", 1), *(own("1", str(n), n) for n in range(2, 9))]
    events, broken = read(lines_file(tmp_path, lines))
    assert [event.sequence for event in events] == [2, 3, 4, 5, 6, 7, 8]
    assert "more than a year away" in broken[0].problem


def test_clocks_of_any_age_are_fine(tmp_path: Path, shape: tuple[Open, Make]) -> None:
    """Only the distance counts: a machine may have run for long."""
    opened, line = shape
    lines = [line("1", str(8e9 + number * 86_400), number) for number in range(1, 30)]
    events, broken = read(opened(tmp_path, lines))
    assert len(events) == 29
    assert not broken


@pytest.mark.parametrize("make", [own, foreign])
def test_a_byte_order_mark_costs_no_line(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "run.jsonl"
    lines = [make("1", "5", 1), make("2", "6", 2)]
    if make is own:
        lines.insert(0, encode_lines([JournalHeader(RunInfo("r1", "demo"), 1, 1)]).strip())
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n")
    opened = open_source(path, growing=False)
    assert opened.feed is not None
    events, broken = read(opened.feed)
    assert [event.sequence for event in events] == [1, 2]
    assert broken == []
    assert make is foreign or (opened.feed.run is not None and opened.feed.run.name == "demo")


@pytest.mark.parametrize("version", ["null", '"one"', "1e99", "NaN", "-1", "1.5", "[]"])
def test_a_header_with_an_odd_version_costs_itself_alone(tmp_path: Path, version: str) -> None:
    header = json.loads(encode_lines([JournalHeader(RunInfo("r1", "demo"), 1, 1)]))
    header["run"]["schema_version"] = "~"
    line = json.dumps(header).replace('"~"', version).encode()
    events, broken = read(lines_file(tmp_path, [line, own("1", "5", 1), own("2", "6", 2)]))
    assert len(events) == 2
    assert [(broken_line.line_number, broken_line.skipped) for broken_line in broken] == [(1, True)]
