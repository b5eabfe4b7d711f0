"""Plain SVG, drawn by hand: text, lines, steps, areas; light and dark by the viewer's choice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from replay.sources.sanitize import clean_text

WIDTH = 960.0
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a600", "#7a7a7a",
)  # fmt: skip
"""Told apart by colour-blind people too (Okabe and Ito)."""
_STYLE = """
text{font:12px system-ui,sans-serif;fill:#222}
.title{font-size:15px;font-weight:600}.small{font-size:11px;fill:#666}.end{text-anchor:end}
.middle{text-anchor:middle}.paper{fill:#fff}.grid{stroke:#ddd;stroke-width:1}
.line{fill:none;stroke-width:1.6}.dash{stroke-dasharray:5 3}.on{fill:#fff}
@media (prefers-color-scheme:dark){text{fill:#ddd}.small{fill:#999}.paper{fill:#16181d}
.grid{stroke:#333}.on{fill:#fff}}
"""

Point = tuple[float, float]


@dataclass
class Picture:
    """Shapes from the top down; `height` grows as they are added."""

    title: str
    height: float = 0.0
    shapes: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        name = f' class="{kind}"' if kind else ""
        self.shapes.append(f'<text x="{_n(x)}" y="{_n(y)}"{name}>{_text(words)}</text>')

    def line(self, points: Iterable[Point], colour: str | None = None, kind: str = "line") -> None:
        """Through the points; one in the colour of the grid where none is given."""
        paint = f' style="stroke:{colour}"' if colour else ""
        path = _path(points)
        if path:
            self.shapes.append(f'<path class="{kind}"{paint} d="{path}"/>')

    def area(self, points: Sequence[Point], base: float, colour: str, opacity: float) -> None:
        """Between the points and the height `base`."""
        if points:
            edge = [(points[0][0], base), *points, (points[-1][0], base)]
            self.shapes.append(
                f'<path d="{_path(edge)}Z" fill="{colour}" fill-opacity="{_n(opacity)}"/>'
            )

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, opacity: float = 1.0
    ) -> None:
        self.shapes.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(max(0, width))}" '
            f'height="{_n(max(0, height))}" fill="{colour}" fill-opacity="{_n(opacity)}"/>'
        )


def document(pictures: Sequence[Picture]) -> str:
    """The pictures below each other, as one SVG."""
    height = sum(picture.height for picture in pictures)
    title = "; ".join(picture.title for picture in pictures)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(WIDTH)} {_n(height)}" '
        f'width="{_n(WIDTH)}" height="{_n(height)}" role="img" aria-label={_quoted(title)}>',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_n(WIDTH)}" height="{_n(height)}"/>',
    ]
    top = 0.0
    for picture in pictures:
        parts.append(f'<g transform="translate(0 {_n(top)})">')
        parts += picture.shapes
        parts.append("</g>")
        top += picture.height
    return "\n".join([*parts, "</svg>", ""])


def steps(points: Sequence[Point], until: float) -> list[Point]:
    """The corners of a value that holds until the next one, the last until `until`."""
    corners: list[Point] = []
    for index, (x, y) in enumerate(points):
        following = points[index + 1][0] if index + 1 < len(points) else until
        corners += [(x, y), (following, y)]
    return corners


def _path(points: Iterable[Point]) -> str:
    corners = [f"{_n(x)} {_n(y)}" for x, y in points if math.isfinite(x) and math.isfinite(y)]
    return "M" + "L".join(corners) if corners else ""


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(words: str) -> str:
    return escape(clean_text(words))


def _quoted(words: str) -> str:
    return quoteattr(clean_text(words))
