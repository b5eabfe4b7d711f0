"""What the user can set: the file, its mistakes, and what follows from it on screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.color import Color, ColorSystem

from console.app import ConsoleApp
from console.cli.main import run_cli
from console.palettes import SERIES, THEMES, Depth, ThemeName, colours_of
from console.runs_app import RunsApp
from console.screens.queue import QueueScreen
from console.settings import (
    Settings,
    SettingsError,
    Thresholds,
    colour_depth,
    read_settings,
    settings_path,
)
from console.widgets.group_table import GroupTable
from console.widgets.header import Footer
from tests.console.driven import Driven, drive
from tests.console.frames import healthy
from tests.console.session_double import RecordingSession


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return path


def test_no_file_sets_nothing(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "config.toml") == Settings()


def test_everything_can_be_set(tmp_path: Path) -> None:
    text = """
    theme = "high-contrast"
    first_screen = "queue"
    mouse = false
    slow = true
    ascii = true
    [thresholds]
    old_wait = 3
    [keys]
    mark = "z"
    "step(-1)" = "h,left"
    """
    assert read_settings(written(tmp_path, text)) == Settings(
        "high-contrast",
        "queue",
        False,
        True,
        True,
        Thresholds(old_wait=3.0),
        {"mark": "z", "step(-1)": "h,left"},
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("theme = 'pink'", "theme is one of auto, dark, light, colour-blind, high-contrast"),
        ("first_screen = 'x'", "first_screen is one of overview, queue"),
        ("mouse = 1", "mouse is true or false"),
        ("colour = 1", "there is no setting colour; there are ascii"),
        ("thresholds = 3", "thresholds is a table"),
        ("[thresholds]\nlag = 0", "thresholds.lag is a number of seconds above 0"),
        ("[thresholds]\nmore = 1", "there is no setting thresholds.more"),
        ("[keys]\nfly = 'x'", "keys has no fly: headgate settings lists the names"),
        ("[keys]\nmark = 3", 'keys.mark is a text like "m"'),
        ("[keys]\nmark = 'z'\nfollow = 'z'", "z is set for mark and for follow"),
        ("theme = ", "is no TOML"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_file(
    text: str, sentence: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as raised:
        read_settings(path)
    assert sentence in str(raised.value)
    assert str(path) in str(raised.value)


def test_the_file_is_where_xdg_puts_it_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/mine")
    assert settings_path({}) == Path("/etc/mine/headgate/config.toml")
    assert settings_path({"HEADGATE_CONFIG": "/x.toml"}) == Path("/x.toml")


def test_the_example_can_be_read_and_sets_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["settings", "--example"]) == 0
    example = capsys.readouterr().out
    assert read_settings(written(tmp_path, example)) == Settings()
    with_keys = "\n".join(line.removeprefix("# ") for line in example.splitlines())
    assert read_settings(written(tmp_path, with_keys)).keys["mark"] == "v"


def test_a_file_that_is_wrong_is_told_with_the_code_of_misuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADGATE_CONFIG", str(written(tmp_path, "theme = 'pink'")))
    assert run_cli(["settings"]) == 2
    assert "theme is one of" in capsys.readouterr().err


def test_keys_that_are_set_do_what_the_others_did_and_are_shown() -> None:
    async def test(driven: Driven) -> None:
        await driven.press("z")
        assert driven.session.wants[-1].stretch is not None
        await driven.press("escape", "v")
        assert driven.session.wants[-1].stretch is None
        assert "i go to" in driven.text(Footer)

    drive(test, "paused", settings=Settings(keys={"mark": "z", "ask_time": "i"}))


def test_the_list_of_runs_looks_as_the_console_does() -> None:
    settings = Settings(theme="light", ascii=True, thresholds=Thresholds(old_wait=3.0))
    session = RecordingSession(healthy())
    looks = [
        (app.appearance.theme, app.appearance.ascii_only, app.appearance.old_wait)
        for app in (RunsApp(settings=settings), ConsoleApp(session, settings=settings))
    ]
    assert looks == [("light", True, 3.0)] * 2


def test_the_first_screen_and_its_thresholds() -> None:
    async def test(driven: Driven) -> None:
        assert isinstance(driven.app.screen, QueueScreen)
        await driven.press("1")
        table = driven.app.screen.query_one(GroupTable)
        styles = {style for line in table._lines for text, style in line if text.strip() == "1.1 s"}
        assert styles == {"orange"}

    settings = Settings(first_screen="queue", thresholds=Thresholds(old_wait=1.0))
    drive(test, settings=settings)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    ("depth", "system"),
    [
        ("full", ColorSystem.TRUECOLOR),
        ("256", ColorSystem.EIGHT_BIT),
        ("16", ColorSystem.STANDARD),
    ],
)
def test_the_colours_of_series_differ_as_the_terminal_gets_them(
    theme: ThemeName, depth: Depth, system: ColorSystem
) -> None:
    colours = colours_of(theme, depth)

    def shown(name: str) -> object:
        colour = Color.parse(colours[name]).downgrade(system)
        return colour.triplet if system is ColorSystem.TRUECOLOR else colour.number

    series = [shown(name) for name in SERIES]
    assert len(set(series)) == len(series)
    assert shown("bg") not in series
    assert shown("text") != shown("bg")
    assert shown("ink") not in series


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read_on_its_ground(theme: ThemeName) -> None:
    """WCAG 2 asks for a contrast of 4.5; the theme of high contrast gives 7."""
    colours = colours_of(theme)
    least = 7.0 if theme == "high-contrast" else 4.5
    for name in ("text", "bright", "dim"):
        assert contrast(colours[name], colours["bg"]) >= least


def contrast(front: str, back: str) -> float:
    def luminance(colour: str) -> float:
        parts = [value / 255 for value in bytes.fromhex(colour[1:])]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(front), luminance(back)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("environment", "depth"),
    [
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "full"),
        ({"TERM": "linux"}, "16"),
        ({}, "full"),
    ],
)
def test_how_many_colours_a_terminal_has(environment: dict[str, str], depth: Depth) -> None:
    assert colour_depth(environment) == depth


def test_the_theme_goes_round() -> None:
    async def test(driven: Driven) -> None:
        seen = [driven.app.appearance.theme]
        for _ in THEMES:
            await driven.press("t")
            seen.append(driven.app.appearance.theme)
        assert seen == [*THEMES, "dark"]

    drive(test, settings=Settings(theme="dark"))
