"""What a run has made is on disk, and survives a process that is killed at any instant."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.events.run_folder import CELLS
from engine.rows.kept_cells import DroppedRow, WrittenGroup
from engine.rows.run_store import RunStore, dropped_rows
from engine.virtual_time import VirtualTimeLoop


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = VirtualTimeLoop()
    yield loop
    loop.close()


@pytest.fixture
def opened(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> Iterator[Callable[[], RunStore]]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield lambda: RunStore(fd, loop, in_threads=False)
    os.close(fd)


def group(**changes: Any) -> WrittenGroup:
    facts: dict[str, Any] = {
        "rows": 3,
        "surviving": 3,
        "unfinished": 0,
        "columns": ("a",),
        "completed": {"a": 3},
        "dropped": (),
    }
    return WrittenGroup(**(facts | changes))


def test_cells_are_read_again(opened: Callable[[], RunStore]) -> None:
    store = opened()
    store.put(0, 1, "a", {"deep": [1, None]})
    store.put(0, 1, "b", "text")
    store.put_batch(0, range(3), "c", [1, 2, 3])
    store.put(0, 1, "b", "newer")
    store.drop(0, [DroppedRow(2, "b", "HTTP400", "bad_request", 1)])
    store.flush()
    restored = opened().restore(0)
    assert restored.values == {
        0: {"c": 1},
        1: {"a": {"deep": [1, None]}, "b": "newer", "c": 2},
        2: {"c": 3},
    }
    assert restored.dropped == {2: DroppedRow(2, "b", "HTTP400", "bad_request", 1)}
    assert restored.has(1, "a")
    assert not restored.has(0, "a")
    assert restored.is_dropped(2)


def test_only_the_owner_may_read(opened: Callable[[], RunStore], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = opened()
        store.put(0, 1, "a", 1)
        store.flush()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / CELLS).stat().st_mode) == 0o700
    files = list((tmp_path / CELLS).iterdir())
    assert len(files) >= 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_file_that_was_cut_anywhere_gives_its_whole_frames(
    opened: Callable[[], RunStore], tmp_path: Path
) -> None:
    store = opened()
    for row in range(4):
        store.put(7, row, "a", f"value {row}")
    store.flush()
    path = tmp_path / CELLS / "000007.log"
    whole = path.read_bytes()
    seen = set()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        values = opened().restore(7).values
        assert values == {row: {"a": f"value {row}"} for row in range(len(values))}
        assert path.stat().st_size <= size
        seen.add(len(values))
        later = opened()
        later.put(7, 9, "a", "behind")
        later.flush()
        assert opened().restore(7).values[9] == {"a": "behind"}
    assert seen == {0, 1, 2, 3, 4}


def test_a_changed_byte_ends_what_is_read(opened: Callable[[], RunStore], tmp_path: Path) -> None:
    store = opened()
    for row in range(3):
        store.put(0, row, "a", "same")
    store.flush()
    path = tmp_path / CELLS / "000000.log"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert list(opened().restore(0).values) == [0]


def test_a_finished_row_group_leaves_no_cells(
    opened: Callable[[], RunStore], tmp_path: Path
) -> None:
    store = opened()
    store.put(0, 1, "a", 1)
    store.flush()
    assert store.open_groups() == [0]
    store.end_group(0)
    store.note_written(0, group())
    again = opened()
    assert again.open_groups() == []
    assert again.written_group(0) == group()
    assert list(again.written_groups()) == [(0, group())]


def test_of_a_row_group_with_drops_the_cells_of_dropped_rows_are_kept(
    opened: Callable[[], RunStore],
) -> None:
    store = opened()
    store.put(0, 0, "a", "kept in Parquet")
    store.put(0, 1, "a", "paid for")
    dropped = DroppedRow(1, "b", "HTTP400", "bad_request", 2)
    store.drop(0, [dropped])
    store.end_group(0)
    store.note_written(0, group(surviving=2, dropped=(dropped,)))
    again = opened()
    assert again.restore(0).values == {1: {"a": "paid for"}}
    assert again.restore(0).dropped == {}
    assert list(dropped_rows(again)) == [dropped]


def test_a_row_group_that_a_stop_left_unfinished_stays_open(
    opened: Callable[[], RunStore],
) -> None:
    store = opened()
    store.put(0, 0, "a", 1)
    store.end_group(0)
    store.note_written(0, group(surviving=1, unfinished=2))
    store.note_written(1, group())
    store.note_written(0, group())
    again = opened()
    assert [index for index, _ in again.written_groups()] == [0, 1]
    assert again.written_group(0) == group()


def test_a_log_of_row_groups_that_was_cut_is_read_up_to_there(
    opened: Callable[[], RunStore], tmp_path: Path
) -> None:
    store = opened()
    for index in range(3):
        store.note_written(index, group())
    path = tmp_path / CELLS / "groups.log"
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        groups = list(opened().written_groups())
        assert groups == [(index, group()) for index in range(len(groups))]
        later = opened()
        later.note_written(9, group(rows=9))
        assert opened().written_group(9) == group(rows=9)


def test_values_that_cant_be_kept_are_told(opened: Callable[[], RunStore]) -> None:
    store = opened()
    columns: list[str] = []
    store.on_unkept = columns.append
    store.put(0, 1, "a", object())
    store.put(0, 2, "a", 2)
    store.flush()
    store.put_batch(0, [3], "b", [object()])
    assert columns == ["a", "b"]
    assert opened().restore(0).values == {2: {"a": 2}}


def test_a_full_disk_delays_cells(
    opened: Callable[[], RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    store.put(0, 1, "a", "in pieces")
    store.flush()
    assert opened().restore(0).values == {1: {"a": "in pieces"}}

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    store.put(0, 2, "a", "late")
    store.flush()
    assert 2 not in opened().restore(0).values
    monkeypatch.setattr(os, "write", write)
    store.flush()
    assert opened().restore(0).values[2] == {"a": "late"}


def test_what_was_spent_is_known_after_a_kill_behind_the_first_write(
    opened: Callable[[], RunStore],
) -> None:
    """The other slot is a hole then."""
    store = opened()
    store.note_spent(b"one")
    store.flush()
    assert opened().spent == b"one"


def test_zeros_behind_what_was_kept_hold_no_cell(
    opened: Callable[[], RunStore], tmp_path: Path
) -> None:
    """As a loss of power may leave them."""
    store = opened()
    store.put(0, 1, "a", "kept")
    store.flush()
    store.end_group(0)
    store.note_written(1, group())
    cells = tmp_path / CELLS
    for path in (cells / "000000.log", cells / "groups.log"):
        path.write_bytes(path.read_bytes() + bytes(100))
    again = opened()
    assert again.restore(0).values == {1: {"a": "kept"}}
    assert dict(again.written_groups()) == {1: group()}
    again.note_written(2, group())
    assert set(dict(opened().written_groups())) == {1, 2}


def test_what_was_spent_survives_a_write_that_was_cut(
    opened: Callable[[], RunStore], tmp_path: Path
) -> None:
    store = opened()
    for spent in (b"one", b"two", b"three"):
        store.note_spent(spent)
        store.flush()
    assert opened().spent == b"three"
    path = tmp_path / CELLS / "spent"
    data = path.read_bytes()
    at = data.index(b"three")
    path.write_bytes(data[: at + 2] + b"\0" + data[at + 3 :])
    assert opened().spent == b"two"
