"""Reports of loans on the command line: numbers of the session, pictures that are well formed, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.cli.conftest import Cli
from tests.lending.portfolio_support import random_books

from tallystick import Session, Tallystick
from tallystick.settings import Settings

TENANT = "portfolio-reports"
_PLANTED: set[Path] = set()
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def book(data_dir: Path) -> Path:
    """A tenant with loans in every state."""

    async def plant() -> None:
        async with Tallystick.open(settings=Settings.load({}, data_dir=data_dir)) as tally:
            await tally.tenants.create(TENANT, name="Reports")
            async with tally.session(TENANT, actor="test", permissions=["*"]) as db, db.transaction():
                await random_books(db, 21, 30, db.today())

    if data_dir not in _PLANTED:
        asyncio.run(plant())
        _PLANTED.add(data_dir)
    return data_dir


def asked(data_dir: Path, question: Callable[[Session], Any]) -> Any:
    async def ask() -> Any:
        async with (
            Tallystick.open(settings=Settings.load({}, data_dir=data_dir)) as tally,
            tally.session(TENANT, actor="test", permissions=()) as db,
        ):
            return await question(db)

    return asyncio.run(ask())


def picture(place: Path) -> ElementTree.Element:
    """An SVG that says what it is, fits in itself, and has colours for both kinds of pages."""
    text = place.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    named = root.get("aria-labelledby", "").split()
    told = [e.text for e in root.iter() if e.get("id") in named]
    assert len(told) == 2
    assert all(told)
    assert "prefers-color-scheme: dark" in text
    width, height = (float(n) for n in root.get("viewBox", "").split()[2:])
    for shape in root.iter():
        if shape.tag in (f"{SVG}rect", f"{SVG}text") and shape.get("x") is not None:
            assert 0 <= float(shape.get("x", "")) <= width
            assert 0 <= float(shape.get("y", "")) <= height
        assert float(shape.get("width", "0").removesuffix("%")) >= 0
    return root


def test_par_is_what_the_session_answers(cli: Cli, book: Path, tmp_path: Path) -> None:
    report = asked(book, lambda db: db.portfolio.par())
    found = cli("report", "par", "--tenant", TENANT, "--json").document
    assert [line["asset"] for line in found["lines"]] == [line.asset for line in report.lines] == ["EUR", "USD"]
    for shown, line in zip(found["lines"], report.lines, strict=True):
        assert Decimal(shown["portfolio"]["principal"]) == line.portfolio.principal.amount
        for cell, risk in zip(shown["at_risk"], line.at_risk, strict=True):
            assert (cell["threshold"], cell["loans"]) == (risk.threshold, risk.loans)
            assert Decimal(cell["principal"]) == risk.principal.amount
            assert cell["ratio"] == pytest.approx(float(risk.ratio))
    place = tmp_path / "par.svg"
    said = cli("report", "par", "--tenant", TENANT, "--svg", str(place))
    assert said.code == 0
    for line in report.lines:
        assert f"{line.portfolio.loans} loans owe {line.portfolio.principal.amount:,}" in said.out
        for risk in line.at_risk:
            assert f"{risk.principal.amount:,}" in said.out
    root = picture(place)
    bars = [e for e in root.iter(f"{SVG}rect") if e.find(f"{SVG}title") is not None]
    assert len(bars) == sum(bool(r.late.loans) + bool(r.restructured.loans) for x in report.lines for r in x.at_risk)


def test_par_by_group_and_of_a_past_date(cli: Cli, book: Path, tmp_path: Path) -> None:
    found = cli("report", "par", "--tenant", TENANT, "--by", "product", "--days", "1,45", "--json").document
    assert {line["group"] for line in found["lines"]} == {"plain", "grace", "tolerant", "euro"}
    assert {cell["threshold"] for line in found["lines"] for cell in line["at_risk"]} == {1, 45}
    said = cli("report", "par", "--tenant", TENANT, "--by", "community", "--svg", str(tmp_path / "x.svg"))
    assert "north" in said.out
    assert "(none)" in said.out
    picture(tmp_path / "x.svg")
    past = cli("report", "par", "--tenant", TENANT, "--on", "2026-03-01", "--json").document
    report = asked(book, lambda db: db.portfolio.par(date(2026, 3, 1)))
    assert past["on"] == "2026-03-01"
    assert [x["portfolio"]["loans"] for x in past["lines"]] == [x.portfolio.loans for x in report.lines]
    assert "No loan is outstanding." in cli("report", "par", "--tenant", TENANT, "--on", "1999-01-01").out


@pytest.mark.parametrize("measure", ["loss", "par30"])
@pytest.mark.parametrize("by", ["month", "quarter"])
def test_vintages_are_what_the_session_answers(cli: Cli, book: Path, tmp_path: Path, measure: str, by: str) -> None:
    options = ("--tenant", TENANT, "--measure", measure, "--by", by, "--months", "12")
    report = asked(book, lambda db: db.portfolio.vintages(by=by, measure=measure, months=12))
    found = cli("report", "vintage", *options, "--json").document
    assert [(c["asset"], c["cohort"], c["loans"]) for c in found["curves"]] == [
        (c.asset, c.cohort, c.loans) for c in report.curves
    ]
    assert [c["rates"] for c in found["curves"]] == [
        [None if r is None else pytest.approx(float(r)) for r in c.rates] for c in report.curves
    ]
    said = cli("report", "vintage", *options, "--svg", str(tmp_path / "v.svg"))
    assert said.code == 0
    assert all(c.cohort in said.out for c in report.curves)
    root = picture(tmp_path / "v.svg")
    drawn = [*root.iter(f"{SVG}polyline"), *root.iter(f"{SVG}circle")]
    assert len(drawn) == sum(any(r is not None for r in c.rates) for c in report.curves)


def test_cash_is_what_the_session_answers(cli: Cli, book: Path, tmp_path: Path) -> None:
    report = asked(book, lambda db: db.portfolio.cash_flow())
    found = cli("report", "cash-flow", "--tenant", TENANT, "--json").document
    assert [(x["asset"], x["span"], Decimal(x["total"])) for x in found["lines"]] == [
        (x.asset, x.span, x.parts.total.amount) for x in report.lines
    ]
    assert [Decimal(x["total"]) for x in found["overdue"]] == [x.parts.total.amount for x in report.overdue]
    said = cli("report", "cash-flow", "--tenant", TENANT, "--by", "week", "--svg", str(tmp_path / "c.svg"))
    assert "overdue" in said.out
    picture(tmp_path / "c.svg")


def test_the_trial_balance_sums_up_loans(cli: Cli, data_dir: Path) -> None:
    found = cli("report", "trial-balance", "--tenant", "sunrise", "--json").document
    whole = cli("report", "trial-balance", "--tenant", "sunrise", "--all", "--json").document
    assert found["balanced"] is whole["balanced"] is True
    assert found["totals"] == whole["totals"]
    assert len(found["lines"]) < len(whole["lines"]) == sum(x["accounts"] for x in found["lines"])
    for side in ("debits", "credits"):
        sums = [sum(Decimal(x[side]) for x in d["lines"] if x["asset"] == "USD") for d in (found, whole)]
        assert sums[0] == sums[1] == Decimal(found["totals"]["USD"][side])
    said = cli("report", "trial-balance", "--tenant", "sunrise")
    assert said.code == 0
    assert "are equal to credits" in said.out


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize(
    "arguments",
    [("par",), ("par", "--by", "product"), ("vintage",), ("vintage", "--measure", "par30"), ("cash-flow",)],
)
def test_a_report_fits_80_columns(cli: Cli, book: Path, narrow: None, arguments: tuple[str, ...]) -> None:
    said = cli("report", *arguments, "--tenant", TENANT)
    assert said.code == 0
    assert max(len(line) for line in said.out.splitlines()) <= 80


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("par", "--by", "colour"), 2),
        (("par", "--days", "30,1"), 2),
        (("par", "--days", "1,x"), 2),
        (("par", "--on", "yesterday"), 2),
        (("vintage", "--measure", "par45"), 2),
        (("vintage", "--by", "week"), 2),
        (("vintage", "--months", "999"), 2),
        (("cash-flow", "--by", "fortnight"), 2),
        (("cash-flow", "--since", "2030-02-01", "--until", "2030-01-01"), 2),
        (("par", "--svg", "/nowhere/at/all.svg"), 6),
        (("par", "--tenant", "nobody"), 4),
    ],
)
def test_what_is_asked_wrongly(cli: Cli, book: Path, arguments: tuple[str, ...], code: int) -> None:
    given = arguments if "--tenant" in arguments else (*arguments, "--tenant", TENANT)
    said = cli("report", *given)
    assert said.code == code
    assert "Traceback" not in said.err
