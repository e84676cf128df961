"""Expected cash flow: what borrowers are still to pay, by when it is due."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import TYPE_CHECKING

from msgspec import Struct

from tallystick.domains.lending.checks import as_date
from tallystick.domains.lending.lateness import COMPONENTS, frame
from tallystick.domains.lending.spans import Span, span_of
from tallystick.domains.lending.standing import Parts
from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.session import Session


class Expected(Struct, frozen=True, kw_only=True):
    """What is expected of an asset in a span of the calendar; ``start`` and ``end`` are both included."""

    asset: str
    span: str
    start: date
    end: date
    installments: int
    parts: Parts


class Overdue(Struct, frozen=True, kw_only=True):
    """What was due before the business date and is unpaid."""

    asset: str
    installments: int
    parts: Parts


class ExpectedCash(Struct, frozen=True, kw_only=True):
    """Expected cash flow between two dates, both included, and apart from it what is overdue already."""

    on: date
    since: date
    until: date | None
    by: Span
    overdue: tuple[Overdue, ...]
    lines: tuple[Expected, ...]


async def cash_flow(db: Session, since: date | None, until: date | None, by: Span | str) -> ExpectedCash:
    """See ``Portfolio.cash_flow``."""
    span, on = span_of(by), db.today()
    first = on if since is None else max(on, as_date(since, "since"))
    if until is not None and as_date(until, "until") < (first if since is None else since):
        raise Invalid("The period ends before it starts.", field="until", remedy="Give a later date.")
    at = await frame(db, on)
    bounds = f"i.due >= {at.arg(first)}" + ("" if until is None else f" AND i.due <= {at.arg(until)}")
    left = ", ".join(
        f"sum(i.{c} - i.{c}_paid - i.{c}_written_off{'' if c == 'principal' else f' - i.{c}_waived'})"
        for c in COMPONENTS
    )
    # What is overdue is one row with no due date; the rest a row for each day.
    rows = await at.rows(
        f"SELECT l.asset, CASE WHEN i.due >= $2 THEN i.due END, count(*), {left} FROM loans l "
        "JOIN tally.loan_installment i ON i.tenant_id = $1 AND i.loan_id = l.id "
        "WHERE i.current AND i.settled_on IS NULL AND i.principal + i.interest + i.fees + i.penalties > 0 "
        f"AND NOT l.charged_off AND (i.due < $2 OR {bounds}) GROUP BY 1, 2 ORDER BY 1, 2"
    )
    overdue, sums = [], defaultdict[tuple[str, date], list[int]](lambda: [0] * (1 + len(COMPONENTS)))
    for asset, due, count, *amounts in rows:
        if due is None:
            overdue.append(Overdue(asset=asset, installments=count, parts=Parts.of(amounts, asset)))
            continue
        cell = sums[asset, span.start(due)]
        for n, amount in enumerate((count, *amounts)):
            cell[n] += int(amount)
    lines = tuple(
        Expected(
            asset=asset,
            span=span.label(start),
            start=start,
            end=span.end(start),
            installments=count,
            parts=Parts.of(amounts, asset),
        )
        for (asset, start), (count, *amounts) in sums.items()
    )
    return ExpectedCash(on=on, since=first, until=until, by=span, overdue=tuple(overdue), lines=lines)
