"""Files of an export: each appears whole or not at all, and nothing is overwritten unasked."""

from __future__ import annotations

import gzip
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from engine.events import UserError
from engine.events.safe_files import kind_of
from replay.sources.sanitize import clean_text

STDOUT = Path("-")


def refuse_existing(paths: Sequence[Path], force: bool) -> None:
    """Raises `UserError` if one of `paths` stands there, or is no file that could be replaced."""
    for path in paths:
        if path == STDOUT:
            continue
        if path.is_dir():
            raise UserError(f"{_shown(path)} is a folder; name a file with --out.")
        try:
            status = os.lstat(path)
        except OSError:
            continue  # there is none, or making it tells why not
        if not stat.S_ISREG(status.st_mode):
            raise UserError(
                f"{_shown(path)} is {kind_of(status)}, and is never replaced; name another file "
                "with --out."
            )
        if not force:
            raise UserError(
                f"{_shown(path)} exists already; name another with --out, or use --force."
            )


@contextmanager
def new_file(path: Path, force: bool) -> Iterator[IO[bytes]]:
    """A file to write, compressed where its name ends in `.gz`; `-` is stdout.

    It stands under its name once the block has ended well. Raises `UserError` where it can't be
    written, or where another took the name in the meantime.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    refuse_existing([path], force)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("xb") as file:
                if path.suffix == ".gz":
                    with gzip.GzipFile(path.stem, "wb", 6, file, mtime=0) as packed:
                        yield packed  # type: ignore[misc]
                else:
                    yield file
            _put(part, path, force)
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError as error:
        raise UserError(f"{_shown(path)} exists already; use --force to replace it.") from error
    except OSError as error:
        raise UserError(f"{_shown(path)} can't be written: {error.strerror or error}.") from error


def new_folder(path: Path) -> None:
    """A folder to write files into; one that stands there is used. Raises `UserError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{_shown(path)} is a file; name a folder with --out.") from error
    except OSError as error:
        raise UserError(f"The folder {_shown(path)} can't be made: {error.strerror}.") from error


def _put(part: Path, path: Path, force: bool) -> None:
    if force:
        refuse_existing([path], force)  # it may have become a device since
        os.replace(part, path)
        return
    try:
        os.link(part, path)  # unlike a rename it never replaces
    except FileExistsError:
        raise
    except OSError:
        refuse_existing([path], force)
        os.replace(part, path)


def _shown(path: Path) -> str:
    return clean_text(str(path))
