"""Disks that take no more, for tests. None needs a right, or changes what the machine has mounted.

`SmallDisk` is a file system in memory, in a namespace that only its commands enter. Where the
system grants no namespaces `LimitedFiles` takes its place: the kernel refuses writes past the size
that files of the run's processes may have.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path

from tests.e2e.ended_run import ENGINE, RECORDER, kill_all, processes_of
from tests.e2e.program import HEADGATE, environment

KIB, MIB = 1024, 1024 * 1024
NAMESPACES = (
    ["unshare", "--mount"],
    ["unshare", "--user", "--map-root-user", "--mount"],
)
_MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec cat'


class Place(ABC):
    """Where a run's folder is; `fill` takes the room of it, `free` gives it back."""

    reason = ""
    """What the system says where there is no room."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.cwd = root.parent
        self.limit: int | None = None
        """Size that files of a process may have from its start on."""

    @property
    def out(self) -> Path:
        """The folder, as the run names it."""
        return self.root / "out"

    @property
    def files(self) -> Path:
        """The folder, as the test sees it."""
        return self.out

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(HEADGATE), *map(str, arguments)]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        def limited() -> None:
            if self.limit is not None:
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, hard))

        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.cwd,
            env=environment(self.cwd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limited,
        )

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        with self.start(*arguments) as process:
            said, complaints = process.communicate(timeout=120)
        return process.returncode, said, complaints

    @abstractmethod
    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes to each file, or to all."""

    @abstractmethod
    def free(self) -> None: ...

    def close(self) -> None:
        kill_all(self.out)


class LimitedFiles(Place):
    """An ordinary folder; no file of the run's processes may grow beyond a limit."""

    reason = "File too large"

    def __init__(self, root: Path, size: int = 0) -> None:
        super().__init__(root)

    def fill(self, leave: int = 0) -> None:
        """Leave also the room that the run has reserved for its end."""
        self.limit = leave
        running = processes_of(self.out, ENGINE, RECORDER)
        if running:
            self.limit += 64 * KIB + max(
                path.stat().st_size for path in self.files.glob("journal/*.jsonl")
            )
        for pid in running:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (self.limit, resource.RLIM_INFINITY))

    def free(self) -> None:
        self.limit = None
        for pid in processes_of(self.out, ENGINE, RECORDER):
            resource.prlimit(
                pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )


class SmallDisk(Place):
    """A file system of `size` bytes."""

    reason = "No space left on device"

    def __init__(self, root: Path, size: int) -> None:
        super().__init__(root)
        namespace = namespace_command()
        assert namespace is not None
        self._holder = subprocess.Popen(
            [*namespace, "sh", "-c", _MOUNT, "sh", str(size), str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"mounted\n"
        proc = f"/proc/{self._holder.pid}"
        self._seen = Path(f"{proc}/root{root}")
        self._enter = ["nsenter", f"--mount={proc}/ns/mnt"]
        if "--user" in namespace:
            self._enter += [f"--user={proc}/ns/user", "--preserve-credentials"]

    @property
    def files(self) -> Path:
        return self._seen / "out"

    def command(self, *arguments: str | Path) -> list[str]:
        change = ["sh", "-c", 'cd "$0" && exec "$@"', str(self.cwd)]
        return [*self._enter, *change, *super().command(*arguments)]

    @property
    def left(self) -> int:
        status = os.statvfs(self._seen)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int = 0) -> None:
        with (self._seen / "ballast").open("ab", buffering=0) as file:
            try:
                while self.left > leave:
                    file.write(b"\1" * min(64 * KIB, self.left - leave))
            except OSError:
                pass

    def free(self) -> None:
        (self._seen / "ballast").unlink()

    def close(self) -> None:
        super().close()
        self._holder.communicate()  # the file system goes with the last process in the namespace


@cache
def namespace_command() -> list[str] | None:
    """What starts a command in a namespace in which it may mount; None where nothing may."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return None
    for namespace in NAMESPACES:
        trial = [*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return namespace
    return None
