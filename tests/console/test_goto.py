"""Going to a time by wall clock, per cent or event; and the command that opens a view again."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from console.cli.main import run_cli
from console.cli.watch import start_view
from console.focus_names import name_of, parse_focus
from console.goto import Destination, parse_target, resolve
from console.outcome import StartView
from console.screens.dialogs import GoToDialog
from console.screens.events import EventsScreen
from console.screens.stalls import StallsScreen
from engine.events import RunInfo
from replay.playback.focus import CallFocus, Focus, SpendingFocus, TaskFocus, TasksFocus
from tests.console.driven import Driven, drive
from tests.console.frame_parts import T0
from tests.console.frames import replaying

WALL = 1_790_000_000.0
"""14:13:20 UTC, of the first event."""


def place(text: str, wall: float | None = WALL) -> Destination | str:
    frame = replaying()
    run = replace_run(frame.run, wall, frame.t0)
    target = parse_target(text)
    assert target is not None
    return resolve(target, replace(frame, run=run), time.gmtime)


def replace_run(run: RunInfo, wall: float | None, start: float) -> RunInfo:
    return msgspec.structs.replace(run, wall_start=wall, monotonic_start=start)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:23.5", Destination(time=T0 + 83.5)),
        ("0:00:20", Destination(time=T0 + 20)),
        ("14:13:20", Destination(time=T0)),
        ("14:15:00.5", Destination(time=T0 + 100.5)),
        ("50%", Destination(time=T0 + 81.5)),
        ("0%", Destination(time=T0)),
        ("100%", Destination(time=T0 + 163.0)),
        ("#31,402", Destination(ordinal=31_402)),
    ],
)
def test_places(text: str, expected: Destination) -> None:
    assert place(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("#31403", "There is no event #31403: the run has 31,402."),
        ("#0", "There is no event #0"),
        ("14:13:19", "The run ends at 2:43.0: there is nothing at 14:13:19.0."),
        ("3:00", "The run ends at 2:43.0"),
    ],
)
def test_a_place_outside_the_run_is_refused(text: str, sentence: str) -> None:
    said = place(text)
    assert isinstance(said, str)
    assert said.startswith(sentence)


def test_without_a_wall_clock_a_time_of_the_day_is_run_time() -> None:
    assert isinstance(place("14:13:20", None), str)
    assert place("0:01:00", None) == Destination(time=T0 + 60)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("14:13:50", 30.0), ("14:14:00", 40.0), ("15:14:10", 50.0), ("14:40:00", 40.0)],
)
def test_a_time_of_the_day_in_a_run_that_was_interrupted(text: str, seconds: float) -> None:
    """It stood still for an hour, 40 seconds after its start."""
    frame = replaying()
    run = replace_run(frame.run, WALL, frame.t0)
    resumptions = ((frame.t0 + 40.0, WALL + 3640.0),)
    target = parse_target(text)
    assert target is not None
    interrupted = replace(frame, run=run, resumptions=resumptions)
    assert resolve(target, interrupted, time.gmtime) == Destination(time=T0 + seconds)


@pytest.mark.parametrize("text", ["101%", "1:30%", "%", "#", "#1.5", "soon", "-", "1:2:3:4"])
def test_what_is_no_place(text: str) -> None:
    assert parse_target(text) is None


def test_a_wrong_time_keeps_the_dialog_open_and_moves_nothing() -> None:
    async def test(driven: Driven) -> None:
        calls = await driven.press("g", *"9:00", "enter")
        assert isinstance(driven.app.screen, GoToDialog)
        assert calls == []
        for _ in "9:00":
            await driven.press("backspace")
        calls = await driven.press(*"50%", "enter")
        assert calls == ["hold", f"seek_time {T0 + 81.5:.1f}"]

    drive(test, "replaying")


def test_y_copies_a_command_that_opens_the_same_view(tmp_path: Path) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("6", "slash", *"kind:request_* !beta", "enter", "y")
        command = (tmp_path / "copied.txt").read_text()
        assert driven.app.clipboard == command
        program, verb, target, *options = shlex.split(command)
        assert (program, verb, target) == ("headgate", "replay", "my run")
        given = dict(zip(options[::2], options[1::2], strict=True))
        start = start_view(given["--at"], given["--screen"], given["--where"])
        assert start is not None
        opened.append(start)

    opened: list[StartView] = []
    drive(test, "replaying", title="my run", copies=tmp_path)

    async def again(driven: Driven) -> None:
        page = driven.app.page
        assert isinstance(page, EventsScreen)
        assert page.filter_text == "kind:request_* !beta"
        assert f"seek_ordinal {replaying().ordinal}" in driven.session.calls

    drive(again, "replaying", start=opened[0], follow=False)


def test_Y_copies_the_verdict_as_markdown(tmp_path: Path) -> None:
    async def test(driven: Driven) -> None:
        await driven.press("5", "Y")
        page = driven.app.page
        assert isinstance(page, StallsScreen)
        said = (tmp_path / "copied.txt").read_text().splitlines()
        assert said[0].startswith(f"**{driven.session.shown.run.name}**: ")
        assert any(line.startswith("- ") for line in said)
        assert said[-1].startswith("`headgate replay ")

    drive(test, "storm", copies=tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--at", "soon"], "--at: soon is no time and no event"),
        (["--screen", "kitchen"], "There is no screen kitchen; there are overview, queue"),
        (
            ["--screen", "capacity", "--where", "x"],
            "--where is for --screen events, leases, stalls, errors, queue",
        ),
        (["--screen", "queue", "--where", "kind:x"], "groups have no kind"),
        (["--open", "kitchen:3"], "--open: kitchen:3 names nothing to open"),
        (["--open", "row:x"], "--open: row:x names nothing to open"),
        (["--screen", "events", "--where", "(x"], "this parenthesis is not closed"),
    ],
)
def test_a_view_that_there_is_not_is_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["replay", "anything", *options]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "focus",
    [
        TaskFocus("critique/rg0/17"),
        CallFocus("a:12"),
        TasksFocus(row=17),
        SpendingFocus(),
        TasksFocus(group="model/beta/judge: large"),
        TasksFocus(failure=("beta/judge/chat", "critique", "HTTP|503")),
    ],
)
def test_what_is_open_can_be_named_and_opened_again(focus: Focus) -> None:
    assert parse_focus(name_of(focus)) == focus


def test_a_view_of_a_task_opens_again_with_its_stretch() -> None:
    async def test(driven: Driven) -> None:
        assert driven.session.wants[-1].focus == TaskFocus("critique/3")
        assert driven.session.wants[-1].stretch == (T0 + 40, T0 + 60)
        app = driven.app
        assert app.view_command == ("headgate replay run --at 40.000-60.000 --open task:critique/3")

    target = parse_target("40-60")
    start = StartView("queue", target, "", TaskFocus("critique/3"))
    drive(test, "paused", title="run", start=start)
