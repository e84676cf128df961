"""How vaults look: bands of health as bars, in the terminal and as SVG, and the vaults that are worst off."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from tallystick.cli.chart import bar, ceiling

if TYPE_CHECKING:
    from pathlib import Path

    from tallystick.cli.output import Output
    from tallystick.domains.vaults.overview import Band, Overview

_WIDTH: Final = 760
_LEFT: Final = 130
_RIGHT: Final = 280
_STYLES: Final = {"red": "two", "yellow": "four", "green": "one"}


def document(found: Overview) -> dict[str, Any]:
    """The report for programs; amounts are in whole units of their quote."""
    return {
        "totals": [
            {
                "quote": t.quote,
                "status": t.status,
                "vaults": t.vaults,
                "collateral": str(t.collateral),
                "debt": str(t.debt),
            }
            for t in found.totals
        ],
        "health": [
            {
                "quote": b.quote,
                "from": None if b.least is None else str(b.least),
                "below": None if b.below is None else str(b.below),
                "vaults": b.vaults,
                "debt": str(b.debt),
            }
            for b in found.bands
        ],
        "alerts": found.alerts,
        "worst": [
            {
                "id": v.id,
                "chain": v.chain_id,
                "external_id": v.external_id,
                "status": v.status.value,
                "health_factor": str(v.health_factor),
                "ltv": str(v.ltv),
                "debt": str(v.worth(v.debt_value)),
                "quote": v.quote,
            }
            for v in found.worst
        ],
    }


def show(out: Output, found: Overview, tenant: str, written: Path | None) -> None:
    """The report for people."""
    from rich.text import Text

    if not found.totals:
        out.line(f"{tenant} has no vaults.")
        return
    rows = [(t.status, t.vaults, _amount(t.collateral), _amount(t.debt), t.quote) for t in found.totals]
    out.table(("status", "vaults", "collateral", "debt", "in"), rows, right=("vaults", "collateral", "debt"))
    for quote in sorted({b.quote for b in found.bands}):
        bands = [b for b in found.bands if b.quote == quote]
        out.line(f"Open vaults in {quote} by health factor; below 1 they may be liquidated", "bold")
        scale = ceiling(Fraction(max(b.vaults for b in bands)))
        plain = not out.console.encoding.lower().startswith("utf")
        for band in bands:
            drawn = bar(Fraction(band.vaults), scale, 40, ascii_only=plain)
            out.console.print(
                Text.assemble(
                    f"{_named(band):>12} ",
                    (f"{drawn:<40} ", _colour(band)),
                    f"{band.vaults:>6,}  ",
                    (f"{_amount(band.debt)} owed", "dim"),
                ),
                soft_wrap=True,
            )
        out.line()
    if found.alerts:
        out.line("Alerts that stand: " + ", ".join(f"{n:,} {kind}" for kind, n in found.alerts.items()), "yellow")
    if found.worst:
        worst = [
            (
                v.external_id,
                v.status.value,
                f"{v.health_factor:.4f}",
                "-" if v.ltv is None or not v.ltv.is_finite() else f"{v.ltv * 100:.2f} %",
                _amount(v.worth(v.debt_value)),
            )
            for v in found.worst
        ]
        columns = ("vault", "status", "health factor", "LTV", "debt")
        out.table(columns, worst, title="The worst", right=columns[2:], flexible=("vault",))
    if written is not None:
        out.line(f"Picture: {written}", "dim")


def picture(found: Overview, tenant: str) -> str:
    """The bands as SVG."""
    from tallystick.cli.svg import Drawing

    quotes = sorted({b.quote for b in found.bands})
    step, head = 30, 40
    title = f"Health of the vaults of {tenant}"
    told = ". ".join(f"{b.quote} {_named(b)}: {b.vaults} vaults" for b in found.bands if b.vaults)
    rows = max((sum(b.quote == q for b in found.bands) for q in quotes), default=1)
    drawing = Drawing(
        _WIDTH, 86 + max(1, len(quotes)) * (rows * step + head), title=title, description=told or "No vault owes."
    )
    drawing.text(20, 32, title, style="head")
    width = _WIDTH - _LEFT - _RIGHT
    y = 60
    for quote in quotes:
        bands = [b for b in found.bands if b.quote == quote]
        drawing.text(20, y, f"Open vaults in {quote} by health factor", style="faint")
        y += 14
        scale = ceiling(Fraction(max(b.vaults for b in bands)))
        drawing.line((_LEFT, y), (_LEFT, y + len(bands) * step), "axis")
        for band in bands:
            drawing.text(_LEFT - 10, y + 20, _named(band), anchor="end")
            length = Fraction(band.vaults) / scale * width
            said = f"{band.vaults:,} vaults, {_amount(band.debt)} owed"
            if band.vaults:
                style = _STYLES[_colour(band)]
                drawing.rect(_LEFT, y + 5, max(length, Fraction(1)), 20, style, tip=f"{_named(band)}: {said}")
            drawing.text(_LEFT + float(length) + 8, y + 20, said)
            y += step
        y += head - 14
    if not quotes:
        drawing.text(20, y, "No vault owes anything.")
        y += 24
    for style, x, said in (("two", 20, "may be liquidated"), ("four", 170, "near it"), ("one", 250, "safe for now")):
        drawing.rect(x, y - 8, 14, 14, style)
        drawing.text(x + 20, y + 4, said, style="faint")
    return str(drawing)


def _named(band: Band) -> str:
    if band.least is None:
        return f"below {band.below}"
    return f"{band.least} or more" if band.below is None else f"{band.least} - {band.below}"


def _colour(band: Band) -> str:
    if band.below is None or band.below > Decimal("1.25"):
        return "green"
    return "red" if band.below <= 1 else "yellow"


def _amount(value: Decimal) -> str:
    return f"{value:,.2f}"
