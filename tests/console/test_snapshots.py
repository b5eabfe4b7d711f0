"""What each screen looks like, for each state, at three sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from console.app import ConsoleApp
from console.controls import SCREENS
from console.palettes import ThemeName
from console.runs_app import RunsApp
from console.settings import Settings
from tests.console.driven import STILL
from tests.console.frames import FRAMES
from tests.console.run_entries import Deeds
from tests.console.session_double import RecordingSession

KEYS = [control.keys for control in SCREENS if control.action.startswith("app.go")]
SIZES = ((80, 24), (120, 40), (200, 60))
Compare = Callable[..., bool]


def app_for(name: str, **options: Any) -> ConsoleApp:
    session = RecordingSession(FRAMES[name]())
    return ConsoleApp(session, surroundings=STILL, **options)


def press(*keys: str) -> Callable[[Any], Any]:
    async def run(pilot: Any) -> None:
        await pilot.pause()
        await pilot.app.settle()
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
            await pilot.app.settle()
        await pilot.pause()

    return run


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", sorted(FRAMES))
def test_overview(snap_compare: Compare, name: str, size: tuple[int, int]) -> None:
    assert snap_compare(app_for(name), terminal_size=size, run_before=press())


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ["storm", "replaying"])
def test_large(snap_compare: Compare, name: str, key: str) -> None:
    assert snap_compare(app_for(name), terminal_size=SIZES[2], run_before=press(key))


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", ["storm", "lost", "empty"])
def test_leases(snap_compare: Compare, name: str, size: tuple[int, int]) -> None:
    assert snap_compare(app_for(name), terminal_size=size, run_before=press("4", "down", "down"))


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", ["storm", "replaying", "empty"])
def test_events(snap_compare: Compare, name: str, size: tuple[int, int]) -> None:
    assert snap_compare(app_for(name), terminal_size=size, run_before=press("6"))


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", ["storm", "replaying", "empty"])
def test_stalls(snap_compare: Compare, name: str, size: tuple[int, int]) -> None:
    assert snap_compare(app_for(name), terminal_size=size, run_before=press("5", "down"))


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", ["storm", "empty"])
@pytest.mark.parametrize("key", ["2", "3", "7", "9"])
def test_tables(snap_compare: Compare, name: str, key: str, size: tuple[int, int]) -> None:
    assert snap_compare(app_for(name), terminal_size=size, run_before=press(key, "down"))


DRILLED = {
    "tasks": ("2", "down", "enter"),
    "task": ("2", "down", "enter", "enter"),
    "call": ("2", "down", "enter", "enter", "up", "up", "enter"),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", DRILLED)
def test_drilled(snap_compare: Compare, name: str, size: tuple[int, int]) -> None:
    assert snap_compare(app_for("storm"), terminal_size=size, run_before=press(*DRILLED[name]))


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("key", ["1", "4"])
def test_stretch(snap_compare: Compare, key: str, size: tuple[int, int]) -> None:
    app = app_for("paused")
    keys = (key, "g", *"40-60", "enter")
    assert snap_compare(app, terminal_size=size, run_before=press(*keys))


async def compared(pilot: Any) -> None:
    await pilot.app.page.loaded.wait()
    for key in ("down", "space", "down", "space"):
        await pilot.press(key)
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_compare(snap_compare: Compare, size: tuple[int, int]) -> None:
    app = RunsApp(actions=Deeds().actions())
    assert snap_compare(app, terminal_size=size, run_before=compared)


@pytest.mark.parametrize("theme", ["colour-blind", "high-contrast"])
def test_themes(snap_compare: Compare, theme: ThemeName) -> None:
    app = app_for("storm", settings=Settings(theme=theme))
    assert snap_compare(app, terminal_size=(120, 40), run_before=press())


async def shown(pilot: Any) -> None:
    await pilot.app.page.loaded.wait()
    await pilot.press("down")
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_runs(snap_compare: Compare, size: tuple[int, int]) -> None:
    app = RunsApp(actions=Deeds().actions())
    assert snap_compare(app, terminal_size=size, run_before=shown)


@pytest.mark.parametrize("keys", [("4", "question_mark"), ("6", "enter"), ("g",)], ids="-".join)
def test_windows(snap_compare: Compare, keys: tuple[str, ...]) -> None:
    assert snap_compare(app_for("paused"), terminal_size=(80, 24), run_before=press(*keys))


def test_quit_question(snap_compare: Compare) -> None:
    app = app_for("storm", on_quit="ask")
    assert snap_compare(app, terminal_size=(80, 24), run_before=press("q"))


@pytest.mark.parametrize("key", ["1", "4"])
def test_light(snap_compare: Compare, key: str) -> None:
    assert snap_compare(app_for("storm"), terminal_size=(120, 40), run_before=press(key, "t"))


@pytest.mark.parametrize("key", KEYS)
def test_ascii(snap_compare: Compare, key: str) -> None:
    app = app_for("storm", settings=Settings(ascii=True))
    assert snap_compare(app, terminal_size=(80, 24), run_before=press(key))


@pytest.mark.parametrize("key", ["1", "4"])
def test_without_colour(snap_compare: Compare, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(app_for("storm"), terminal_size=(80, 24), run_before=press(key))


def test_too_small(snap_compare: Compare) -> None:
    assert snap_compare(app_for("storm"), terminal_size=(36, 8), run_before=press())
