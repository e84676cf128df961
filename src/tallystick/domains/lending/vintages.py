"""Vintages: how the loans of a month or quarter fared, by how long ago it was."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from tallystick.domains.lending.checks import as_date, as_whole
from tallystick.domains.lending.lateness import frame
from tallystick.domains.lending.risk import first_day
from tallystick.domains.lending.spans import Span, months_after, span_of
from tallystick.errors import Invalid
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session

LONGEST: Final = 120


class Measure(StrEnum):
    """What a vintage curve shows, as a part of what was paid out."""

    LOSS = "loss"
    """Principal that was charged off or written off so far, each loan once, recoveries not deducted."""
    PAR1 = "par1"
    PAR30 = "par30"
    """Principal outstanding on loans more than 30 days past due; charged-off loans included, written-off ones not."""
    PAR60 = "par60"
    PAR90 = "par90"


class Vintage(Struct, frozen=True, kw_only=True):
    """The loans of an asset that were paid out in a span of the calendar.

    ``amounts`` and ``rates`` are by months on book: the first is at the end of the span, the next a month later. None
    is a month in which some of them were not on these books yet, because they were boarded later.
    """

    asset: str
    cohort: str
    start: date
    loans: int
    disbursed: Money
    amounts: tuple[Money | None, ...]

    @property
    def rates(self) -> tuple[Fraction | None, ...]:
        """The amounts as parts of what was paid out."""
        whole = self.disbursed.units
        return tuple(None if a is None else Fraction(a.units, whole) if whole else Fraction(0) for a in self.amounts)


class Vintages(Struct, frozen=True, kw_only=True):
    """Vintage curves as of a business date, oldest first; a span that has not ended has no months on book yet."""

    on: date
    by: Span
    measure: Measure
    curves: tuple[Vintage, ...]


_COHORT = "date_trunc('{span}', l.disbursed_on::timestamp)::date"
_COHORTS = """
SELECT l.asset, {cohort}, count(*), sum(CASE WHEN l.boarded THEN l.principal ELSE l.disbursed END),
  max(s.since) FILTER (WHERE l.boarded)
FROM tally.loan l
JOIN tally.loan_schedule s ON s.tenant_id = l.tenant_id AND s.loan_id = l.id AND s.edition = 1
WHERE l.tenant_id = $1 AND l.disbursed_on BETWEEN $2 AND $3
  AND l.status IN ('active', 'overpaid', 'closed', 'written_off')
GROUP BY 1, 2 ORDER BY 1, 2"""
# A loan is lost once: when it was charged off or, where that never happened, written off. One that was boarded after
# its charge-off has no transaction of it; what it still owes is what was lost.
_LOSSES = """
SELECT l.asset, {cohort}, least(l.charged_off_on, l.written_off_on),
  sum(coalesce(t.principal, l.principal_outstanding))
FROM tally.loan l LEFT JOIN LATERAL (
  SELECT t.principal FROM tally.loan_transaction t
  WHERE t.tenant_id = $1 AND t.loan_id = l.id AND t.kind IN ('charge_off', 'write_off')
    AND NOT EXISTS (SELECT FROM tally.loan_transaction r WHERE r.tenant_id = $1 AND r.reverses_id = t.id)
  ORDER BY t.effective, t.seq LIMIT 1
) t ON true
WHERE l.tenant_id = $1 AND l.disbursed_on BETWEEN $2 AND $3 AND least(l.charged_off_on, l.written_off_on) <= $3
GROUP BY 1, 2, 3"""


async def vintages(
    db: Session, on: date | None, by: Span | str, measure: Measure | str, *, since: date | None, months: int
) -> Vintages:
    """See ``Portfolio.vintages``."""
    span, wanted = span_of(by, Span.MONTH, Span.QUARTER, Span.YEAR), _measured(measure)
    day = db.today() if on is None else as_date(on, "on")
    first = date.min if since is None else as_date(since, "since")
    as_whole(months, "months", least=0, most=LONGEST)
    args = (db.tenant_id, span.start(first), day)
    cohort = _COHORT.format(span=span.value)
    found = await db.unit.call(_COHORTS.format(cohort=cohort), args)
    points = {
        (asset, start): [p for p in (months_after(span.end(start), n) for n in range(months + 1)) if p <= day]
        for asset, start, *_ in found
    }
    if wanted is Measure.LOSS:
        amounts = _running(await db.unit.call(_LOSSES.format(cohort=cohort), args), points)
    else:
        amounts = await _late(db, cohort, int(wanted.value.removeprefix("par")), points)
    curves = []
    for asset, start, loans, disbursed, boarded in found:
        from_on = boarded if boarded is not None and wanted is not Measure.LOSS else date.min
        curves.append(
            Vintage(
                asset=asset,
                cohort=span.label(start),
                start=start,
                loans=loans,
                disbursed=Money(int(disbursed), asset),
                amounts=tuple(
                    None if point < from_on else Money(amounts[asset, start, point], asset)
                    for point in points[asset, start]
                ),
            )
        )
    return Vintages(on=day, by=span, measure=wanted, curves=tuple(curves))


def _running(losses: list[Any], points: dict[tuple[str, date], list[date]]) -> dict[tuple[str, date, date], int]:
    """Losses up to each point of their cohort."""
    amounts: dict[tuple[str, date, date], int] = defaultdict(int)
    for asset, start, lost_on, principal in losses:
        for point in points.get((asset, start), ()):
            if lost_on <= point:
                amounts[asset, start, point] += int(principal)
    return amounts


async def _late(
    db: Session, cohort: str, threshold: int, points: dict[tuple[str, date], list[date]]
) -> dict[tuple[str, date, date], int]:
    """What was late at each point, by the same rows as portfolio at risk: one query a month."""
    amounts: dict[tuple[str, date, date], int] = defaultdict(int)
    for point in sorted({p for many in points.values() for p in many}):
        at = await frame(db, point)
        rows = await at.rows(
            f"SELECT l.asset, {cohort}, sum(l.principal) FROM loans l WHERE l.days >= {at.arg(first_day(threshold))} "
            "GROUP BY 1, 2"
        )
        for asset, start, principal in rows:
            amounts[asset, start, point] = int(principal)
    return amounts


def _measured(measure: Measure | str) -> Measure:
    found = next((m for m in Measure if isinstance(measure, str) and m.value == measure), None)
    if found is None:
        raise Invalid(
            "There is no such measure.", field="measure", remedy=f"Use {', '.join(m.value for m in Measure)}."
        )
    return found
