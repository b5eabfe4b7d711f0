"""Recordings that somebody else made: a good one with code, or impossible values, put into it."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import msgspec

from replay.recording.schema import TABLES

SHADOWED = (
    "count",
    "min",
    "max",
    "sum",
    "coalesce",
    "greatest",
    "contains",
    "regexp_matches",
    "octet_length",
    "isfinite",
    "json_extract",
    "json_extract_string",
    "arg_min",
    "any_value",
    "bool_and",
    "current_catalog",
    "current_setting",
    "list_sort",
    "+",
    "-",
    "||",
    "=",
    "<=",
    "not",
    "duckdb_tables",
    "gap",
)
"""Names that a reader of a recording might use."""
TABLE_FUNCTIONS = (
    "duckdb_tables",
    "duckdb_columns",
    "duckdb_functions",
    "duckdb_views",
    "duckdb_databases",
    "pragma_table_info",
    "events",
    "unnest",
    "range",
)


@dataclass(frozen=True)
class Bait:
    """What no command may touch: files in a folder that is watched, and a port that is listened
    to."""

    folder: Path
    port: int

    @property
    def payloads(self) -> dict[str, str]:
        """Queries that read a file, by what they use."""
        file = str(self.folder / "secret.csv")
        return {
            "read_text": f"SELECT content FROM read_text('{file}')",
            "read_blob": f"SELECT content::VARCHAR FROM read_blob('{file}')",
            "read_csv": f"SELECT t.a::VARCHAR FROM read_csv('{file}') t",
            "sniff_csv": f"SELECT Columns::VARCHAR FROM sniff_csv('{file}')",
            "glob": f"SELECT file FROM glob('{self.folder}/*')",
            "file": f"SELECT t.a::VARCHAR FROM '{file}' t",
        }

    @property
    def remote(self) -> tuple[str, ...]:
        """Names that lead to the network, or to an extension; the last is a file."""
        address = f"127.0.0.1:{self.port}"
        return (
            f"http://{address}/x",
            f"http://{address}/x.csv",
            "s3://bucket/x.parquet",
            "hf://datasets/a/b/x.parquet",
            f"{self.folder}/secret.csv",
        )


@dataclass(frozen=True)
class Crafted:
    """Statements that are run on a copy of a good recording."""

    name: str
    statements: Sequence[str]
    logged: bool = False
    """They stay in the write-ahead log, which is replayed at opening."""
    values: Sequence[object] = ()
    """Parameters of the last statement."""
    storage: str = "v1.5.0"

    def make(self, good: Path, folder: Path) -> Path:
        """The recording, in a new folder."""
        made = folder / "made"
        made.mkdir(parents=True)
        path = made / "recording.duckdb"
        connection = duckdb.connect(
            str(path),
            config={
                "storage_compatibility_version": self.storage,
                "autoinstall_known_extensions": "false",
            },
        )
        try:
            connection.execute(f"ATTACH '{good}' AS good (READ_ONLY)")
            connection.execute("COPY FROM DATABASE good TO recording")
            connection.execute("DETACH good")
            connection.execute("CHECKPOINT")
            if self.logged:
                connection.execute("SET checkpoint_threshold = '1GB'")
            for statement in self.statements:
                last = statement is self.statements[-1]
                connection.execute(statement, list(self.values) if last and self.values else None)
            if not self.logged:
                return path
            copy = folder / "logged" / "recording.duckdb"
            copy.parent.mkdir()
            shutil.copy(path, copy)
            shutil.copy(f"{path}.wal", f"{copy}.wal")
            return copy
        finally:
            connection.close()


def with_code(bait: Bait) -> Iterator[Crafted]:
    """Every kind of object that holds code, under names that a reader might use."""
    payloads = bait.payloads
    read_text = payloads["read_text"]
    for name in SHADOWED:
        macro = f'CREATE MACRO "{name}"(a := 1, b := 2, c := 3) AS ({read_text})'
        yield Crafted(f"macro {name}", [macro])
    for name in TABLE_FUNCTIONS:
        yield Crafted(
            f"table macro {name}", [f'CREATE MACRO "{name}"(a := 1, b := 2) AS TABLE {read_text}']
        )
    for what, payload in payloads.items():
        yield Crafted(f"macro with {what}", [f"CREATE MACRO max(x) AS ({payload})"])
    for place in bait.remote:  # a name is bound when the macro is called
        yield Crafted(
            f"macro with {place.partition(':')[0]}",
            [f"CREATE MACRO max(x, p := '{place}') AS (SELECT content FROM read_text(p))"],
        )
    for table, columns in TABLES.items():
        row = ", ".join(
            f'CAST(content AS {kind}) AS "{column}"' if kind == "VARCHAR" else
            f'CAST(NULL AS {kind}) AS "{column}"'
            for column, kind in columns
        )  # fmt: skip
        file = bait.folder / "secret.csv"
        yield Crafted(
            f"view {table}",
            [
                f'DROP TABLE IF EXISTS "{table}"',
                f"CREATE VIEW \"{table}\" AS SELECT {row} FROM read_text('{file}')",
            ],
        )
    for what, payload in payloads.items():
        yield Crafted(f"view with {what}", [f"CREATE VIEW extra AS {payload}"])
    yield Crafted("foreign table", ["CREATE TABLE extra AS SELECT 1 AS x"])
    yield Crafted("table in a schema", ["CREATE SCHEMA s", "CREATE TABLE s.meta (a INTEGER)"])
    yield Crafted("schema", ["CREATE SCHEMA recording"])
    yield Crafted("sequence", ["CREATE SEQUENCE numbers"])
    yield Crafted("enum", ["CREATE TYPE mood AS ENUM ('a', 'b')"])
    yield Crafted(
        "default of a sequence",
        [
            "CREATE SEQUENCE numbers",
            "ALTER TABLE broken_lines ALTER line_number SET DEFAULT nextval('numbers')",
        ],
    )
    yield Crafted("default", ["ALTER TABLE meta ALTER value SET DEFAULT repeat('x', 100)"])
    yield Crafted("another column", ["ALTER TABLE meta ADD COLUMN more VARCHAR"])
    yield Crafted("another type", ["ALTER TABLE broken_lines ALTER line_number TYPE VARCHAR"])
    yield Crafted("index", ["CREATE INDEX i ON meta (key)"])
    yield Crafted("index on an expression", ["CREATE INDEX i ON meta (upper(key))"])
    for what, declared in (
        ("generated column", "key VARCHAR, value VARCHAR GENERATED ALWAYS AS (repeat(key, 9))"),
        ("condition", "key VARCHAR, value VARCHAR, CHECK (length(key) > 0)"),
        ("condition with a macro", "key VARCHAR, value VARCHAR, CHECK (harmless(key) > 0)"),
        ("primary key", "key VARCHAR PRIMARY KEY, value VARCHAR"),
        ("not null", "key VARCHAR NOT NULL, value VARCHAR"),
        ("collation", "key VARCHAR COLLATE NOCASE, value VARCHAR"),
    ):
        fill = "key" if what == "generated column" else "key, value"
        yield Crafted(
            what,
            [
                "CREATE MACRO harmless(a) AS length(a)",
                "ALTER TABLE meta RENAME TO former",
                f"CREATE TABLE meta ({declared})",
                f"INSERT INTO meta ({fill}) SELECT {fill} FROM former",
                "DROP TABLE former",
                *([] if "macro" in what else ["DROP MACRO harmless"]),
            ],
        )
    yield Crafted(
        "trigger",
        [
            "CREATE TRIGGER t AFTER INSERT ON meta FOR EACH STATEMENT"
            " INSERT INTO broken_lines VALUES (1, 'x')"
        ],
        storage="v2.0.0",
    )
    yield Crafted("logged macro", [f"CREATE MACRO max(a) AS ({read_text})"], logged=True)
    yield Crafted("logged view", [f"CREATE VIEW extra AS {payloads['read_csv']}"], logged=True)
    yield Crafted("logged index", ["CREATE INDEX i ON meta (upper(key))"], logged=True)
    yield Crafted(
        "logged default",
        [
            "CREATE SEQUENCE numbers",
            "ALTER TABLE meta ADD COLUMN more BIGINT DEFAULT nextval('numbers')",
        ],
        logged=True,
    )


def with_logs(bait: Bait) -> Iterator[Crafted]:
    """The same code in the write-ahead log of another database. DuckDB replays such a log beside
    any database where its storage is too old to say whose it is, and refuses it otherwise."""
    for case in with_code(bait):
        if case.storage != "v2.0.0":
            yield replace(case, name=f"log: {case.name}", logged=True, storage="v1.2.0")
    [*_, case] = with_code(bait)
    yield replace(case, name="log of another database", storage="v1.5.0")


def damaged(log: bytes) -> dict[str, bytes]:
    """What else may stand in the place of a log."""
    return {
        "empty": b"",
        "cut": log[: len(log) // 2],
        "without its end": log[:-1],
        "twice": log * 2,
        "flipped": bytes(byte ^ (at % 97 == 50) for at, byte in enumerate(log)),
        "zeros": bytes(1 << 20),
        "text": b"CREATE MACRO max(a) AS 1;" * 100,
        "long entry": log[:8] + (2**63).to_bytes(8, "little") + log[16:],
    }


def with_values() -> Iterator[Crafted]:
    """Values that no run has, in tables as they should be."""
    for number in (2**63 - 1, -(2**63), 2**53 + 1, -1):
        yield Crafted(
            f"ordinal {number}",
            [f"UPDATE events SET ordinal = {number} WHERE ordinal = (SELECT max(ordinal) FROM"
             " events)"],
        )  # fmt: skip
        for table, column in (
            ("keyframes", "ordinal"),
            ("leases", "acquired_ordinal"),
            ("attempts", "first_ordinal"),
            ("rollup", "bin"),
            ("blame", "bin"),
        ):
            if number != -1 or column != "bin":
                yield Crafted(
                    f"{table}.{column} {number}", [f'UPDATE "{table}" SET "{column}" = {number}']
                )
    for text in ("nan", "inf", "-inf", "1e308", "-1e308"):
        for table, column in (
            ("events", "t"),
            ("keyframes", "t"),
            ("leases", "acquired_at"),
            ("attempts", "completed_at"),
            ("verdicts", "start"),
            ("verdicts", "end"),
        ):
            yield Crafted(
                f"{table}.{column} {text}",
                [f'UPDATE "{table}" SET "{column}" = \'{text}\'::DOUBLE'],
            )
        yield Crafted(
            f"one time {text}",
            [f"UPDATE events SET t = '{text}'::DOUBLE WHERE ordinal = 20"],
        )
    for version in ("NULL", "'eleven'", "''", "'1' || repeat('0', 5000)", "'-1e9'", "'١'"):
        yield Crafted(
            f"version {version[:10]}",
            [f"UPDATE meta SET value = {version} WHERE key = 'schema_version'"],
        )
    for table, column in (
        ("events", "ordinal"),
        ("events", "stream"),
        ("events", "kind"),
        ("events", "t"),
        ("events", "seq"),
        ("keyframes", "state"),
        ("keyframes", "t"),
        ("leases", "lease_id"),
        ("leases", "acquired_at"),
        ("attempts", "resource"),
        ("rollup", "series"),
        ("rollup", "mean"),
        ("blame", "seconds"),
        ("blame", "verdict"),
        ("verdicts", "evidence"),
        ("verdicts", "detail"),
    ):
        yield Crafted(f"{table}.{column} null", [f'UPDATE "{table}" SET "{column}" = NULL'])
    for key in ("run", "ending"):
        for what, value in (
            ("null", None),
            ("text", "hello"),
            ("empty", ""),
            ("list", "[]"),
            ("deep", "[" * 100_000),
            ("deep object", '{"a":' * 100_000),
            ("large", '{"run_id":"' + "x" * 50_000_000 + '"}'),
            ("odd", '{"run_id":"r","name":"n","monotonic_start":1e400,"wall_start":1e308}'),
            ("odd times", '{"run_id":"r","name":"n","monotonic_start":-9e9,"wall_start":1e300}'),
        ):
            yield Crafted(
                f"meta {key} {what}", [f"UPDATE meta SET value = ? WHERE key = '{key}'"],
                values=[value],
            )  # fmt: skip
    for what, state in (
        ("garbage", b"\x00" * 100),
        ("not MessagePack", zlib.compress(b"\xc1" * 100)),
        ("nested", zlib.compress(b"\x91" * 1_000_000)),
        ("nested maps", zlib.compress(b"\x81\xa1a" * 500_000)),
        ("huge array", zlib.compress(b"\xdd\xff\xff\xff\xff")),
        ("list", zlib.compress(msgspec.msgpack.encode([1, 2, 3]))),
        ("map", zlib.compress(msgspec.msgpack.encode({"time": "now", "tasks": 7}))),
        ("bomb", bomb(1 << 31)),
        ("large", zlib.compress(msgspec.msgpack.encode("x" * 200_000_000), 1)),
        ("empty", b""),
    ):
        yield Crafted(f"keyframe {what}", ["UPDATE keyframes SET state = ?"], values=[state])
        yield Crafted(f"fold {what}", ["UPDATE resume SET fold = ?"], values=[state])
    for column in ("snapshot", "diagnostics"):
        for what, text in (
            ("deep", '{"a":' * 50_000 + "1" + "}" * 50_000),
            ("deep list", '{"a":' + "[" * 50_000 + "]" * 50_000 + "}"),
            ("list", "[1]"),
            ("cut", '{"a":'),
            ("nan", '{"records": NaN}'),
            ("odd", '{"row": {"a": 1}, "resources": [1], "rows": "many", "limit": 1e300}'),
        ):
            yield Crafted(
                f"{column} {what}",
                [f"UPDATE events SET {column} = ? WHERE ordinal % 7 = 0"],
                values=[text],
            )
    for stream in ("scheduler", "request", "else"):
        yield Crafted(f"all {stream}", [f"UPDATE events SET stream = '{stream}'"])
    yield Crafted("detail deep", ["UPDATE verdicts SET detail = ?"], values=['{"a":' * 50_000])
    yield Crafted("no evidence", ["UPDATE verdicts SET evidence = [NULL, 9223372036854775807]"])
    yield Crafted("no run", ["DELETE FROM meta WHERE key = 'run'"])
    yield Crafted("no events", ["DELETE FROM events"])
    yield Crafted("no keyframes", ["DELETE FROM keyframes"])
    yield Crafted("events twice", ["INSERT INTO events SELECT * FROM events"])
    yield Crafted("no leases table", ["DROP TABLE leases"])
    yield Crafted("diagnosis of an older version",
                  ["UPDATE meta SET value = '0' WHERE key = 'diagnosis_version'",
                   "UPDATE events SET t = 9e9 WHERE ordinal = (SELECT max(ordinal) FROM events)"],
                  )  # fmt: skip
    yield Crafted(
        "far apart", ["UPDATE events SET ordinal = 900000000 + ordinal WHERE ordinal > 9"]
    )


def bomb(size: int) -> bytes:
    """So many zero bytes, as zlib packs them."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(size >> 20))
    return packed + packer.flush()


class Watched:
    """Tells whether files of a folder were opened, by anybody, from the moment it is made."""

    _OPENED_OR_CHANGED = 0x20 | 0x1 | 0x2 | 0x100 | 0x200
    """IN_OPEN, IN_ACCESS, IN_MODIFY, IN_CREATE, IN_DELETE"""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        added = self._library.inotify_add_watch(
            self._descriptor, os.fsencode(folder), self._OPENED_OR_CHANGED
        )
        if added < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def touched(self) -> bool:
        """Since the last time it was asked."""
        try:
            return bool(os.read(self._descriptor, 65_536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def bait_in(folder: Path) -> Iterator[tuple[Bait, Callable[[], bool]]]:
    """A bait, and what tells whether it was taken since it was last asked."""
    folder.mkdir()
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    duckdb.connect(str(folder / "other.duckdb")).close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        bait = Bait(folder, server.getsockname()[1])
        watched = Watched(folder) if sys.platform == "linux" else None

        def taken() -> bool:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                return watched is not None and watched.touched()
            return True

        try:
            yield bait, taken
        finally:
            if watched is not None:
                watched.close()
