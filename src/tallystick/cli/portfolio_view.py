"""How reports of loans look: pictures and tables for people, documents for programs."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tallystick.cli.chart import LEVELS, amount, bar, ceiling, level, percent, shade
from tallystick.cli.pictures import MEASURES, last_of, named

if TYPE_CHECKING:
    from tallystick.cli.output import Output
    from tallystick.domains.ledger.reports import Balances, TrialBalance
    from tallystick.domains.lending.expected import ExpectedCash
    from tallystick.domains.lending.risk import AtRisk, Held, PortfolioAtRisk, Risk
    from tallystick.domains.lending.standing import Parts
    from tallystick.domains.lending.vintages import Vintage, Vintages

_HEAT = ("dim", "green", "yellow", "dark_orange", "red")


# -- portfolio at risk -----------------------------------------------------------------------------------------------


def risk_document(report: PortfolioAtRisk) -> dict[str, Any]:
    """Portfolio at risk for programs; ratios are of the portfolio's principal."""

    def held(given: Held) -> dict[str, Any]:
        return {"loans": given.loans, "principal": str(given.principal.amount)}

    return {
        "on": report.on,
        "by": report.by,
        "lines": [
            {
                "asset": line.asset,
                "group": line.group,
                "portfolio": held(line.portfolio),
                "restructured": held(line.restructured),
                "charged_off": held(line.charged_off),
                "at_risk": [
                    {
                        "threshold": a.threshold,
                        "loans": a.loans,
                        "principal": str(a.principal.amount),
                        "ratio": a.ratio,
                        "late": held(a.late),
                        "restructured": held(a.restructured),
                    }
                    for a in line.at_risk
                ],
            }
            for line in report.lines
        ],
    }


def show_risk(out: Output, report: PortfolioAtRisk, tenant: str, written: Path | None) -> None:
    """A bar for each threshold; by group, a line for each."""
    out.line(f"Portfolio at risk of {tenant} on {report.on}", "bold")
    if not report.lines:
        out.line("No loan is outstanding.")
    elif report.by is not None:
        _show_groups(out, report)
    else:
        for line in report.lines:
            _show_line(out, line)
        full, eased = bar(Fraction(1), Fraction(1), 1, ascii_only=_ascii(out)), shade(2, ascii_only=_ascii(out))
        out.line()
        out.line(f"{full} late   {eased} restructured, not late for so long   share, principal, loans", "dim")
    _tell(out, written)


def _show_line(out: Output, line: Risk) -> None:
    from rich.text import Text

    out.line()
    out.line(f"{named(line)}: {line.portfolio.loans:,} loans owe {amount(line.portfolio.principal)}")
    out.line()
    figures = [(percent(a.ratio), amount(a.principal), f"{a.loans:,}") for a in line.at_risk]
    widths = [max(len(row[n]) for row in figures) for n in range(3)]
    label = max(len(f"PAR {a.threshold}") for a in line.at_risk)
    room = max(10, _width(out) - label - sum(widths) - 10)
    scale = ceiling(max((a.ratio for a in line.at_risk), default=Fraction(0)) * 100) / 100
    for risk, row in zip(line.at_risk, figures, strict=True):
        drawn = _risk_bar(out, risk, line, scale, room)
        text = Text("  ").append(f"PAR {risk.threshold}".ljust(label)).append("  ").append_text(drawn)
        text.append(" " * (room - drawn.cell_len))
        text.append("  ".join(["", *(cell.rjust(w) for cell, w in zip(row, widths, strict=True))]))
        out.console.print(text)
    axis = f"0{percent(scale, 0 if (scale * 100).denominator == 1 else 2).rjust(room - 1)}"
    out.line(f"  {' ' * label}  {axis}", "dim")
    notes = [(line.restructured, "restructured"), (line.charged_off, "charged off")]
    said = [f"{held.loans:,} {name} ({amount(held.principal)})" for held, name in notes if held.loans]
    if said:
        out.line(f"  Of these loans, {' and '.join(said)}.")


def _risk_bar(out: Output, risk: AtRisk, line: Risk, scale: Fraction, room: int) -> Any:
    from rich.text import Text

    whole = line.portfolio.principal.units or 1
    parts = Fraction(risk.late.principal.units, whole), Fraction(risk.restructured.principal.units, whole)
    ascii_only = _ascii(out)
    late = bar(parts[0], scale, room, ascii_only=ascii_only)
    eased = bar(parts[1], scale, room, mark=shade(2, ascii_only=ascii_only))[: room - len(late)]
    return Text(late, style="red" if risk.threshold >= 30 else "yellow").append(eased, style="cyan")


def _show_groups(out: Output, report: PortfolioAtRisk) -> None:
    thresholds = [f"PAR {t}" for t in report.thresholds]
    main = next((n for n, t in enumerate(report.thresholds) if t >= 30), 0)
    for asset in sorted({line.asset for line in report.lines}):
        lines = [line for line in report.lines if line.asset == asset]
        scale = ceiling(max(line.at_risk[main].ratio for line in lines) * 100) / 100
        columns = [f"{report.by}, {asset}", "loans", "outstanding", *thresholds]
        rows = [
            [
                "(none)" if line.group is None else line.group,
                line.portfolio.loans,
                amount(line.portfolio.principal),
                *(percent(a.ratio) for a in line.at_risk),
                bar(line.at_risk[main].ratio, scale, 10, ascii_only=_ascii(out)),
            ]
            for line in lines
        ]
        wide = _width(out) >= 95
        out.table(
            [*columns, thresholds[main]] if wide else columns,
            rows if wide else [row[:-1] for row in rows],
            right=columns[1:],
            flexible=(columns[0],),
        )


# -- vintages --------------------------------------------------------------------------------------------------------


def vintage_document(report: Vintages) -> dict[str, Any]:
    """Vintages for programs; None is a month that is not known."""
    return {
        "on": report.on,
        "by": report.by.value,
        "measure": report.measure.value,
        "curves": [
            {
                "asset": c.asset,
                "cohort": c.cohort,
                "loans": c.loans,
                "disbursed": str(c.disbursed.amount),
                "rates": list(c.rates),
            }
            for c in report.curves
        ],
    }


def show_vintages(out: Output, report: Vintages, tenant: str, written: Path | None) -> None:
    """A heat table: a row for each cohort, a cell for each month on book."""
    out.line(f"Vintages of {tenant} on {report.on}: part {MEASURES[report.measure.value]}", "bold")
    if not report.curves:
        out.line("No loan was paid out.")
    for asset in sorted({c.asset for c in report.curves}):
        out.line()
        _show_heat(out, [c for c in report.curves if c.asset == asset])
    _tell(out, written)


def _show_heat(out: Output, curves: list[Vintage]) -> None:
    from rich.text import Text

    ascii_only, asset = _ascii(out), curves[0].asset
    months = max(len(c.amounts) for c in curves)
    left = [(c.cohort, f"{c.loans:,}", amount(c.disbursed)) for c in curves]
    heads = ("paid out", "loans", asset)
    widths = [max(len(heads[n]), *(len(row[n]) for row in left)) for n in range(3)]
    room = _width(out) - sum(widths) - 6 - 9
    every = max(1, -(-months // max(1, room)))
    shown = range(0, months, every)
    wide = max(1, min(3, room // max(1, len(shown))))
    scale = ceiling(max((r for c in curves for r in c.rates if r is not None), default=Fraction(0)) * 100) / 100
    head = "  ".join(t.ljust(w) if n == 0 else t.rjust(w) for n, (t, w) in enumerate(zip(heads, widths, strict=True)))
    out.line(f"{head}  {_months(shown, wide)}{'latest'.rjust(9)}", "bold")
    for curve, row in zip(curves, left, strict=True):
        cells = [t.ljust(w) if n == 0 else t.rjust(w) for n, (t, w) in enumerate(zip(row, widths, strict=True))]
        text = Text("  ".join(cells) + "  ")
        rates = curve.rates
        for month in shown:
            rate = rates[month] if month < len(rates) else None
            if rate is None:
                text.append(" " * wide)
            else:
                step = level(rate, scale)
                text.append(shade(step, ascii_only=ascii_only) * wide, style=_HEAT[step])
        latest = last_of(curve)
        text.append(("-" if latest is None else percent(latest, 2)).rjust(9))
        out.console.print(text, no_wrap=True, overflow="crop")
    steps = [scale * n / (LEVELS - 1) for n in range(LEVELS)]
    places = 0 if all((s * 100).denominator == 1 for s in steps) else 2
    key = [f"{shade(0, ascii_only=ascii_only)} none"]
    key += [f"{shade(n, ascii_only=ascii_only)} to {percent(steps[n], places)}" for n in range(1, LEVELS)]
    more = f", every {every}th shown" if every > 1 else ""
    out.line("   ".join(key), "dim")
    out.line(f"Columns are months since the cohort ended{more}.", "dim")


def _months(shown: range, wide: int) -> str:
    """Numbers of months above their cells, where there is room for them."""
    line = ""
    for place, month in enumerate(shown):
        text = str(month)
        if len(line) <= place * wide and (month % 6 == 0 or (wide == 3 and month % 3 == 0)):
            line = line.ljust(place * wide) + text + " "
    return line[: len(shown) * wide].ljust(len(shown) * wide)


# -- expected cash ---------------------------------------------------------------------------------------------------


def cash_document(report: ExpectedCash) -> dict[str, Any]:
    """Expected cash for programs."""

    def parts(given: Parts) -> dict[str, str]:
        names = ("principal", "interest", "fees", "penalties", "total")
        return {name: str(getattr(given, name).amount) for name in names}

    return {
        "on": report.on,
        "since": report.since,
        "until": report.until,
        "by": report.by.value,
        "overdue": [{"asset": x.asset, "installments": x.installments, **parts(x.parts)} for x in report.overdue],
        "lines": [
            {"asset": x.asset, "span": x.span, "installments": x.installments, **parts(x.parts)} for x in report.lines
        ],
    }


def show_cash(out: Output, report: ExpectedCash, tenant: str, written: Path | None) -> None:
    """A line and a bar for each span; what is overdue stands first, apart."""
    until = "" if report.until is None else f" to {report.until}"
    out.line(f"Expected cash of {tenant} from {report.since}{until}", "bold")
    assets = sorted({x.asset for x in report.overdue} | {x.asset for x in report.lines})
    if not assets:
        out.line("Nothing is expected.")
    for asset in assets:
        rows = [("overdue", x.parts) for x in report.overdue if x.asset == asset]
        rows += [(x.span, x.parts) for x in report.lines if x.asset == asset]
        most = Fraction(max(parts.total.units for _, parts in rows) or 1)
        columns = (asset, "principal", "interest", "charges", "total", "")
        shown = [
            (
                span,
                amount(parts.principal),
                amount(parts.interest),
                amount(parts.fees + parts.penalties),
                amount(parts.total),
                bar(Fraction(parts.total.units), most, 16, ascii_only=_ascii(out)),
            )
            for span, parts in rows
        ]
        out.table(columns, shown, right=columns[1:5])
    _tell(out, written)


# -- the trial balance -----------------------------------------------------------------------------------------------


def summed(report: TrialBalance, *, every: bool) -> list[tuple[Balances, int]]:
    """Lines with how many accounts each is of: a loan's own accounts by kind and asset, the others one by one."""
    if every:
        return [(line, 1) for line in report.lines]
    found: dict[tuple[str, str], tuple[Balances, int]] = {}
    for line in report.lines:
        first, _, rest = line.code.partition(":")
        number, _, own = rest.partition(":")
        single = first == "loan" and number.isdigit()
        code = f"loan:*:{own}" if single else line.code
        asset = line.debits.asset
        before = found.get((code, asset))
        if before is None:
            found[code, asset] = (replace(line, code=code), 1)
        else:
            whole, count = before
            sums = {
                name: getattr(whole, name) + getattr(line, name)
                for name in ("debits", "credits", "debits_pending", "credits_pending")
            }
            found[code, asset] = (replace(whole, **sums), count + 1)
    return list(found.values())


def trial_document(report: TrialBalance, lines: list[tuple[Balances, int]], on: date) -> dict[str, Any]:
    """The trial balance for programs."""
    return {
        "on": on,
        "balanced": report.balanced,
        "totals": {
            asset: {"debits": str(debits.amount), "credits": str(credits.amount)}
            for asset, (debits, credits) in report.totals.items()
        },
        "lines": [
            {
                "code": line.code,
                "kind": line.kind.value,
                "asset": line.debits.asset,
                "accounts": count,
                "debits": str(line.debits.amount),
                "credits": str(line.credits.amount),
                "balance": str(line.net.amount),
            }
            for line, count in lines
        ],
    }


def show_trial(out: Output, report: TrialBalance, lines: list[tuple[Balances, int]], tenant: str, on: date) -> None:
    """Accounts by code, and the totals of each asset."""
    out.line(f"Trial balance of {tenant} on {on}", "bold")
    if not lines:
        out.line("No account was opened.")
        return
    columns = ("account", "kind", "debits", "credits", "balance")
    rows = [
        (
            line.code if count == 1 else f"{line.code} ({count:,})",
            line.kind.value,
            amount(line.debits),
            amount(line.credits),
            f"{amount(line.net)} {line.net.asset}",
        )
        for line, count in lines
        if line.debits or line.credits
    ]
    idle = len(lines) - len(rows)
    out.table(columns, rows, right=columns[2:])
    for asset, (debits, credits) in report.totals.items():
        same = "equal to" if debits == credits else "NOT equal to"
        out.line(f"{asset}: debits {amount(debits)} are {same} credits {amount(credits)}")
    if idle:
        out.line(f"{idle} accounts without a movement are not shown.", "dim")


def _ascii(out: Output) -> bool:
    return out.console.options.ascii_only


def _width(out: Output) -> int:
    """How wide a picture is: what fits, and no wider than a page."""
    return min(out.console.width, 100)


def _tell(out: Output, written: Path | None) -> None:
    if written is not None:
        out.line(f"Picture: {written}", "dim")
