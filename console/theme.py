"""Colours and glyphs.

The hues derive from the Okabe–Ito palette, which the common kinds of colour blindness tell apart;
wherever a colour means something, a letter, a glyph or a word says it too. A style is named
`[bold] colour [on colour]`, for example `bold bright on live`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from textual.theme import Theme

from replay.diagnosis.verdicts import display
from replay.diagnosis.verdicts.base import Hatch, Role

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
_QUIET_BACKGROUNDS = frozenset({"bg", "raised", "area", "cool"})
"""Backgrounds that only tint: without colour they are left out, any other becomes reverse."""


@dataclass(frozen=True, slots=True)
class VerdictLook:
    letter: str
    colour: str
    hatch: str
    """Fill of its part of a bar; ` ` is plain where there is colour."""


_ROLES: dict[Role, str] = {
    "work": "green",
    "order": "grey",
    "cap": "yellow",
    "slots": "blue",
    "turn": "sky",
    "ceiling": "orange",
    "slow": "purple",
    "failure": "vermillion",
    "unknown": "faint",
}
_HATCHES: dict[Hatch, str] = {
    "plain": " ",
    "dots": "·",
    "dashes": "-",
    "double": "=",
    "slash": "/",
    "backslash": "\\",
    "plus": "+",
    "cross": "x",
    "shade": "░",
    "hash": "#",
    "question": "?",
    "colon": ":",
}


def verdict_look(verdict: str) -> VerdictLook:
    """How a verdict is shown; one that is not known yet gets its first letter in grey."""
    letter, role, hatch = display(verdict)
    return VerdictLook(letter, _ROLES[role], _HATCHES[hatch])


_REASONS = ("orange", "blue", "purple", "yellow", "sky", "grey")
_REASON_COLOURS = {
    "no_capacity": "blue",
    "group_cap": "sky",
    "borrow_debt": "purple",
    "queue_empty": "grey",
    "cooldown": "vermillion",
}


def reason_colour(reason: str, index: int) -> str:
    """Colour of the `index`-th block reason."""
    return _REASON_COLOURS.get(reason, _REASONS[index % len(_REASONS)])


@dataclass(frozen=True, slots=True, eq=False)
class Glyphs:
    """What lines, bars and marks are made of."""

    rule: str = "─"
    edge: str = "▌"
    bar_full: str = "█"
    bar_begun: str = "▒"
    bar_rest: str = "░"
    sparks: str = " ▁▂▃▄▅▆▇█"
    limit_low: str = "▁"
    limit_mid: str = "─"
    limit_high: str = "▔"
    cooling: str = "░"
    rate_limited: str = "▼"
    waiting: str = "░"
    in_provider: str = "▆"
    failed: str = "▚"
    own: str = "─"
    leased: str = "▒"
    open_end: str = "►"
    unknown_end: str = "?"
    now: str = "│"
    tick: str = "╷"
    cursor: str = "▸"
    stacked: bool = True
    """Eighth blocks over a background colour can show two parts in one cell."""


UNICODE = Glyphs()
ASCII = Glyphs(
    rule="-",
    edge="|",
    bar_full="#",
    bar_begun="+",
    bar_rest=".",
    sparks=" .:-=+*#@",
    limit_low="_",
    limit_mid="-",
    limit_high="=",
    cooling=":",
    rate_limited="x",
    waiting=".",
    in_provider="#",
    failed="%",
    own="-",
    leased="+",
    open_end=">",
    unknown_end="?",
    now="|",
    tick="'",
    cursor=">",
    stacked=False,
)


class Palette:
    """Styles by name. Without colour only bold and reverse remain."""

    def __init__(self, colours: Mapping[str, str], colour: bool = True) -> None:
        self.colour = colour
        self._colours = colours
        self._styles: dict[str, Style] = {}

    def __getitem__(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            style = self._styles[name] = self._build(name)
        return style

    def _build(self, name: str) -> Style:
        front, _, back = name.partition(" on ")
        bold = front.startswith("bold ")
        front = front.removeprefix("bold ")
        if not self.colour:
            return Style(bold=bold, reverse=bool(back) and back not in _QUIET_BACKGROUNDS)
        return Style(color=self._hex(front), bgcolor=self._hex(back or "bg"), bold=bold or None)

    def _hex(self, name: str) -> str:
        """`shade-x` is x, a third of the way to the background: for hatching on x."""
        if not name.startswith("shade-"):
            return self._colours[name]
        pairs = zip(
            bytes.fromhex(self._colours[name.removeprefix("shade-")][1:]),
            bytes.fromhex(self._colours["ink"][1:]),
            strict=True,
        )
        return "#" + "".join(f"{(2 * front + back) // 3:02x}" for front, back in pairs)


class Appearance:
    """The palette and glyphs that all widgets of one app share."""

    def __init__(self, *, dark: bool = True, colour: bool = True, ascii_only: bool = False) -> None:
        self.ascii_only = ascii_only
        self.glyphs = ASCII if ascii_only else UNICODE
        self._palettes = {
            True: Palette(_DARK, colour),
            False: Palette(_LIGHT, colour),
        }
        self.palette = self._palettes[dark]

    def use(self, *, dark: bool) -> None:
        self.palette = self._palettes[dark]


def textual_theme(*, dark: bool) -> Theme:
    """The same colours for Textual's own widgets (palette, inputs, scroll bars)."""
    colours = _DARK if dark else _LIGHT
    return Theme(
        name="headgate-dark" if dark else "headgate-light",
        primary=colours["sky"],
        secondary=colours["blue"],
        accent=colours["orange"],
        warning=colours["orange"],
        error=colours["vermillion"],
        success=colours["green"],
        foreground=colours["text"],
        background=colours["bg"],
        surface=colours["raised"],
        panel=colours["select"],
        dark=dark,
    )


def prefers_dark(environment: Mapping[str, str]) -> bool:
    """From `COLORFGBG` (`foreground;background`), which many terminals set; dark if unsaid."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return background not in ("7", "15")
