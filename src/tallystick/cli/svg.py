"""SVG as text: a drawing with a title and a description for who cannot see it, readable on light and dark pages."""

from __future__ import annotations

from fractions import Fraction
from typing import Final
from xml.sax.saxutils import escape, quoteattr

Number = int | float | Fraction

_STYLE: Final = """
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1b2530; }
  .head { font-size: 17px; font-weight: 600; }
  .faint { fill: #56626e; font-size: 12px; }
  .page { fill: #ffffff; }
  .grid { stroke: #d5dbe1; stroke-width: 1; }
  .axis { stroke: #8a96a3; stroke-width: 1; }
  .one { fill: #0067a5; } .two { fill: #c25700; } .three { fill: #00795a; } .four { fill: #8a5a00; }
  .hatch { stroke: #0067a5; stroke-width: 2; }
  .empty { fill: none; stroke: #8a96a3; stroke-width: 1; }
  .ring { fill: none; stroke: #1b2530; stroke-width: 2; }
  .mark { fill: #ffffff; font-weight: 600; }
  .whisker { stroke: #1b2530; stroke-width: 1.5; }
  .halo { stroke: #ffffff; stroke-width: 4.5; }
  .limit { stroke: #8f2f6b; stroke-width: 2; stroke-dasharray: 6 4; }
  .curve { fill: none; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6ebf0; }
    .faint { fill: #a5b1bd; }
    .page { fill: #12181f; }
    .grid { stroke: #2d3742; }
    .axis { stroke: #7b8794; }
    .one { fill: #56b4e9; } .two { fill: #f0944d; } .three { fill: #3fc79a; } .four { fill: #e0b04a; }
    .hatch { stroke: #56b4e9; }
    .ring, .whisker { stroke: #e6ebf0; }
    .mark { fill: #12181f; }
    .halo { stroke: #12181f; }
    .limit { stroke: #e58ac0; }
  }
"""


class Drawing:
    """A drawing to which shapes are added in order, the later ones on top.

    Colours are classes of one style sheet, so that a page in dark mode shows other ones; ``hatched`` is a pattern,
    because a colour alone does not tell two things apart for everybody.
    """

    def __init__(self, width: int, height: int, *, title: str, description: str) -> None:
        self.width, self.height = width, height
        self._title, self._description = title, description
        self._shapes: list[str] = []

    def rect(self, x: Number, y: Number, width: Number, height: Number, style: str, *, tip: str = "") -> None:
        """A rectangle; ``tip`` is shown where a pointer rests on it, and read out."""
        fill = ' fill="url(#hatched)"' if style == "hatched" else f" class={quoteattr(style)}"
        at = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        self._add(f"rect {at}{fill}", "rect", tip)

    def line(self, start: tuple[Number, Number], end: tuple[Number, Number], style: str = "grid") -> None:
        """A straight line."""
        (x1, y1), (x2, y2) = start, end
        self._add(f'line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" class={quoteattr(style)}', "line", "")

    def curve(self, points: list[tuple[Number, Number]], colour: str, *, tip: str = "") -> None:
        """Straight lines from point to point; a single point is a dot."""
        if len(points) == 1:
            x, y = points[0]
            self._add(f'circle cx="{_n(x)}" cy="{_n(y)}" r="3" fill={quoteattr(colour)}', "circle", tip)
            return
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._add(f'polyline class="curve" stroke={quoteattr(colour)} points="{path}"', "polyline", tip)

    def text(self, x: Number, y: Number, text: str, *, style: str = "", anchor: str = "start") -> None:
        """A line of text from, around or up to a point."""
        named = f" class={quoteattr(style)}" if style else ""
        self._shapes.append(f'<text x="{_n(x)}" y="{_n(y)}"{named} text-anchor="{anchor}">{escape(text)}</text>')

    def label(self, x: Number, y: Number, text: str) -> None:
        """A line of text that hides the lines of a grid behind it."""
        self.rect(float(x) - 3, float(y) - 13, len(text) * 7 + 8, 18, "page")
        self.text(x, y, text)

    def __str__(self) -> str:
        shapes = "\n  ".join(self._shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" aria-labelledby="title description">\n'
            f'  <title id="title">{escape(self._title)}</title>\n'
            f'  <desc id="description">{escape(self._description)}</desc>\n'
            f"  <style>{_STYLE}</style>\n"
            '  <defs><pattern id="hatched" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><line x1="1" y1="0" x2="1" y2="6" class="hatch"/></pattern></defs>\n'
            f'  <rect class="page" width="{self.width}" height="{self.height}"/>\n'
            f"  {shapes}\n</svg>\n"
        )

    def _add(self, opening: str, name: str, tip: str) -> None:
        self._shapes.append(f"<{opening}><title>{escape(tip)}</title></{name}>" if tip else f"<{opening}/>")


def _n(value: Number) -> str:
    """A coordinate with at most two decimals."""
    return f"{float(value):.2f}".rstrip("0").rstrip(".")
