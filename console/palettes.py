"""The colours of each theme, in full and for terminals of 256 and 16 colours.

The hues derive from the Okabe–Ito palette (Okabe and Ito, Color Universal Design, 2008), which the
common kinds of colour blindness tell apart; the theme `colour-blind` takes them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal, get_args

ThemeName = Literal["dark", "light", "colour-blind", "high-contrast"]
THEMES: tuple[ThemeName, ...] = get_args(ThemeName)
Depth = Literal["full", "256", "16"]
"""How many colours a terminal can tell apart."""

_DARK = {
    "bg": "#0d1117",
    "raised": "#171d26",
    "select": "#263445",
    "faint": "#343c47",
    "dim": "#848d99",
    "text": "#c8d0da",
    "bright": "#f2f5f8",
    "ink": "#0d1117",
    "green": "#2bb78c",
    "sky": "#56b4e9",
    "blue": "#4a86d8",
    "orange": "#e69f00",
    "vermillion": "#e8713c",
    "yellow": "#e5d84a",
    "purple": "#cc79a7",
    "grey": "#68727f",
    "area": "#2c6b96",
    "cool": "#3a2218",
}
_LIGHT = {
    "bg": "#fbfbf9",
    "raised": "#eff0ec",
    "select": "#d3e4f2",
    "faint": "#d2d5d2",
    "dim": "#666d73",
    "text": "#2a3036",
    "bright": "#0b0e11",
    "ink": "#fbfbf9",
    "green": "#007a59",
    "sky": "#1877b0",
    "blue": "#2a55a5",
    "orange": "#a86b00",
    "vermillion": "#bd4a00",
    "yellow": "#857a00",
    "purple": "#a04a7d",
    "grey": "#868e94",
    "area": "#93c4e3",
    "cool": "#f7dfd0",
}
_COLOUR_BLIND = {
    **_DARK,
    "green": "#009e73",
    "sky": "#56b4e9",
    "blue": "#0072b2",
    "orange": "#e69f00",
    "vermillion": "#d55e00",
    "yellow": "#f0e442",
    "purple": "#cc79a7",
    "grey": "#999999",
}
_HIGH_CONTRAST = {
    "bg": "#000000",
    "raised": "#1c1c1c",
    "select": "#00358a",
    "faint": "#7a7a7a",
    "dim": "#d0d0d0",
    "text": "#ffffff",
    "bright": "#ffffff",
    "ink": "#000000",
    "green": "#00e59b",
    "sky": "#7fd4ff",
    "blue": "#5f9bff",
    "orange": "#ffb000",
    "vermillion": "#ff7a3d",
    "yellow": "#fff45c",
    "purple": "#ff9fd6",
    "grey": "#a8a8a8",
    "area": "#1f5f8f",
    "cool": "#4a2410",
}
_THEMES: dict[ThemeName, Mapping[str, str]] = {
    "dark": _DARK,
    "light": _LIGHT,
    "colour-blind": _COLOUR_BLIND,
    "high-contrast": _HIGH_CONTRAST,
}
SERIES = ("green", "sky", "blue", "orange", "vermillion", "yellow", "purple", "grey")
"""Colours that stand beside one another and have to be told apart."""

_Triple = tuple[int, int, int]
_LEVELS = (0, 95, 135, 175, 215, 255)
_CUBE = tuple((red, green, blue) for red in _LEVELS for green in _LEVELS for blue in _LEVELS)
_SIXTEEN = (
    (0, 0, 0), (170, 0, 0), (0, 170, 0), (170, 85, 0), (0, 0, 170), (170, 0, 170), (0, 170, 170),
    (170, 170, 170), (85, 85, 85), (255, 85, 85), (85, 255, 85), (255, 255, 85), (85, 85, 255),
    (255, 85, 255), (85, 255, 255), (255, 255, 255),
)  # fmt: skip
_GROUNDS = ("bg", "raised", "text", "bright")
"""Chosen first; no series may look like one of them."""


@cache
def colours_of(theme: ThemeName, depth: Depth = "full") -> Mapping[str, str]:
    """Hex colours by name. Of few colours each series gets one of its own: the nearest that is
    still free."""
    full = _THEMES[theme]
    if depth == "full":
        return full
    choices = _CUBE if depth == "256" else _SIXTEEN
    chosen = {name: _nearest(full[name], choices) for name in _GROUNDS}
    taken = set(chosen.values())
    for name in SERIES:
        free = [choice for choice in choices if choice not in taken]
        chosen[name] = _nearest(full[name], free)
        taken.add(chosen[name])
    for name in full.keys() - chosen.keys():
        chosen[name] = _nearest(full[name], choices)
    chosen["ink"] = chosen["bg"]
    if depth == "16":
        chosen["select"] = (0, 0, 170) if theme != "light" else (170, 170, 170)
        chosen["faint"] = (85, 85, 85) if theme != "light" else (170, 170, 170)
        chosen["dim"] = (170, 170, 170) if theme != "light" else (85, 85, 85)
    return {name: _hex(colour) for name, colour in chosen.items()}


def _nearest(colour: str, choices: tuple[_Triple, ...] | list[_Triple]) -> _Triple:
    red, green, blue = bytes.fromhex(colour[1:])

    def distance(choice: _Triple) -> float:
        """By the "redmean" weights, a cheap measure of what the eye sees."""
        mean = (choice[0] + red) / 2
        return (
            (2 + mean / 256) * (choice[0] - red) ** 2
            + 4 * (choice[1] - green) ** 2
            + (2 + (255 - mean) / 256) * (choice[2] - blue) ** 2
        )

    return min(choices, key=distance)


def _hex(colour: _Triple) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
