"""`headgate doctor`."""

from __future__ import annotations

import fcntl
import importlib.util
import locale
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click
import msgspec

from console.cli import exit_codes
from console.cli.build_info import build_info, package_version
from console.cli.stdout import print_json, print_text

State = Literal["ok", "note", "bad"]
FEWEST_DESCRIPTORS = 1_024
LEAST_FREE_BYTES = 1 << 30
KNOWN_DATA_DESIGNER = "0.9."
WIDTH = 12


class Check(msgspec.Struct, frozen=True):
    """What one check found."""

    name: str
    state: State
    """`note` is worth knowing and stops nothing; `bad` does."""
    text: str
    """What is so and, unless all is well, what to do."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
def doctor(as_json: bool) -> int:
    """Check whether headgate can run here, and say what to do where it can't.

    Exits with 1 where something is bad. Writes nothing that it does not remove.
    """
    findings = [check() for check in CHECKS]
    if as_json:
        print_json(findings)
    else:
        print_text("\n".join(f"{f.state:<5} {f.name:<{WIDTH}} {f.text}" for f in findings))
    return exit_codes.FINDINGS if any(f.state == "bad" for f in findings) else exit_codes.OK


def _version() -> Check:
    return Check("version", "ok", build_info().text)


def _duckdb() -> Check:
    import duckdb

    from replay.recording.connections import connect

    try:
        with connect(":memory:", config={}) as connection:
            connection.execute("SELECT 1").fetchall()
    except duckdb.Error as error:
        return Check("duckdb", "bad", f"{(str(error).splitlines() or [''])[0]}; reinstall duckdb")
    return Check("duckdb", "ok", f"{duckdb.__version__} answers")


def _home() -> Check:
    from engine.events.run_index import index_home

    folder = index_home()
    problem = _unwritable(folder)
    if problem:
        return Check("run list", "bad", f"{folder}: {problem}; set HEADGATE_HOME to another")
    return Check("run list", "ok", str(folder))


def _here() -> Check:
    folder = Path.cwd()
    problem = _unwritable(folder)
    if problem:
        return Check("folder", "note", f"{folder}: {problem}; run with --out elsewhere")
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        return Check("folder", "note", f"{folder} has {free / 1e9:.1f} GB left; runs need room")
    return Check("folder", "ok", f"{folder} is writable, {free / 1e9:.0f} GB free")


def _locks() -> Check:
    """Whether a producer lives is told by a lock; a file system without locks leaves it unknown."""
    try:
        with _temporary_file(Path.cwd()) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        text = f"no file locks here ({error.strerror}); put runs on a local disk with --out"
        return Check("locks", "note", text)
    return Check("locks", "ok", "files can be locked")


def _descriptors() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else sys.maxsize
    if most < FEWEST_DESCRIPTORS:
        text = f"at most {hard} open files; more than that many calls at once need ulimit -n"
        return Check("open files", "note", text)
    return Check("open files", "ok", f"{soft}, raised as a run needs it")


def _terminal() -> Check:
    from console.cli.terminal import is_interactive
    from console.playback_mode import MIN_SIZE, is_too_small, terminal_size

    if not is_interactive():
        return Check("terminal", "note", "none here; commands print lines, as with --headless")
    size = terminal_size(sys.stdout.fileno())
    if is_too_small(*size):
        columns, rows = MIN_SIZE
        return Check("terminal", "note", f"{size[0]}x{size[1]}; the console needs {columns}x{rows}")
    encoding = locale.getpreferredencoding(False)
    if encoding.upper().replace("-", "") != "UTF8":
        return Check("terminal", "note", f"{encoding} instead of UTF-8; use --ascii")
    return Check("terminal", "ok", f"{size[0]}x{size[1]}, TERM={os.environ.get('TERM', '')}")


def _data_designer() -> Check:
    version = package_version("data-designer")
    name = "data designer"
    if version is None:
        return Check(name, "ok", "not in this environment; exec uses that of your python")
    if not version.startswith(KNOWN_DATA_DESIGNER):
        text = f"{version} is not known; exec records what it can and says so"
        return Check(name, "note", text)
    return Check(name, "ok", version)


def _telemetry() -> Check:
    from console.cli.otel.settings import INSTALL, read_settings
    from engine.errors import UserError

    name = "telemetry"
    try:
        settings = read_settings(os.environ)
    except UserError as error:
        return Check(name, "bad", str(error))
    if settings.enabled:
        signals = [
            f"{signal} by {', '.join(exporters)}"
            for signal, exporters in (("traces", settings.traces), ("metrics", settings.metrics))
            if exporters
        ]
        return Check(name, "ok", f"on: {'; '.join(signals)}")
    if not _has_sdk():
        return Check(name, "ok", f"off; {INSTALL} brings what it needs")
    return Check(name, "ok", "off: no OTEL_* variable asks for it")


CHECKS: tuple[Callable[[], Check], ...] = (
    _version,
    _duckdb,
    _home,
    _here,
    _locks,
    _descriptors,
    _terminal,
    _data_designer,
    _telemetry,
)


def _has_sdk() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def _unwritable(folder: Path) -> str:
    """Why nothing can be written there; "" where it can. A folder that is not there yet can be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with _temporary_file(folder):
            return ""
    except OSError as error:
        return error.strerror or "can't be written"


@contextmanager
def _temporary_file(folder: Path) -> Iterator[int]:
    with tempfile.TemporaryFile(prefix=".headgate-doctor-", dir=folder) as file:
        yield file.fileno()
