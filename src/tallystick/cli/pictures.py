"""Portfolio at risk, vintages and expected cash as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from tallystick.cli.chart import amount, ceiling, percent
from tallystick.cli.svg import Drawing, Number

if TYPE_CHECKING:
    from tallystick.domains.lending.expected import ExpectedCash
    from tallystick.domains.lending.risk import PortfolioAtRisk, Risk
    from tallystick.domains.lending.vintages import Vintage, Vintages

_WIDTH: Final = 760
_LEFT: Final = 96
_RIGHT: Final = 210
# From old to young, light enough on dark and dark enough on light: each has a contrast above 3 with both pages.
_AGES: Final = ("#7d6bd0", "#4f7fd6", "#2a8fb5", "#1f9580", "#5c9038", "#a8802a", "#c76a3c", "#c85f7f")
MEASURES: Final = {
    "loss": "charged off or written off",
    "par1": "past due",
    "par30": "more than 30 days past due",
    "par60": "more than 60 days past due",
    "par90": "more than 90 days past due",
}


def named(line: Risk) -> str:
    """What a line of portfolio at risk is of."""
    return line.asset if line.group is None else f"{line.asset}, {line.group}"


def risk_picture(report: PortfolioAtRisk, tenant: str) -> str:
    """A bar for each threshold, of what is late and, hatched, of what was restructured."""
    step, head, foot = 34, 62, 46
    blocks = [(line, head + len(line.at_risk) * step) for line in report.lines]
    told = ". ".join(
        f"{named(line)}: " + ", ".join(f"PAR {a.threshold} {percent(a.ratio)}" for a in line.at_risk)
        for line in report.lines
    )
    title = f"Portfolio at risk of {tenant} on {report.on}"
    drawing = Drawing(
        _WIDTH,
        50 + max(40, sum(height for _, height in blocks)) + foot,
        title=title,
        description=told or "No loan is outstanding.",
    )
    drawing.text(20, 32, title, style="head")
    y = 50
    scale = ceiling(max((a.ratio for line in report.lines for a in line.at_risk), default=Fraction(0)) * 100) / 100
    width = _WIDTH - _LEFT - _RIGHT
    for line, height in blocks:
        whole = f"{named(line)}: {line.portfolio.loans:,} loans owe {amount(line.portfolio.principal)}"
        drawing.text(20, y + 22, whole)
        top = y + 38
        for n in range(5):
            x = _LEFT + width * n / 4
            drawing.line((x, top), (x, top + len(line.at_risk) * step), "grid")
            drawing.text(x, top + len(line.at_risk) * step + 14, _tick(scale * n / 4), style="faint", anchor="middle")
        for n, risk in enumerate(line.at_risk):
            at, whole_units = top + n * step + 6, line.portfolio.principal.units or 1
            late = Fraction(risk.late.principal.units, whole_units) / scale * width
            eased = Fraction(risk.restructured.principal.units, whole_units) / scale * width
            drawing.text(_LEFT - 10, at + 16, f"PAR {risk.threshold}", anchor="end")
            tip = f"PAR {risk.threshold}: {percent(risk.ratio, 2)}, {risk.loans} loans, {risk.principal}"
            if late:
                drawing.rect(_LEFT, at, max(late, Fraction(1)), 22, "one", tip=tip)
            if eased:
                drawing.rect(_LEFT + late, at, max(eased, Fraction(1)), 22, "hatched", tip=f"{tip}, of it restructured")
            said = f"{percent(risk.ratio)} · {amount(risk.principal)} · {risk.loans:,}"
            drawing.label(_LEFT + max(late + eased, Fraction(1)) + 8, at + 16, said)
        y += height
    if not report.lines:
        drawing.text(20, y + 22, "No loan is outstanding.")
    y += 18
    drawing.rect(20, y, 14, 14, "one")
    drawing.text(40, y + 12, "late", style="faint")
    drawing.rect(84, y, 14, 14, "hatched")
    drawing.text(104, y + 12, "restructured and not late for longer · percent, amount, loans", style="faint")
    return str(drawing)


def vintage_picture(report: Vintages, tenant: str) -> str:
    """A curve for each cohort by months on book; a panel for each asset."""
    assets = sorted({curve.asset for curve in report.curves})
    plot, head = 280, 40
    title = f"Vintages of {tenant} on {report.on}: part {MEASURES[report.measure.value]}"
    told = [f"{c.asset} {c.cohort}: {percent(r)}" for c in report.curves if (r := last_of(c)) is not None]
    drawing = Drawing(
        _WIDTH,
        60 + max(40, len(assets) * (plot + head + 44)),
        title=title,
        description="At the latest month, " + ", ".join(told) + "." if told else "No cohort has a month on book.",
    )
    drawing.text(20, 32, title, style="head")
    y = 60
    for asset in assets:
        curves = [c for c in report.curves if c.asset == asset]
        drawing.text(20, y + 6, f"{asset}: {sum(c.loans for c in curves):,} loans")
        _panel(drawing, curves, y + head - 14, plot)
        y += plot + head + 44
    if not assets:
        drawing.text(20, y + 22, "No loan was paid out.")
    return str(drawing)


def last_of(curve: Vintage) -> Fraction | None:
    """The latest rate of a cohort."""
    return next((rate for rate in reversed(curve.rates) if rate is not None), None)


def _tick(value: Fraction) -> str:
    """A percentage on an axis, with decimals only where it has some."""
    return percent(value, next(n for n in (0, 1, 2, 3, 4) if n == 4 or (value * 100 * 10**n).denominator == 1))


def _panel(drawing: Drawing, curves: Sequence[Vintage], top: int, height: int) -> None:
    width = _WIDTH - 70 - 90
    months = max((len(c.amounts) for c in curves), default=1) - 1
    scale = ceiling(max((r for c in curves for r in c.rates if r is not None), default=Fraction(0)) * 100) / 100
    for n in range(6):
        at = top + height - height * n / 5
        drawing.line((70, at), (70 + width, at), "axis" if n == 0 else "grid")
        drawing.text(62, at + 4, _tick(scale * n / 5), style="faint", anchor="end")
    every = next(n for n in (1, 2, 3, 6, 12, 24) if n == 24 or max(months, 1) / n <= 13)
    for month in range(0, months + 1, every):
        x = 70 + Fraction(width * month, max(months, 1))
        drawing.text(x, top + height + 18, str(month), style="faint", anchor="middle")
    drawing.text(
        70 + width / 2, top + height + 36, "months after the cohort's last day", style="faint", anchor="middle"
    )
    labels: list[tuple[float, float, str]] = []
    for n, curve in enumerate(curves):
        points: list[tuple[Number, Number]] = [
            (70 + Fraction(width * month, max(months, 1)), top + height - rate / scale * height)
            for month, rate in enumerate(curve.rates)
            if rate is not None
        ]
        if not points:
            continue
        colour = _AGES[n * len(_AGES) // len(curves)]
        latest = last_of(curve)
        assert latest is not None
        tip = f"{curve.cohort}: {curve.loans} loans, {curve.disbursed}; {percent(latest, 2)}"
        drawing.curve(points, colour, tip=tip)
        last, level = (float(at) for at in points[-1])
        if latest or last > 69 + width:
            labels.append((last + 5, level, curve.cohort))
    taken: list[tuple[float, float]] = []
    for right, level, label in sorted(labels, reverse=True):
        # One that would cover another is left out; a pointer on its curve still names it.
        if all(abs(right - x) > 56 or abs(level - y) > 12 for x, y in taken):
            taken.append((right, level))
            drawing.text(right, level + 4, label, style="faint")


def cash_picture(report: ExpectedCash, tenant: str) -> str:
    """A bar for each span: principal, interest, fees and penalties; what is overdue is one apart."""
    title = f"Expected cash of {tenant} from {report.since}"
    assets = sorted({x.asset for x in report.overdue} | {x.asset for x in report.lines})
    rows = {
        asset: [
            *(("overdue", x.parts) for x in report.overdue if x.asset == asset),
            *((x.span, x.parts) for x in report.lines if x.asset == asset),
        ]
        for asset in assets
    }
    told = ". ".join(
        f"{asset}: " + ", ".join(f"{span} {amount(parts.total)}" for span, parts in rows[asset]) for asset in assets
    )
    step = 26
    height = 60 + max(40, sum(44 + len(rows[asset]) * step for asset in assets)) + 34
    drawing = Drawing(_WIDTH, height, title=title, description=told or "Nothing is expected.")
    drawing.text(20, 32, title, style="head")
    y, width = 60, _WIDTH - _LEFT - 170
    for asset in assets:
        drawing.text(20, y + 6, asset)
        y += 20
        most = max(parts.total.units for _, parts in rows[asset]) or 1
        drawing.line((_LEFT, y), (_LEFT, y + len(rows[asset]) * step), "axis")
        for span, parts in rows[asset]:
            drawing.text(_LEFT - 10, y + 18, span, anchor="end")
            x: Number = _LEFT
            charges = parts.fees + parts.penalties
            for style, money, name in (
                ("one", parts.principal, "principal"),
                ("two", parts.interest, "interest"),
                ("three", charges, "fees and penalties"),
            ):
                length = Fraction(money.units * width, most)
                if length:
                    drawing.rect(x, y + 4, length, step - 7, style, tip=f"{span}, {name}: {money}")
                    x += length
            drawing.text(x + 8, y + 18, amount(parts.total))
            y += step
        y += 24
    if not assets:
        drawing.text(20, y + 22, "Nothing is expected.")
        y += 40
    for style, x, name in (("one", 20, "principal"), ("two", 120, "interest"), ("three", 210, "fees and penalties")):
        drawing.rect(x, y, 14, 14, style)
        drawing.text(x + 20, y + 12, name, style="faint")
    return str(drawing)
