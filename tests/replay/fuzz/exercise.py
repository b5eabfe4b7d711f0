"""Everything that can be asked of a source, asked; the texts that came out are checked."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from console.cli.main import run_cli
from console.headless import status_line, summary
from engine.errors import UserError
from replay.playback.frame import Want
from replay.playback.session import Session
from replay.sources.base import SourceError
from tests.replay.fuzz.hostile import UNSAFE

WANT = Want(samples=20, span=1e9, bars=100, events=50, events_after=50)


def look_at(target: Path, *, growing: bool | None = False) -> int | None:
    """Open it as a console does and go through it; the number of its events, None if refused."""
    try:
        session = Session.open(target, growing=growing)
    except (SourceError, UserError) as error:
        assert_harmless(str(error))
        return None
    try:
        for _ in range(10_000):
            if not session.refresh(10.0):
                break
        frame = session.frame(WANT)
        for ordinal in (1, frame.last_ordinal // 2, frame.last_ordinal):
            session.seek_ordinal(ordinal)
            session.step(-1)
            assert_harmless(status_line(session.frame(WANT)) + summary(session.frame(WANT)))
        session.seek_time((frame.t0 + frame.t1) / 2)
        for event in session.frame(WANT).events:
            assert event.ordinal >= 1
        return frame.last_ordinal
    except (SourceError, UserError) as error:
        assert_harmless(str(error))
        return None
    finally:
        session.close()


def ask(*arguments: str | Path) -> tuple[int, str]:
    """A command of the command line in this process: its exit code, and all it said."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_cli([str(argument) for argument in arguments])
        out.flush()
    said = out.buffer.getvalue().decode()
    end = "\n" if said and not said.endswith("\n") else ""  # an output that ends in its middle
    return code, said + end + err.getvalue()


def ask_all(target: Path) -> set[int]:
    """Every command that reads; the exit codes they ended with."""
    codes = set()
    for arguments in (
        ("replay", target, "--once"),
        ("why", target),
        ("why", target, "--json"),
        ("verify", target),
        ("sql", target, "SELECT * FROM tasks"),
        ("sql", target, "--csv", "SELECT * FROM leases"),
        ("sql", target, "--json", "FROM stalls"),
        ("export", target, "--format", "perfetto", "--out", "-"),
        ("export", target, "--format", "svg", "--out", "-"),
        ("export", target, "--format", "csv", "--table", "events", "--out", "-"),
    ):
        code, said = ask(*arguments)
        assert code in (0, 1, 2, 4), (arguments, said)
        assert "Traceback" not in said, (arguments, said)
        assert_harmless(said)
        codes.add(code)
    return codes


def assert_harmless(text: str) -> None:
    match = UNSAFE.search(text)
    assert match is None, repr(text[max(0, match.start() - 80) : match.end() + 40])
