"""`RunStore`: what a run has made so far, on disk, so that it can go on after any interruption.

In `cells/` of the run's folder, for its owner alone:

    workflow.json  what the cells depend on, to refuse another workflow
    groups.log     a frame for each row group that was written
    spent          tokens and money that the run has used so far
    NNNNNN.log     the cells of row group NNNNNN until that is written; then of its dropped rows

The files are only appended to. What one iteration of the event loop has made is handed to the
system together in the next one, so that a killed process loses no cell whose answer it had; the
disk itself is asked to keep it once a second (`SYNC_SECONDS`), and for a written row group at once.
The size is bounded by the row groups that are open, and by what was dropped. `kept_cells` has the
frames of a row group's file, `spent_file` the file `spent`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from engine.events.run_folder import CELLS
from engine.events.safe_files import open_folder, open_regular, read_small
from engine.rows.frames import frame, read_frames
from engine.rows.kept_cells import (
    BATCH,
    CELL,
    DROP,
    DroppedRow,
    Restored,
    WrittenGroup,
    frames_of,
    replay,
)
from engine.rows.spent_file import SpentFile
from engine.rows.values import UnkeepableValue, pack

GROUPS_LOG = "groups.log"
WORKFLOW_JSON = "workflow.json"
SYNC_SECONDS = 1.0
RETRY_SECONDS = 0.5
_MAX_WORKFLOW_BYTES = 64 << 20
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class _Log:
    """The file of one row group."""

    __slots__ = ("fd", "pending", "synced")

    def __init__(self) -> None:
        self.fd = -1
        self.pending = bytearray()
        self.synced = True


class RunStore:
    """Belongs to the thread of the event loop, but for `note_written`, which may block.

    Args:
        run_folder: Descriptor of the folder of the run.
        loop: Delays writes.
        in_threads: Ask the disk in a thread of its own to keep what was written; without it, it is
            never asked, as virtual time demands.

    Raises:
        OSError: The files can't be read or made.
    """

    def __init__(
        self, run_folder: int, loop: asyncio.AbstractEventLoop, *, in_threads: bool = True
    ) -> None:
        with suppress(FileExistsError):
            os.mkdir(CELLS, 0o700, dir_fd=run_folder)
        self._folder = open_folder(CELLS, dir_fd=run_folder)
        self._loop = loop
        self._in_threads = in_threads
        self._logs: dict[int, _Log] = {}
        self._flush_due = self._sync_due = False
        self._writing_groups = threading.Lock()
        self._groups_fd = open_regular(
            GROUPS_LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND, dir_fd=self._folder, sole_name=True
        )
        self._spent = SpentFile(self._folder)
        self._ends: dict[int, int] = {}
        """Offset of the last frame of each row group that was written."""
        self.on_unkept: Callable[[str], object] = lambda column: None
        """Called with the column of each value whose type can't be kept."""
        self._read_groups()

    # What there is

    @property
    def spent(self) -> bytes:
        """What the run has used so far, in the words of whoever counts it; empty for nothing."""
        return self._spent.content

    def written_groups(self) -> Iterator[tuple[int, WrittenGroup]]:
        """Each row group that was written, as it was written last."""
        for index, offset in sorted(self._ends.items()):
            group = self._group_at(offset)
            if group is not None:
                yield index, group

    def written_group(self, index: int) -> WrittenGroup | None:
        offset = self._ends.get(index)
        return None if offset is None else self._group_at(offset)

    def open_groups(self) -> list[int]:
        """Row groups of which there are cells."""
        stems = (name.removesuffix(".log") for name in os.listdir(self._folder))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def restore(self, index: int) -> Restored:
        """The cells and drops of a row group, as far as they were kept."""
        restored = Restored()
        try:
            fd = open_regular(_log_name(index), os.O_RDWR, dir_fd=self._folder, sole_name=True)
        except FileNotFoundError:
            return restored
        with open(fd, "r+b") as file:
            data = file.read()
            whole = 0
            for end, payload in read_frames(data):
                try:
                    replay(payload, restored)
                except (TypeError, ValueError):
                    break
                whole = end
            if whole < len(data):
                file.truncate(whole)
        return restored

    def rewrite(self, index: int, restored: Restored) -> None:
        """Replace the file of a row group by one with this content. Raises `OSError`."""
        content = b"".join(frames_of(restored))
        name = _log_name(index)
        temporary = f".{name}"
        fd = open_regular(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=self._folder, sole_name=True
        )
        with open(fd, "wb") as file:
            file.write(content)
        os.replace(temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def write_workflow(self, content: bytes) -> None:
        """Replace the description of the workflow. Raises `OSError`."""
        temporary = f".{WORKFLOW_JSON}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        fd = open_regular(temporary, flags, dir_fd=self._folder, sole_name=True)
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, WORKFLOW_JSON, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    # What is made

    def put(self, row_group: int, row: int, column: str, value: Any) -> None:
        self._append(row_group, [CELL, row, column, value])

    def put_batch(
        self, row_group: int, rows: Iterable[int], column: str, values: list[Any]
    ) -> None:
        self._append(row_group, [BATCH, list(rows), column, values])

    def drop(self, row_group: int, rows: Iterable[DroppedRow]) -> None:
        for row in rows:
            self._append(row_group, [DROP, *row])

    def flush(self) -> None:
        """Hand what is pending to the system."""
        self._flush_due = False
        refused = not self._spent.flush()
        for index, log in self._logs.items():
            if log.pending:
                refused |= not self._write_out(index, log)
        if refused:
            self._loop.call_later(RETRY_SECONDS, self._flush_later)
        if not self._sync_due and self._in_threads:
            self._sync_due = True
            self._loop.call_later(SYNC_SECONDS, self._sync)

    def note_spent(self, spent: bytes) -> None:
        """Keep what the run has used so far."""
        self._spent.content = spent
        self._flush_later()

    def end_group(self, row_group: int) -> None:
        """Nothing more is made of this row group."""
        log = self._logs.pop(row_group, None)
        if log is not None:
            if log.pending:
                self._write_out(row_group, log)
            if log.fd >= 0:
                os.close(log.fd)

    def note_written(self, index: int, group: WrittenGroup) -> None:
        """The rows of a row group are on disk. Call `end_group` before.

        Raises:
            OSError: That can't be noted: the row group counts as open.
        """
        payload = msgspec.msgpack.encode([index, *group])
        with self._writing_groups:
            offset = os.fstat(self._groups_fd).st_size
            data = memoryview(frame(payload))
            try:
                while data:
                    data = data[os.write(self._groups_fd, data) :]
                if self._in_threads:
                    os.fdatasync(self._groups_fd)
            except OSError:
                os.ftruncate(self._groups_fd, offset)
                raise
            self._ends[index] = offset
        if group.unfinished:
            return
        with suppress(OSError):  # what is left of it is not looked at
            if group.dropped:
                self._keep_dropped(index, group)
            else:
                os.unlink(_log_name(index), dir_fd=self._folder)

    def close(self) -> None:
        for index in list(self._logs):
            self.end_group(index)
        self._spent.close()
        for fd in (self._groups_fd, self._folder):
            os.close(fd)

    def _append(self, row_group: int, parts: list[Any]) -> None:
        try:
            payload = pack(parts)
        except UnkeepableValue:
            self.on_unkept(str(parts[2]))
            return
        log = self._logs.get(row_group)
        if log is None:
            log = self._logs[row_group] = _Log()
        log.pending += frame(payload)
        self._flush_later()

    def _flush_later(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def _write_out(self, index: int, log: _Log) -> bool:
        """False if the disk did not take all of it."""
        try:
            if log.fd < 0:
                log.fd = open_regular(
                    _log_name(index), _APPEND, dir_fd=self._folder, sole_name=True
                )
            while log.pending:
                written = os.write(log.fd, log.pending)
                log.synced = False
                del log.pending[:written]
        except OSError:
            return False
        return True

    def _sync(self) -> None:
        self._sync_due = False
        copies = []
        for log in self._logs.values():
            if not log.synced and log.fd >= 0:
                log.synced = True
                with suppress(OSError):
                    copies.append(os.dup(log.fd))
        if copies:
            threading.Thread(target=_sync_and_close, args=(copies,), daemon=True).start()

    def _keep_dropped(self, index: int, group: WrittenGroup) -> None:
        """Of a written row group only the cells of dropped rows are needed, to try those again."""
        restored = self.restore(index)
        dropped = {row.row for row in group.dropped}
        kept = Restored()
        kept.values = {row: restored.values[row] for row in dropped & restored.values.keys()}
        self.rewrite(index, kept)

    def _read_groups(self) -> None:
        data = os.pread(self._groups_fd, os.fstat(self._groups_fd).st_size, 0)
        start = 0
        for end, payload in read_frames(data):
            self._ends[msgspec.msgpack.decode(payload)[0]] = start
            start = end
        if start < len(data):
            os.ftruncate(self._groups_fd, start)

    def _group_at(self, offset: int) -> WrittenGroup | None:
        size = os.fstat(self._groups_fd).st_size - offset
        head = os.pread(self._groups_fd, 4, offset)
        length = 8 + int.from_bytes(head, "little")
        for _, payload in read_frames(os.pread(self._groups_fd, min(size, length), offset)):
            _, rows, surviving, unfinished, columns, completed, dropped = msgspec.msgpack.decode(
                payload
            )
            return WrittenGroup(
                rows,
                surviving,
                unfinished,
                tuple(columns),
                completed,
                tuple(DroppedRow(*row) for row in dropped),
            )
        return None


def _log_name(index: int) -> str:
    return f"{index:06d}.log"


def _sync_and_close(descriptors: list[int]) -> None:
    for fd in descriptors:
        with suppress(OSError):
            os.fdatasync(fd)
        os.close(fd)


def dropped_rows(store: RunStore) -> Iterator[DroppedRow]:
    """Every row that is dropped, also of row groups that are not finished."""
    finished = set()
    for index, group in store.written_groups():
        if not group.unfinished:
            finished.add(index)
            yield from group.dropped
    for index in store.open_groups():
        if index not in finished:
            yield from store.restore(index).dropped.values()


def read_workflow(run_folder: int) -> bytes | None:
    """The description of the workflow of a run; None where there is none. Raises `OSError`."""
    try:
        folder = open_folder(CELLS, dir_fd=run_folder)
    except FileNotFoundError:
        return None
    try:
        return read_small(WORKFLOW_JSON, dir_fd=folder, limit=_MAX_WORKFLOW_BYTES)
    except FileNotFoundError:
        return None
    finally:
        os.close(folder)
