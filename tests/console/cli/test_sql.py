"""`headgate sql`: rows on stdout, everything else on stderr."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from console.cli.main import run_cli
from console.cli.sql import interruptible
from engine.events import JournalEnd, JournalHeader, RequestEvent, RunInfo, encode_lines

HOSTILE = "\x1b[31mred\u202e\x9b"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """JSON Lines of 1,200 events, the first of them with a hostile reason."""
    events = [
        RequestEvent("request_queue_formed", 100.0 + n / 100, n, reason_or_outcome=f"r{n}")
        for n in range(1, 1201)
    ]
    path = tmp_path / "run.jsonl"
    run = RunInfo("run-1", "small", monotonic_start=100.0)
    path.write_bytes(
        encode_lines([JournalHeader(run, 1, 1), *events, JournalEnd("success", 112.0, 0, 1200)])
    )
    return path


Captured = pytest.CaptureFixture[str]


def test_a_table_is_cut_with_a_note(lines: Path, capsys: Captured) -> None:
    assert run_cli(["sql", str(lines), "SELECT ordinal, t, reason FROM events"]) == 0
    said = capsys.readouterr()
    table = said.out.splitlines()
    assert table[0].split() == ["ordinal", "t", "reason"]
    assert table[2].split() == ["1", "0.000", "r1"]
    assert len(table) == 2 + 1000
    assert "Only the first 1,000 rows are shown; --limit 0 shows all." in said.err
    assert run_cli(["sql", str(lines), "--limit", "0", "FROM events"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 + 1200
    assert "1,200 rows" in said.err


def test_a_table_wider_than_the_terminal_is_told_row_by_row(
    lines: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.cli.sql.text_width", lambda: 60)
    query = f"SELECT ordinal, '{HOSTILE}' || repeat(' word', 40) AS much FROM events LIMIT 2"
    assert run_cli(["sql", str(lines), query]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 60
    assert told.count("word") == 80
    assert [line for line in told.splitlines() if line.startswith("row")] == ["row 1", "row 2"]
    assert not set(told) & set("\x1b\u202e\x9b")
    assert run_cli(["sql", str(lines), "SELECT ordinal, t, reason FROM events LIMIT 2"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["ordinal", "t", "reason"]


def test_csv_and_json_have_all_rows(lines: Path, capsys: Captured) -> None:
    query = "SELECT ordinal, reason, NULL AS nothing, 1 / 3 AS third FROM events"
    assert run_cli(["sql", str(lines), "--csv", query]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(table) == 1200
    assert table[0] == {
        "ordinal": "1", "reason": "r1", "nothing": "", "third": "0.3333333333333333",
    }  # fmt: skip
    assert run_cli(["sql", str(lines), "--json", query]) == 0
    objects = json.loads(capsys.readouterr().out)
    assert len(objects) == 1200
    assert objects[-1] == {"ordinal": 1200, "reason": "r1200", "nothing": None, "third": 1 / 3}
    assert run_cli(["sql", str(lines), "--json", "SELECT 1 WHERE false"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_values_of_every_type_can_be_shown(lines: Path, capsys: Captured) -> None:
    query = (
        "SELECT 'nan'::DOUBLE AS f, [1, 2] AS l, {'a': 'b'} AS s, 'ab'::BLOB AS b, "
        "DATE '2026-01-02' AS d, INTERVAL 90 SECOND AS i, 2::HUGEINT ** 100 AS h, true AS t"
    )
    assert run_cli(["sql", str(lines), "--json", query]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["f"] is None
    assert (row["l"], row["s"], row["b"], row["t"]) == ([1, 2], {"a": "b"}, "6162", True)
    assert (row["d"], row["i"]) == ("2026-01-02", 90.0)
    for how in ("--csv", "--limit=9"):
        assert run_cli(["sql", str(lines), how, query]) == 0
        assert "2026-01-02" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["--csv", "--json", "--limit=5"])
def test_no_escape_code_comes_through(lines: Path, capsys: Captured, how: str) -> None:
    assert run_cli(["sql", str(lines), how, f"SELECT '{HOSTILE}' AS \"{HOSTILE}\""]) == 0
    said = capsys.readouterr()
    assert not set(said.out + said.err) & set("\x1b\u202e\x9b")
    assert "red" in said.out


def test_an_error_with_a_hostile_name_is_one_harmless_sentence(
    lines: Path, capsys: Captured
) -> None:
    assert run_cli(["sql", str(lines), f'SELECT "{HOSTILE}" FROM tasks']) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2  # what is read, and the sentence
    assert not set(said.err) & set("\x1b\u202e\x9b")


def test_views_are_described(lines: Path, capsys: Captured) -> None:
    assert run_cli(["sql", str(lines), "--views"]) == 0
    said = capsys.readouterr().out
    for name in ("tasks", "requests", "leases", "ceilings", "stalls", "blame", "events", "run"):
        assert f"\n{name}: " in said
    assert "ready_queue_wait" in said
    assert max(len(line) for line in said.splitlines() if line.startswith("  ")) <= 80


def test_a_query_is_needed_and_may_come_from_stdin(
    lines: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_cli(["sql", str(lines)]) == 2
    assert "--views" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"SELECT 42 AS answer")))
    assert run_cli(["sql", str(lines), "-"]) == 0
    assert capsys.readouterr().out.split() == ["answer", "------", "42"]


def test_ctrl_c_stops_the_query_before_it_ends_the_command() -> None:
    stop = threading.Event()
    order: list[str] = []

    def work() -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait()
        order.append("stopped")
        return True

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interruptible(work, stop.set)
    finally:
        signal.signal(signal.SIGINT, before)
    assert order == ["stopped"]
