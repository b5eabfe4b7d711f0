"""Colours and glyphs.

Wherever a colour means something, a letter, a glyph or a word says it too. A style is named
`[bold] colour [on colour]`, for example `bold bright on live`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from textual.theme import Theme

from console.palettes import Depth, ThemeName, colours_of
from replay.diagnosis.verdicts import display
from replay.diagnosis.verdicts.base import Hatch, Role

_QUIET_BACKGROUNDS = frozenset({"bg", "raised", "area", "cool"})
"""Backgrounds that only tint: without colour they are left out, any other becomes reverse."""


@dataclass(frozen=True, slots=True)
class VerdictLook:
    """How a verdict is drawn."""

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
    """The palette, glyphs and keys that all widgets of one app share."""

    def __init__(
        self,
        *,
        theme: ThemeName = "dark",
        colour: bool = True,
        ascii_only: bool = False,
        depth: Depth = "full",
        keys: Mapping[str, str] | None = None,
        old_wait: float = 10.0,
    ) -> None:
        """
        Args:
            theme: Name of the colours.
            colour: False leaves bold and reverse.
            ascii_only: Draw with ASCII characters only.
            depth: How many colours the terminal can tell apart.
            keys: Keys in place of those of the controls, by the id of the control.
            old_wait: Seconds from which on a wait stands out.
        """
        self.old_wait = old_wait
        self.ascii_only = ascii_only
        self.glyphs = ASCII if ascii_only else UNICODE
        self._colour = colour
        self._depth: Depth = depth
        self._keys = dict(keys or {})
        self._palettes: dict[ThemeName, Palette] = {}
        self.use(theme)

    def use(self, theme: ThemeName) -> None:
        self.theme: ThemeName = theme
        if theme not in self._palettes:
            self._palettes[theme] = Palette(colours_of(theme, self._depth), self._colour)
        self.palette = self._palettes[theme]

    def shown_key(self, control_id: str, shown: str) -> str:
        """How the key of a control is written on screen, which by itself is `shown`."""
        keys = self._keys.get(control_id)
        return shown if keys is None else keys.partition(",")[0]


def textual_theme(theme: ThemeName, depth: Depth = "full") -> Theme:
    """The same colours for Textual's own widgets (palette, inputs, scroll bars)."""
    colours = colours_of(theme, depth)
    return Theme(
        name=f"headgate-{theme}",
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
        dark=theme != "light",
    )


def preferred_theme(environment: Mapping[str, str]) -> ThemeName:
    """From `COLORFGBG` (`foreground;background`), which many terminals set; dark if unsaid."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return "light" if background in ("7", "15") else "dark"
