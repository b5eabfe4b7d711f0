from __future__ import annotations

import os
import pty
import socket
from pathlib import Path

import pytest

from engine.events.safe_files import UnsafeFile, open_folder, open_regular, read_small


def make(kind: str, path: Path, target: Path) -> None:
    """Put something that is no regular file of its own at `path`."""
    if kind == "link":
        target.write_text("theirs")
        path.symlink_to(target)
    elif kind == "broken link":
        path.symlink_to(target)
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            before = os.getcwd()
            os.chdir(path.parent)  # the name of a socket is short
            try:
                server.bind(path.name)
            finally:
                os.chdir(before)


KINDS = {
    "link": "it is a symbolic link",
    "broken link": "it is a symbolic link",
    "folder": "it is a folder",
    "fifo": "it is a FIFO",
    "socket": "it is a socket",
}
FLAGS = [os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("kind", list(KINDS))
def test_nothing_but_a_regular_file_is_opened(tmp_path: Path, kind: str, flags: int) -> None:
    make(kind, tmp_path / "it", tmp_path / "target")
    with pytest.raises(UnsafeFile) as caught:
        open_regular(tmp_path / "it", flags)
    assert caught.value.strerror == KINDS[kind]
    assert (tmp_path / "target").exists() == (kind == "link")
    if kind == "link":
        assert (tmp_path / "target").read_text() == "theirs"


@pytest.mark.parametrize("flags", FLAGS)
def test_a_device_is_not_opened(flags: int) -> None:
    master, terminal = pty.openpty()  # the one device that anybody may make
    try:
        with pytest.raises(UnsafeFile, match="it is a device"):
            open_regular(os.ttyname(terminal), flags)
    finally:
        os.close(master)
        os.close(terminal)


def test_a_file_with_a_second_name_is_not_opened_to_be_written(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    os.link(tmp_path / "theirs", tmp_path / "it")
    os.close(open_regular(tmp_path / "it"))
    with pytest.raises(UnsafeFile, match="second name"):
        open_regular(tmp_path / "it", os.O_RDWR, sole_name=True)


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        os.close(open_regular(tmp_path / "it", os.O_WRONLY | os.O_CREAT))
    finally:
        os.umask(before)
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o600


def test_a_small_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"x" * 100)
    assert read_small(tmp_path / "it", limit=100) == b"x" * 100
    with pytest.raises(UnsafeFile, match="larger than 99 bytes"):
        read_small(tmp_path / "it", limit=99)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsafeFile, match="larger than"):
        read_small(tmp_path / "huge")


def test_a_folder_is_opened_through_a_link_only_where_that_was_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    os.close(open_folder(tmp_path / "real"))
    os.close(open_folder(tmp_path / "link", follow=True))
    with pytest.raises(UnsafeFile, match="it is a symbolic link"):
        open_folder(tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(UnsafeFile, match="it is a regular file"):
        open_folder(tmp_path / "file", follow=True)
