from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.events import (
    Event,
    JournalEnd,
    JournalHeader,
    JournalLine,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
    decode_line,
    encode_lines,
)
from engine.events.journal import JournalWriter
from engine.events.run_folder import RunFolder
from engine.virtual_time import run_virtual

RUN = RunInfo("r1", "demo")


def scheduler(
    sequence: int, kind: str = "selected", diagnostics: dict[str, Any] | None = None
) -> SchedulerEvent:
    return SchedulerEvent(kind, float(sequence), sequence, diagnostics=diagnostics or {})


def request(sequence: int, kind: str = "request_wait_started") -> RequestEvent:
    return RequestEvent(kind, float(sequence), sequence)


def keyframe(sequence: int, reason: str = "segment") -> SchedulerEvent:
    return SchedulerEvent(
        "scheduler_health_snapshot",
        float(sequence),
        sequence,
        snapshot={"queued_total": 0},
        diagnostics={"reason": reason},
    )


def end(sequence: int = 0) -> JournalEnd:
    return JournalEnd("success", 9.0, sequence, 0)


def lines(folder: RunFolder, segment: int = 1) -> list[JournalLine]:
    data = folder.segment(segment).read_bytes()
    assert not data or data.endswith(b"\n")
    return [decode_line(line) for line in data.splitlines()]


def events(folder: RunFolder, segment: int = 1) -> list[Event]:
    return [e for e in lines(folder, segment) if isinstance(e, SchedulerEvent | RequestEvent)]


def covered(written: Sequence[Event]) -> list[int]:
    """Sequences that were written or are told to be lost."""
    numbers: list[int] = []
    for event in written:
        if event.event_kind == "recording_gap":
            span = event.diagnostics
            numbers += range(span["first_lost"], span["last_lost"] + 1)
        else:
            numbers.append(event.sequence)
    return numbers


class Disk:
    """`os.write` that takes only `room` more bytes; None for no limit."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.error = errno.ENOSPC
        self.writes: list[bytes] = []

    def write(self, fd: int, data: bytes) -> int:
        if self.room is not None:
            if self.room == 0:
                raise OSError(self.error, os.strerror(self.error))
            data = data[: self.room]
            self.room -= len(data)
        self.writes.append(data)
        return os.write(fd, data)


def writer_in(
    path: Path,
    disk: Disk,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    requested: list[str] | None = None,
    segment_bytes: int = 64 << 20,
) -> tuple[RunFolder, JournalWriter]:
    folder = RunFolder.create(path / "run")
    requests = requested if requested is not None else []
    writer = JournalWriter(
        folder,
        RUN,
        loop=loop,
        request_keyframe=requests.append,
        segment_bytes=segment_bytes,
        write=disk.write,
    )
    return folder, writer


def test_the_header_stands_there_at_once_and_the_end_last(tmp_path: Path) -> None:
    folder, writer = writer_in(tmp_path, Disk())
    assert lines(folder) == [JournalHeader(RUN, 1, 1)]
    writer.write_events([scheduler(1), request(1)])
    assert writer.close(end(1))
    assert lines(folder) == [JournalHeader(RUN, 1, 1), scheduler(1), request(1), end(1)]
    writer.write_events([scheduler(2)])
    assert len(lines(folder)) == 4


def test_one_write_an_interval(tmp_path: Path) -> None:
    disk = Disk()

    async def main() -> list[tuple[float, int]]:
        loop = asyncio.get_running_loop()
        folder, writer = writer_in(tmp_path, disk, loop=loop)
        seen = []
        disk.writes.clear()
        for sequence, wait in enumerate((1.0, 0.001, 0.004, 0.005, 0.015, 0.1), start=1):
            await asyncio.sleep(wait)
            writer.write_events([scheduler(sequence)])
            seen.append((round(loop.time(), 6), len(events(folder))))
        await asyncio.sleep(0.1)
        seen.append((round(loop.time(), 6), len(events(folder))))
        return seen

    # The first writes at once; three wait for 1.020; the fifth for 1.040; the last writes at once.
    assert run_virtual(main()) == [
        (1.0, 1),
        (1.001, 1),
        (1.005, 1),
        (1.01, 1),
        (1.025, 4),
        (1.125, 6),
        (1.225, 6),
    ]
    assert [data.count(b"\n") for data in disk.writes] == [1, 3, 1, 1]


def test_what_another_thread_writes_stands_behind_all_that_waited(tmp_path: Path) -> None:
    async def main() -> None:
        folder = RunFolder.create(tmp_path / "run")
        loop = asyncio.get_running_loop()
        journal = JournalWriter(folder, RUN, loop=loop, request_keyframe=lambda reason: None)
        journal.write_events([scheduler(1)])
        journal.write_events([scheduler(2)])  # waits for the interval to end
        stall = SchedulerEvent("loop_blocked", 2.5, 0, reason_or_result="waiting")
        thread = threading.Thread(target=journal.write_through, args=([stall],))
        thread.start()
        thread.join()
        assert [event.sequence for event in events(folder)] == [1, 2, 0]
        await asyncio.sleep(1.0)
        journal.write_events([scheduler(3)])
        journal.close(end(3))
        assert [event.sequence for event in events(folder)] == [1, 2, 0, 3]
        journal.write_through([stall])

    run_virtual(main())


def test_a_short_write_leaves_whole_lines_and_the_rest_follows(tmp_path: Path) -> None:
    line = len(encode_lines([scheduler(1)]))
    for whole, more in ((1, 0), (1, line - 1), (3, 0), (5, 3)):
        disk = Disk()
        folder, writer = writer_in(tmp_path / f"{whole}-{more}", disk)
        disk.room = whole * line + more
        writer.write_events([scheduler(n) for n in range(1, 9)])
        assert events(folder) == [scheduler(n) for n in range(1, whole + 1)]
        disk.room = None
        writer.write_events([scheduler(9)])
        assert events(folder) == [scheduler(n) for n in range(1, 10)]
        assert writer.shed_events == 0


def test_a_full_disk_sheds_all_but_the_ends_and_tells_of_the_gap(tmp_path: Path) -> None:
    disk, requested = Disk(), list[str]()
    folder, writer = writer_in(tmp_path, disk, requested=requested)
    writer.write_events([scheduler(1)])
    disk.room = 0
    writer.write_events([scheduler(2), request(1), scheduler(3)])
    writer.write_events([scheduler(4, "task_lease_released"), scheduler(5), request(2)])
    writer.write_events([request(3, "request_lease_released"), scheduler(6)])
    assert events(folder) == [scheduler(1)]
    assert requested == []
    disk.room = None
    writer.write_events([scheduler(7)])
    reported = [
        (e.diagnostics["stream"], e.diagnostics["first_lost"], e.diagnostics["last_lost"])
        if e.event_kind == "recording_gap"
        else (e.event_kind, e.sequence)
        for e in events(folder)
    ]
    assert reported == [
        ("selected", 1),
        ("scheduler", 2, 3),
        ("request", 1, 2),
        ("task_lease_released", 4),
        ("scheduler", 5, 6),
        ("request_lease_released", 3),
        ("selected", 7),
    ]
    gap = events(folder)[1]
    assert isinstance(gap, SchedulerEvent)
    assert (gap.reason_or_result, gap.sequence) == ("disk_full", 0)
    assert gap.diagnostics["cause"] == "disk_full"
    assert writer.shed_events == 6
    assert requested == ["segment"]
    assert writer.close(end(7))
    last = lines(folder)[-1]
    assert isinstance(last, JournalEnd)
    assert last.shed_events == 6


def test_every_sequence_is_written_or_told_to_be_lost(tmp_path: Path) -> None:
    disk = Disk()
    folder, writer = writer_in(tmp_path, disk)
    kinds = ["selected", "task_completed", "selected", "selected", "task_lease_released"]
    sequence = 0
    for round_ in range(60):
        disk.room = (None, 0, 150, 0, 420)[round_ % 5]
        disk.error = errno.EIO if round_ % 2 else errno.ENOSPC
        batch: list[Event] = []
        for kind in kinds:
            sequence += 1
            batch.append(scheduler(sequence, kind))
        writer.write_events(batch)
    disk.room = None
    assert writer.close(end(sequence))
    assert covered(events(folder)) == list(range(1, sequence + 1))
    ends = [e for e in events(folder) if e.event_kind == "task_lease_released"]
    assert len(ends) == 60
    assert 0 < writer.shed_events < sequence


def test_retries_on_a_full_disk_come_from_the_loop_and_slow_down(tmp_path: Path) -> None:
    disk = Disk()

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        tries: list[float] = []
        real = disk.write

        def write(fd: int, data: bytes) -> int:
            tries.append(round(loop.time(), 3))
            return real(fd, data)

        disk.write = write  # type: ignore[method-assign]
        folder, writer = writer_in(tmp_path, disk, loop=loop)
        tries.clear()
        disk.room = 0
        writer.write_events([scheduler(1, "task_lease_released")])
        await asyncio.sleep(0.5)
        disk.room = None
        await asyncio.sleep(2)
        assert [e.sequence for e in events(folder)] == [1]
        return tries

    assert run_virtual(main()) == [0.0, 0.02, 0.06, 0.14, 0.3, 0.62]


def test_a_long_segment_asks_once_and_the_next_opens_with_the_keyframe(tmp_path: Path) -> None:
    requested: list[str] = []
    folder, writer = writer_in(tmp_path, Disk(), requested=requested, segment_bytes=600)
    writer.write_events([scheduler(n) for n in range(1, 20)])
    writer.write_events([scheduler(20)])
    assert requested == ["segment"]
    writer.write_events([keyframe(21, "periodic"), scheduler(22), keyframe(23), request(1)])
    assert len(events(folder)) == 22
    assert lines(folder, 2) == [JournalHeader(RUN, 2, 23), keyframe(23), request(1)]
    writer.write_events([scheduler(n) for n in range(24, 60)])
    assert requested == ["segment", "segment"]
    writer.write_events([keyframe(60)])
    assert writer.close(end(60))
    assert lines(folder, 3) == [JournalHeader(RUN, 3, 61), keyframe(60), end(60)]


def test_a_segment_grows_with_the_keyframe_that_opens_it(tmp_path: Path) -> None:
    requested: list[str] = []
    folder, writer = writer_in(tmp_path, Disk(), requested=requested, segment_bytes=2_000)
    tasks = [{"task_id": f"t{n}"} for n in range(500)]
    large = msgspec.structs.replace(keyframe(1), snapshot={"tasks": tasks})
    for number in range(1, 5_000):
        writer.write_events([scheduler(number)])
        if len(requested) == len(folder.segment_numbers()):
            writer.write_events([large])
    sizes = [folder.segment(n).stat().st_size for n in folder.segment_numbers()]
    assert len(sizes) > 2
    assert all(size > 16 * len(encode_lines([large])) for size in sizes[1:-1])


def test_a_segment_never_opens_without_its_keyframe(tmp_path: Path) -> None:
    disk = Disk()
    folder, writer = writer_in(tmp_path, disk)
    header = len(folder.segment(1).read_bytes())
    for room in (0, 5, header + 20):
        disk.room = room
        writer.write_events([keyframe(1), scheduler(2), scheduler(3)])
        assert lines(folder, folder.segment_numbers()[-1])[1:] == []
        disk.room = None
        writer.write_events([scheduler(4, "task_completed")])
        last = folder.segment_numbers()[-1]
        assert isinstance(lines(folder, last)[0], JournalHeader)
        assert events(folder, last)[0].event_kind == "scheduler_health_snapshot"
    assert folder.segment_numbers() == [1, 2, 3, 4]


def test_a_fact_that_is_no_json_is_told_as_lost_and_holds_up_nothing(tmp_path: Path) -> None:
    folder, writer = writer_in(tmp_path, Disk())
    writer.write_events([scheduler(1), scheduler(2, diagnostics={"x": object()}), scheduler(3)])
    written = events(folder)
    assert [e.event_kind for e in written] == ["selected", "recording_gap", "selected"]
    assert written[1].diagnostics == {
        "stream": "scheduler",
        "first_lost": 2,
        "last_lost": 2,
        "cause": "unencodable",
    }


def test_a_real_limit_of_the_system_sheds_without_an_exception(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    writer = JournalWriter(folder, RUN, loop=None, request_keyframe=lambda reason: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        for start in range(1, 100, 10):
            writer.write_events([scheduler(n) for n in range(start, start + 10)])
        assert folder.segment(1).stat().st_size <= 2000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert writer.shed_events > 0
    assert writer.close(end(100))
    gaps = [e for e in events(folder) if e.event_kind == "recording_gap"]
    assert [g.diagnostics["cause"] for g in gaps] == ["disk_full"]
    assert covered(events(folder)) == list(range(1, 101))


def test_a_folder_renamed_in_mid_run_takes_the_journal_along(tmp_path: Path) -> None:
    requested: list[str] = []
    folder, writer = writer_in(tmp_path, Disk(), requested=requested, segment_bytes=1_000)
    writer.write_events([SchedulerEvent("selected", 1.0, 1)])
    (tmp_path / "run").rename(tmp_path / "moved")
    stranger = RunFolder.create(tmp_path / "run")
    number = 2
    while not requested:
        writer.write_events([SchedulerEvent("selected", 1.0, number)])
        number += 1
    writer.write_events([keyframe(number)])
    assert writer.close(JournalEnd("success", 9.0, number, 0))
    assert folder.segment_numbers() == [1, 2]
    moved = RunFolder(tmp_path / "moved")
    assert [event.sequence for n in (1, 2) for event in events(moved, n)] == list(
        range(1, number + 1)
    )
    assert stranger.segment_numbers() == []
