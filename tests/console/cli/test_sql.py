"""`headgate sql`: rows on stdout, everything else on stderr."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from console.cli.main import run_cli
from engine.events import JournalEnd, JournalHeader, RequestEvent, RunInfo, encode_lines
from replay.recording.ingest import Ingest
from replay.runs.open import open_source
from tests.effort import effort

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
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    assert out.count("word") == 80
    assert [line for line in out.splitlines() if line.startswith("row")] == ["row 1", "row 2"]
    assert not set(out) & set("\x1b\u202e\x9b")
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


LONG_QUERIES = {
    "cross join": "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range % 7 = 3",
    "long list": "SELECT len(list_sort(range(150000000)))",
    "repeat": "SELECT len(repeat('x', 1000000000))",
    "levenshtein": "SELECT levenshtein(repeat('ab', 100000), repeat('ba', 100000))",
    "recursion": "WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM t"
    " WHERE i < 1000000000) SELECT max(i) FROM t",
    "distinct": "SELECT count(DISTINCT hash(range)) FROM range(2000000000)",
    "sort": "SELECT range FROM range(300000000) ORDER BY hash(range) LIMIT 5 OFFSET 200000000",
    "window": "SELECT sum(x) FROM (SELECT sum(range) OVER (ORDER BY hash(range)) AS x"
    " FROM range(100000000))",
    "histogram": "SELECT histogram(range) FROM range(100000000)",
    "list of all": "SELECT list(range) FROM range(2000000000)",
    "median": "SELECT median(hash(range)) FROM range(1000000000)",
    "list lambda": "SELECT list_sum(list_transform(range(100000000), lambda x: x * 2))",
    "nested lambda": "SELECT list_transform(range(100000), lambda x:"
    " list_sum(list_transform(range(100000), lambda y: x * y)))",
    "text": "SELECT string_agg(range::VARCHAR, ',') FROM range(1000000000)",
    "regular expression": "SELECT regexp_replace(repeat('a', 300000000), '(a*)b', 'c', 'g')",
    "split": "SELECT len(string_split(repeat('a,', 100000000), ','))",
    "own data": "SELECT count(*) FROM events a, events b, events c, events d WHERE"
    " hash(a.ordinal, b.ordinal, c.ordinal, d.ordinal) = 7",
    "pivot": "SELECT count(*) FROM (SELECT unnest(range(1000000)) FROM range(1000000))",
}


HEADGATE = "from console.cli.main import main; main()"


class Asking:
    """`headgate sql` as a process, in a place for temporary files of its own."""

    def __init__(self, recording: Path, query: str, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", HEADGATE, "sql", str(recording), query],
            env={**os.environ, "TMPDIR": str(place)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def of_query(self) -> list[int]:
        """Processes that name the folder for temporary files of the query."""
        mine = os.fsencode(self.place / "headgate-sql-")
        result = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal() and mine in (entry / "cmdline").read_bytes():
                    result.append(int(entry.name))
        return result

    def await_query(self) -> int:
        """Until the query has used processor time of its own; its process."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for pid in self.of_query():
                with suppress(OSError):
                    if busy_seconds(pid) > BUSY_SECONDS:
                        return pid
            assert self.process.poll() is None
            time.sleep(0.01)
        raise AssertionError("the query did not begin")


BUSY_SECONDS = 1.0
"""Of processor time: starting and opening take less."""


def busy_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


SIGNALS = [signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(scope="module")
def small_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "recording.duckdb"
    events = [RequestEvent("request_queue_formed", 1.0 + n, n) for n in range(1, 200)]
    source = path.with_name("run.jsonl")
    source.write_bytes(encode_lines([JournalHeader(RunInfo("run-1", "small"), 1, 1), *events]))
    feed = open_source(source, growing=False).feed
    assert feed is not None
    ingest = Ingest(feed, path)
    while ingest.step():
        pass
    ingest.finish()
    ingest.close()
    feed.close()
    return path


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
@pytest.mark.parametrize("number", effort(SIGNALS[:2], SIGNALS))
@pytest.mark.parametrize("name", effort(["long list", "levenshtein"], list(LONG_QUERIES)))
def test_a_signal_ends_a_long_query_at_once_and_leaves_nothing(
    small_recording: Path, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    asking = Asking(small_recording, LONG_QUERIES[name], tmp_path / "place")
    asking.await_query()
    began = time.monotonic()
    asking.process.send_signal(number)
    _, said = asking.process.communicate(timeout=30)
    while asking.of_query() or any(asking.place.iterdir()):
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    expected = -number if number == signal.SIGKILL else 128 + number
    assert asking.process.returncode == expected
    assert b"Traceback" not in said


@pytest.mark.parametrize(
    "query",
    [
        "SELECT range(4000000000)",
        "SELECT len(repeat('x', 4000000000))",
        "SELECT len(list_transform(range(600000000), lambda x: x::VARCHAR))",
    ],
)
def test_a_query_that_needs_too_much_memory_is_told_so(
    small_recording: Path, capsys: Captured, query: str
) -> None:
    assert run_cli(["sql", str(small_recording), query]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "headgate: The query needs too much memory or disk: ask for less at once.\n"
    )


def test_timestamps_are_shown_as_they_are(lines: Path, capsys: Captured) -> None:
    query = "SELECT TIMESTAMP '2026-01-02 03:04:05.678901' AS seen_at, 7 AS n"
    assert run_cli(["sql", str(lines), query]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["seen_at", "n"]
    assert row.startswith("2026-01-02 03:04:05.678")
    assert run_cli(["sql", str(lines), "--csv", query]) == 0
    assert capsys.readouterr().out == "seen_at,n\n2026-01-02T03:04:05.678901,7\n"
    for odd in ("NULL::TIMESTAMP", "'infinity'::TIMESTAMP", "TIMESTAMP '0001-01-01 00:00:00'"):
        assert run_cli(["sql", str(lines), f"SELECT {odd} AS t"]) == 0
        capsys.readouterr()


def test_a_link_that_the_user_names_is_followed(
    lines: Path, tmp_path: Path, capsys: Captured
) -> None:
    link = tmp_path / "link.jsonl"
    link.symlink_to(lines)
    assert run_cli(["sql", str(link), "SELECT count(*) AS n FROM events"]) == 0
    assert capsys.readouterr().out.split()[0] == "n"


FORMULAS = ["=1+1", "+1-cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]


def test_cells_that_a_spreadsheet_would_run_are_quoted_on_request(
    lines: Path, capsys: Captured
) -> None:
    values = ", ".join(f"({cell!r})" for cell in [*FORMULAS, "plain", "-1.5", "a=b"])
    values = values.replace("'\\t", "chr(9)||'").replace("'\\r", "chr(13)||'")
    values = values.replace("'\\n", "chr(10)||'")
    query = f'SELECT text AS "=head", -2 AS n FROM (VALUES {values}) AS t(text)'
    assert run_cli(["sql", str(lines), "--csv", "--for-spreadsheet", query]) == 0
    head, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == ["'=head", "n"]
    assert [row[1] for row in rows] == ["-2"] * 10
    assert all(row[0].startswith("'") for row in rows[: len(FORMULAS)])
    assert [row[0] for row in rows[len(FORMULAS) :]] == ["plain", "-1.5", "a=b"]
    assert run_cli(["sql", str(lines), "--csv", query]) == 0
    assert "'=" not in capsys.readouterr().out
    assert run_cli(["sql", str(lines), "--for-spreadsheet", query]) == 2


def test_an_export_quotes_cells_on_request(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "run.jsonl"
    event = RequestEvent("request_queue_formed", 1.0, 1, reason_or_outcome="=1+1")
    path.write_bytes(encode_lines([JournalHeader(RunInfo("run-1", "small"), 1, 1), event]))
    export = ["export", str(path), "--format", "csv", "--table", "events", "--out", "-"]
    for options, expected in (([], "=1+1"), (["--for-spreadsheet"], "'=1+1")):
        assert run_cli([*export, *options]) == 0
        (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert row["reason"] == expected
    assert run_cli(["export", str(path), "--format", "svg", "--for-spreadsheet"]) == 2


def test_a_view_by_its_name_with_a_filter(lines: Path, capsys: Captured) -> None:
    where = "ordinal>5 ordinal<9"
    assert run_cli(["sql", str(lines), "events", "--where", where, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["ordinal"] for row in rows] == [6, 7, 8]


@pytest.mark.parametrize("query", [["SELECT 1"], ["blame"], ["--views"]])
def test_a_filter_without_a_view_that_has_one_is_refused(
    lines: Path, query: list[str], capsys: Captured
) -> None:
    assert run_cli(["sql", str(lines), *query, "--where", "x"]) == 2
    assert "--where goes with events, leases or stalls" in capsys.readouterr().err


def test_a_mistake_in_a_filter_is_shown_under_its_caret(lines: Path, capsys: Captured) -> None:
    assert run_cli(["sql", str(lines), "events", "--where", "kind>3"]) == 2
    assert "^" in capsys.readouterr().err
