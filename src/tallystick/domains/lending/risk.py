"""Portfolio at risk: the whole balance of loans that are late, beside the whole portfolio."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from msgspec import Struct

from tallystick.domains.lending.checks import as_whole
from tallystick.domains.lending.lateness import frame
from tallystick.errors import Invalid
from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session

THRESHOLDS: Final = (1, 30, 60, 90)
_MOST: Final = 20
_LABELS: Final = {
    "community": (
        "community_id",
        "SELECT c.id, c.slug FROM tally.community c WHERE c.tenant_id = $1 AND c.id = ANY ($2::uuid[])",
    ),
    "product": (
        "product_id",
        "SELECT p.id, p.code FROM tally.loan_product p WHERE p.tenant_id = $1 AND p.id = ANY ($2::uuid[])",
    ),
}


class Held(Struct, frozen=True, kw_only=True):
    """So many loans, and the principal that is outstanding on them."""

    loans: int
    principal: Money


class AtRisk(Struct, frozen=True, kw_only=True):
    """What is at risk beyond a threshold of days.

    ``late`` are the loans past due for longer; ``restructured`` those that are not and whose schedule was rescheduled,
    re-aged or re-amortized. ``loans`` and ``principal`` are both together, ``ratio`` their part of the portfolio.
    """

    threshold: int
    loans: int
    principal: Money
    late: Held
    restructured: Held
    ratio: Fraction


class Risk(Struct, frozen=True, kw_only=True):
    """The portfolio of an asset, or of one group in it, and what of it is at risk."""

    asset: str
    group: str | None
    portfolio: Held
    at_risk: tuple[AtRisk, ...]
    restructured: Held
    charged_off: Held


class PortfolioAtRisk(Struct, frozen=True, kw_only=True):
    """Portfolio at risk as of a business date: one ``Risk`` an asset and group, assets never added up."""

    on: date
    thresholds: tuple[int, ...]
    by: str | None
    lines: tuple[Risk, ...]

    def of(self, asset: str, group: str | None = None) -> Risk | None:
        """The line of an asset and group, None where nothing is outstanding."""
        return next((line for line in self.lines if (line.asset, line.group) == (asset, group)), None)


async def portfolio_at_risk(db: Session, on: date | None, thresholds: Sequence[int], by: str | None) -> PortfolioAtRisk:
    """See ``Portfolio.par``."""
    steps = _checked(thresholds)
    if by is not None and (not isinstance(by, str) or by not in _LABELS):
        raise Invalid("The portfolio is not grouped by that.", field="by", remedy=f"Use {' or '.join(_LABELS)}.")
    at = await frame(db, on)
    column, label = ("NULL::uuid", "") if by is None else _LABELS[by]
    band = f"width_bucket(days, {at.arg([first_day(s) for s in steps])}::int[])"
    rows = await at.rows(
        f"SELECT asset, {column} AS part, CASE WHEN since IS NULL THEN 0 ELSE {band} END AS band, restructured, "
        "charged_off, count(*), sum(principal) FROM loans GROUP BY 1, 2, 3, 4, 5"
    )
    names = await _named(db, label, {row[1] for row in rows}) if by is not None else {}
    cells: dict[tuple[str, str | None], list[Any]] = defaultdict(list)
    for row in rows:
        cells[row[0], names.get(row[1])].append(row)
    lines = [_line(asset, group, found, steps) for (asset, group), found in cells.items()]
    lines.sort(key=lambda line: (line.asset, line.group is None, line.group or ""))
    return PortfolioAtRisk(on=at.on, thresholds=steps, by=by, lines=tuple(lines))


def first_day(threshold: int) -> int:
    """The first day past due that is beyond a threshold: any day for 1, else the day after it."""
    return 1 if threshold == 1 else threshold + 1


def _line(asset: str, group: str | None, rows: list[Any], steps: tuple[int, ...]) -> Risk:
    def held(*kept: Any) -> Held:
        return Held(loans=sum(r[5] for r in kept), principal=Money(sum(int(r[6]) for r in kept), asset))

    whole, at_risk = held(*rows), []
    for place, step in enumerate(steps, 1):
        late = held(*(r for r in rows if r[2] >= place))
        eased = held(*(r for r in rows if r[2] < place and r[3]))
        principal = late.principal + eased.principal
        ratio = Fraction(principal.units, whole.principal.units) if whole.principal else Fraction(0)
        at_risk.append(
            AtRisk(
                threshold=step,
                loans=late.loans + eased.loans,
                principal=principal,
                late=late,
                restructured=eased,
                ratio=ratio,
            )
        )
    return Risk(
        asset=asset,
        group=group,
        portfolio=whole,
        at_risk=tuple(at_risk),
        restructured=held(*(r for r in rows if r[3])),
        charged_off=held(*(r for r in rows if r[4])),
    )


async def _named(db: Session, label: str, ids: set[UUID | None]) -> dict[UUID | None, str | None]:
    rows = await db.unit.call(label, (db.tenant_id, [id for id in ids if id is not None]))
    return {row[0]: row[1] for row in rows}


def _checked(thresholds: Sequence[int]) -> tuple[int, ...]:
    given = tuple(thresholds) if isinstance(thresholds, (tuple, list)) else ()
    steps = tuple(as_whole(step, "thresholds", least=1, most=36_600) for step in given)
    if not 1 <= len(steps) <= _MOST or list(steps) != sorted(set(steps)):
        raise Invalid(
            f"Thresholds are 1 to {_MOST} numbers of days in ascending order.",
            field="thresholds",
            remedy="Write (1, 30, 60, 90).",
        )
    return steps
