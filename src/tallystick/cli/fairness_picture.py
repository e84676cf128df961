"""How groups fare as SVG: a bar for each selection rate, its interval across it, and where four fifths are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tallystick.cli.chart import percent
from tallystick.cli.svg import Drawing

if TYPE_CHECKING:
    from tallystick.domains.underwriting.statistics import Comparison, GroupRate

_WIDTH: Final = 760
_LEFT: Final = 170
_RIGHT: Final = 210
_STEP: Final = 38
_MOST: Final = 60
_SHORT: Final = 20


def picture(by: str, rates: list[GroupRate], compared: list[Comparison], tenant: str) -> str:
    """The rates of all groups beside four fifths of the reference's."""
    from tallystick.domains.underwriting.fairness_metrics import FOUR_FIFTHS, wilson

    title = f"Approval by {by}, {tenant}"
    shown = rates[:_MOST]
    adverse = {c.group for c in compared if c.adverse}
    named = compared[0].reference if compared else None
    reference = next((r for r in rates if r.group == named), None)
    lines = [f"{r.group}: {percent(r.rate)} of {r.total:,}{', below' if r.group in adverse else ''}" for r in shown]
    drawing = Drawing(
        _WIDTH,
        66 + max(1, len(shown)) * _STEP + 84 + (_STEP if len(shown) < len(rates) else 0),
        title=title,
        description=". ".join(lines) or f"No decided application has the attribute {by}.",
    )
    drawing.text(20, 32, title, style="head")
    if not rates:
        drawing.text(20, 70, f"No decided application has the attribute {by}.")
        return str(drawing)
    width, top = _WIDTH - _LEFT - _RIGHT, 54
    bottom = top + len(shown) * _STEP
    for n in range(6):
        x = _LEFT + width * n / 5
        drawing.line((x, top), (x, bottom), "axis" if n == 0 else "grid")
        drawing.text(x, bottom + 16, f"{20 * n} %", style="faint", anchor="middle")
    tops = [top + n * _STEP for n in range(len(shown))]
    for y, rate in zip(tops, shown, strict=True):
        drawing.text(_LEFT - 10, y + 23, _shortened(rate.group), anchor="end")
        said = f"{percent(rate.rate)} · {rate.approved:,} of {rate.total:,}"
        drawing.text(_LEFT + width + 14, y + 23, said)
        style = "two" if rate.group in adverse else "one"
        if rate.approved:
            drawing.rect(_LEFT, y + 8, rate.rate * width, 22, style, tip=f"{rate.group}: {said}")
    limit = None if reference is None or not reference.approved else _LEFT + FOUR_FIFTHS * reference.rate * width
    if limit is not None:
        for line in ("halo", "limit"):
            drawing.line((limit, top - 4), (limit, bottom), line)
    for y, rate in zip(tops, shown, strict=True):
        interval = wilson(rate.approved, rate.total)
        low, high = (_LEFT + float(end) * width for end in (interval.low, interval.high))
        # First wide in the colour of the page, so that it stands out from the bar.
        for line in ("halo", "whisker"):
            drawing.line((low, y + 19), (high, y + 19), line)
            for end in (low, high):
                drawing.line((end, y + 13), (end, y + 25), line)
    if len(shown) < len(rates):
        drawing.text(20, bottom + _STEP + 4, f"and {len(rates) - len(shown):,} more groups")
        bottom += _STEP
    y = bottom + 44
    drawing.line((20, y - 4), (44, y - 4), "whisker")
    drawing.text(52, y, "95 % interval (Wilson)", style="faint")
    if reference is not None and limit is not None:
        drawing.line((210, y - 4), (234, y - 4), "limit")
        drawing.text(242, y, f"four fifths of the rate of {_shortened(reference.group)}", style="faint")
        if adverse:
            drawing.rect(20, y + 12, 14, 14, "two")
            drawing.text(40, y + 24, "below four fifths: evidence of adverse impact", style="faint")
    return str(drawing)


def _shortened(name: str) -> str:
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
