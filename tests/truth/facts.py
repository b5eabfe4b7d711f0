"""What is true of one recorded run: windows of trouble, calls and statuses by endpoint.

All of it comes from the log of the server and from the configuration, never from headgate. Times
are seconds of run time; 0 is the first event of the recording.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

Source = Literal["own", "exec", "native"]


class Window(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """What went on, where, and from when to when."""

    cause: str
    start: float
    end: float
    resource: str | None = None
    """`provider/model`; None for what concerns the whole process."""
    lost_slot_seconds: float = 0.0
    """Slot-seconds that were wanted meanwhile and could not be used, where that is known."""

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Status(msgspec.Struct, frozen=True):
    """Answers of one status: a number, or a word for what is no answer (`reset`, `hung`)."""

    count: int
    first: float
    last: float


class Endpoint(msgspec.Struct, frozen=True):
    """One `provider/model`, as its server saw it."""

    cap: int
    """The largest number of calls that the configuration allows at a time."""
    max_in_flight: int
    calls: int
    busy_slot_seconds: float
    """Sum of the durations of its calls."""
    statuses: dict[str, Status] = {}


class Run(msgspec.Struct, frozen=True):
    """One recording of a situation, and its truth."""

    file: str
    first_call: float
    last_answer: float
    windows: tuple[Window, ...]
    server: dict[str, Endpoint]
    began: float = 0.0
    """When the scheduler started: of a run under `exec` checks of the models come before it."""
    rows_kept: int | None = None
    """Rows in the dataset that the run left; None where that is not known."""
    rows_asked: int | None = None
    """Rows that it was to make."""

    @property
    def lost_rows(self) -> bool:
        kept, requested = self.rows_kept, self.rows_asked
        return kept is not None and requested is not None and kept < requested

    @property
    def source(self) -> Source:
        kind: Source = msgspec.convert(self.file.split(".")[1], Source)
        return kind

    def windows_of(self, *causes: str, resource: str | None = None) -> list[Window]:
        """The windows whose cause contains one of `causes`, of one resource where it is given."""
        return [
            window
            for window in self.windows
            if any(cause in window.cause for cause in causes)
            and (resource is None or window.resource == resource)
        ]


class Truth(msgspec.Struct, frozen=True):
    """One situation with its recordings."""

    situation: str
    what: str
    recordings: tuple[Run, ...]


def read_truth(path: Path) -> Truth:
    """The truth of one situation. Raises `msgspec.MsgspecError` where the file is another.

    A native recording begins with the scheduler: that tells when it began in one under `exec`.
    """
    truth = msgspec.json.decode(path.read_bytes(), type=Truth)
    native = next((run for run in truth.recordings if run.source == "native"), None)
    if native is None:
        return truth
    return msgspec.structs.replace(
        truth,
        recordings=tuple(
            msgspec.structs.replace(run, began=run.first_call - native.first_call)
            if run.source == "exec" and not run.began
            else run
            for run in truth.recordings
        ),
    )


def joined(spans: Iterable[tuple[float, float]], gap: float = 0.0) -> list[tuple[float, float]]:
    """The spans in order; those that lie no more than `gap` apart are one."""
    result: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if result and start - result[-1][1] <= gap:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def length(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in at least one of them."""
    return sum(end - start for start, end in joined(spans))


def overlap(
    some: Iterable[tuple[float, float]], others: Iterable[tuple[float, float]], slack: float = 0.0
) -> float:
    """Seconds of `some` that lie in `others`, of which each is longer by `slack` at both ends."""
    wider = joined((start - slack, end + slack) for start, end in others)
    return sum(
        max(0.0, min(end, until) - max(start, since))
        for start, end in joined(some)
        for since, until in wider
    )
