from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.events.safe_files import open_folder
from engine.run.reserve import Reserve


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    descriptor = open_folder(folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_it_takes_room_until_it_is_freed(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        reserve = Reserve(folder, ".room", 10_000)
    status = (tmp_path / ".room").stat()
    assert status.st_size == 10_000
    assert status.st_blocks * 512 >= 10_000
    reserve.free()
    reserve.free()
    assert os.listdir(tmp_path) == []


def test_it_becomes_another_file_in_a_folder_that_was_renamed(tmp_path: Path) -> None:
    folder, moved = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    with opened(folder) as descriptor:
        reserve = Reserve(descriptor, ".room", 10_000)
    (folder / "run.json").write_text("before")
    folder.rename(moved)
    reserve.become("run.json", b"after")
    reserve.free()
    assert os.listdir(moved) == ["run.json"]
    assert (moved / "run.json").read_bytes() == b"after"


def test_where_there_is_no_room_it_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1]))
    try:
        with opened(tmp_path) as folder, pytest.raises(OSError, match="File too large"):
            Reserve(folder, ".room", 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []
