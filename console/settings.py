"""`Settings`: what the user has set for the console, in a TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.controls import GENERAL, LISTS, RANGE, SCREENS, SHARE, TIME, Control
from console.palettes import THEMES, Depth, ThemeName

FILE_VARIABLE = "HEADGATE_CONFIG"
SLOW_TICK_SECONDS = 2.0


class SettingsError(ValueError):
    """The file says something that can't be; one sentence that says what to write."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something stands out; seconds."""

    old_wait: float = 10.0
    """Wait of the oldest task of a group."""
    lag: float = 2.0
    """How far the console may stand behind the run."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user has set; every value has a default."""

    theme: ThemeName | None = None
    """None: dark or light, as the terminal says."""
    first_screen: str = "overview"
    mouse: bool = True
    slow: bool = False
    """Draw rarely: for thin links."""
    ascii: bool = False
    thresholds: Thresholds = Thresholds()
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys in place of those of the controls, by the id of the control."""


def settings_path(environment: Mapping[str, str] = os.environ) -> Path:
    """`$HEADGATE_CONFIG`, else `config.toml` in the user's configuration folder (XDG)."""
    named = environment.get(FILE_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("headgate") / "config.toml"


def read_settings(path: Path) -> Settings:
    """Raises `SettingsError`; a file that is not there sets nothing."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is no TOML: {error}") from error
    try:
        return _settings(content)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _settings(content: Mapping[str, Any]) -> Settings:
    known = {"theme", "first_screen", "mouse", "slow", "ascii", "thresholds", "keys"}
    _only(content, known, "")
    theme = content.get("theme", "auto")
    if theme != "auto" and theme not in THEMES:
        raise SettingsError(f"theme is one of auto, {', '.join(THEMES)}")
    screens = _screens()
    screen = content.get("first_screen", "overview")
    if screen not in screens:
        raise SettingsError(f"first_screen is one of {', '.join(screens)}")
    return Settings(
        None if theme == "auto" else theme,
        screen,
        _flag(content, "mouse", True),
        _flag(content, "slow", False),
        _flag(content, "ascii", False),
        _thresholds(content.get("thresholds", {})),
        _keys(content.get("keys", {})),
    )


def _screens() -> list[str]:
    return [control.brief.lower() for control in SCREENS if control.action.startswith("app.go(")]


def _flag(content: Mapping[str, Any], name: str, default: bool) -> bool:
    value = content.get(name, default)
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is true or false")
    return value


def _thresholds(content: object) -> Thresholds:
    if not isinstance(content, dict):
        raise SettingsError("thresholds is a table, [thresholds]")
    _only(content, {"old_wait", "lag"}, "thresholds.")
    for name, value in content.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise SettingsError(f"thresholds.{name} is a number of seconds above 0")
    return Thresholds(**{name: float(value) for name, value in content.items()})


def _keys(content: object) -> Mapping[str, str]:
    if not isinstance(content, dict):
        raise SettingsError("keys is a table, [keys]")
    ids = {control.id for control in global_controls()}
    taken: dict[str, str] = {}
    for name, keys in content.items():
        if name not in ids:
            raise SettingsError(f"keys has no {name}: headgate settings lists the names")
        if not isinstance(keys, str) or not all(part.strip() for part in keys.split(",")):
            raise SettingsError(f'keys.{name} is a text like "m" or "m,ctrl+m"')
        for key in keys.split(","):
            if key in taken:
                raise SettingsError(f"{key} is set for {taken[key]} and for {name}")
            taken[key] = name
    return dict(content)


def global_controls() -> Iterable[Control]:
    """Controls of every page, whose keys can be set."""
    return (*LISTS, *SCREENS, *TIME, *RANGE[:1], *SHARE, *GENERAL)


def _only(content: Mapping[str, Any], known: set[str], within: str) -> None:
    for name in content:
        if name not in known:
            raise SettingsError(
                f"there is no setting {within}{name}; there are {', '.join(sorted(known))}"
            )


def colour_depth(environment: Mapping[str, str]) -> Depth:
    """How many colours the terminal says that it has; all of them where it does not say."""
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "full"
    term = environment.get("TERM", "").lower()
    if term.endswith("256color"):
        return "256"
    if term in ("linux", "xterm", "xterm-color", "screen", "ansi", "rxvt", "vt220", "cygwin"):
        return "16"
    return "full"
