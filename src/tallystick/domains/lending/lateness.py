"""How late loans are as of a business date, as SQL that every report of the portfolio starts from.

For today and later it reads the totals that the database keeps; for a past date it adds up what was effective by then:
the version of the schedule in force, the charges made and the money allocated. Both answer the same rows, so a report
is written once.

Days past due are days since the due date with which what is unpaid passes the product's tolerance, less its grace, less
the days of pauses after that due date. Each of the three costs something only where a product or a loan has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from tallystick.assets import asset as find_asset
from tallystick.domains.lending.checks import as_date

if TYPE_CHECKING:
    from tallystick.session import Session

RESTRUCTURED: Final = "('reschedule', 'reage', 'reamortize')"
"""Reasons of schedule versions that make a loan count as restructured."""
COMPONENTS: Final = ("principal", "interest", "fees", "penalties")

_SPECIAL = f"""
SELECT p.id, p.asset, coalesce((p.servicing->>'arrears_grace_days')::int, 0),
  coalesce((p.servicing->>'arrears_tolerance')::numeric, 0), false, false
FROM tally.loan_product p WHERE p.tenant_id = $1
  AND (coalesce((p.servicing->>'arrears_grace_days')::int, 0) > 0
    OR coalesce((p.servicing->>'arrears_tolerance')::numeric, 0) > 0)
UNION ALL
SELECT NULL, NULL, 0, 0,
  EXISTS (SELECT FROM tally.delinquency_pause d WHERE d.tenant_id = $1 AND d.starts_on <= $2),
  EXISTS (SELECT FROM tally.loan_schedule s WHERE s.tenant_id = $1 AND s.reason IN {RESTRUCTURED} AND s.since <= $2)
"""

_LEFT: Final[Mapping[str, str]] = {
    "principal": "i.principal - i.principal_paid - i.principal_written_off",
    **{c: f"i.{c} - i.{c}_paid - i.{c}_waived - i.{c}_written_off" for c in COMPONENTS[1:]},
}
_TOTAL = " + ".join(COMPONENTS)
_LEFT_NOW = ", ".join(f"{sql} AS {name}" for name, sql in _LEFT.items())
_COLUMNS = ", ".join(f"{{0}}{c}" for c in COMPONENTS)
_SUMS = ", ".join(f"greatest(0, sum(x.{c}))::bigint AS {c}" for c in COMPONENTS)

# What is unsettled of installments that are due by the date, from what the database keeps.
_OWED_NOW = f"""
owed AS (
  SELECT o.*, {_TOTAL} AS total FROM (
    SELECT i.loan_id, i.seq, i.due, {_LEFT_NOW}
    FROM tally.loan_installment i
    WHERE i.tenant_id = $1 AND i.current AND i.settled_on IS NULL AND i.due <= $2{{installment}}
  ) o WHERE {_TOTAL} > 0
)"""

_SINCE_PLAIN = "CASE WHEN l.oldest_due < $2 THEN l.oldest_due END"
_SINCE_NOW = """CASE WHEN l.oldest_due >= $2 THEN NULL WHEN k.tolerance IS NULL THEN l.oldest_due ELSE (
    SELECT min(o.due) FROM (
      SELECT i.due, sum({left}) OVER (ORDER BY i.due, i.seq) AS unpaid FROM tally.loan_installment i
      WHERE i.tenant_id = $1 AND i.loan_id = l.id AND i.current AND i.due < $2
    ) o WHERE o.unpaid > k.tolerance) END""".format(left=" + ".join(_LEFT.values()))

_LOANS_NOW = """
loans AS (
  SELECT p.*, {days} AS days FROM (
    SELECT l.id, l.number, l.borrower_id, l.product_id, l.community_id, l.disbursed_on, l.asset,
      l.principal_outstanding AS principal, l.outstanding, l.oldest_due,
      l.charged_off_on IS NOT NULL AS charged_off, {restructured} AS restructured, {since} AS since, {grace} AS grace
    FROM tally.loan l {rules}{versions}WHERE l.tenant_id = $1 AND l.status = 'active'{loan}
  ) p
)"""

# The same from history. Where today's version of the schedule was in force, it is what is left today, with what was
# allocated later put back and what was charged later taken out; an installment that was settled by then is not looked
# at. Where an earlier version was, it is added up from its dues, and what was taken back since never was. It is one sum
# and no join of large sets, so that no wrong estimate can make it quadratic.
_HISTORY = f"""
version AS (
  SELECT DISTINCT ON (s.loan_id) s.loan_id, s.id, s.current, {{tolerance}} AS tolerance
  FROM tally.loan_schedule s{{tolerances}}
  WHERE s.tenant_id = $1 AND s.since <= $2{{schedule}} ORDER BY s.loan_id, s.edition DESC
),
unsettled AS (
  SELECT o.*, {_TOTAL} AS total FROM (
    SELECT x.loan_id, max(x.seq) AS seq, max(x.due) AS due, max(x.tolerance) AS tolerance, {_SUMS} FROM (
      SELECT i.loan_id, i.id, i.seq, i.due, v.tolerance, {_LEFT_NOW} FROM version v
      JOIN tally.loan_installment i ON i.tenant_id = $1 AND i.schedule_id = v.id
      WHERE v.current AND i.current AND (i.settled_on IS NULL OR i.settled_on > $2){{installment}}
      UNION ALL
      SELECT a.loan_id, a.installment_id, NULL, NULL, NULL, {_COLUMNS.format("a.")} FROM version v
      JOIN tally.loan_allocation a ON a.tenant_id = $1 AND a.loan_id = v.loan_id AND a.schedule_id = v.id
      WHERE v.current AND a.effective > $2 AND a.installment_id IS NOT NULL{{allocation}}
      UNION ALL
      SELECT i.loan_id, i.id, i.seq, i.due, v.tolerance, {_COLUMNS.format("i.")} FROM version v
      JOIN tally.loan_installment i ON i.tenant_id = $1 AND i.schedule_id = v.id
      WHERE NOT v.current{{installment}}
      UNION ALL
      SELECT a.loan_id, a.installment_id, NULL, NULL, NULL, {_COLUMNS.format("-a.")} FROM version v
      JOIN tally.loan_allocation a ON a.tenant_id = $1 AND a.loan_id = v.loan_id AND a.schedule_id = v.id
      WHERE NOT v.current AND a.effective <= $2 AND a.installment_id IS NOT NULL{{allocation}}
        AND a.transaction_id NOT IN (SELECT t.reverses_id FROM tally.loan_transaction t
          WHERE t.tenant_id = $1 AND t.reverses_id IS NOT NULL{{reversal}})
      UNION ALL
      SELECT c.loan_id, c.installment_id, NULL, NULL, NULL, CASE c.kind WHEN 'chargeback' THEN -c.amount ELSE 0 END, 0,
        CASE c.kind WHEN 'fee' THEN -c.amount ELSE 0 END, CASE c.kind WHEN 'penalty' THEN -c.amount ELSE 0 END
      FROM tally.loan_charge c WHERE c.tenant_id = $1 AND c.effective > $2{{charge}}
    ) x GROUP BY x.loan_id, x.id HAVING max(x.due) IS NOT NULL
  ) o WHERE {_TOTAL} > 0
),
owed AS (SELECT * FROM unsettled WHERE due <= $2),
balance AS MATERIALIZED (
  SELECT u.loan_id, sum(u.principal)::bigint AS principal, sum(u.total)::bigint AS outstanding,
    min(u.due) AS oldest_due, min(u.due) FILTER (WHERE u.due < $2{{passed}}) AS since
  FROM {{balances}} u GROUP BY u.loan_id
)"""

_LOANS_THEN = """
loans AS (
  SELECT p.*, {days} AS days FROM (
    SELECT l.id, l.number, l.borrower_id, l.product_id, l.community_id, l.disbursed_on, l.asset, u.principal,
      u.outstanding, u.oldest_due, coalesce(l.charged_off_on <= $2, false) AS charged_off,
      {restructured} AS restructured, u.since, {grace} AS grace
    FROM balance u JOIN tally.loan l ON l.id = u.loan_id {rules}{versions}
    WHERE l.tenant_id = $1 AND l.status IN ('active', 'overpaid', 'closed', 'written_off')
      AND (l.written_off_on IS NULL OR l.written_off_on > $2){loan}
  ) p
)"""
_RUNNING = "(SELECT x.*, sum(x.total) OVER (PARTITION BY x.loan_id ORDER BY x.due, x.seq) AS unpaid FROM unsettled x)"
_PASSED = " AND u.unpaid > coalesce(u.tolerance, 0)"
_TOLERANCES = """ JOIN tally.loan m ON m.tenant_id = $1 AND m.id = s.loan_id
  LEFT JOIN unnest({ids}::uuid[], {tolerances}::bigint[]) e (product_id, tolerance) ON e.product_id = m.product_id"""

_RULES = (
    "LEFT JOIN unnest({ids}::uuid[], {graces}::int[], {tolerances}::bigint[]) k (product_id, grace, tolerance) "
    "ON k.product_id = l.product_id "
)
_VERSIONS = f"""LEFT JOIN (SELECT DISTINCT s.loan_id FROM tally.loan_schedule s
      WHERE s.tenant_id = $1 AND s.reason IN {RESTRUCTURED} AND s.since <= $2) r ON r.loan_id = l.id """


class Frame:
    """The rows that a report selects from, as of a date: ``WITH {frame.tables} SELECT ... FROM loans``.

    ``loans`` are the loans that owed something and were not written off: id, number, borrower_id, product_id,
    community_id, disbursed_on, asset, principal, outstanding, oldest_due, charged_off, restructured, since and days.
    ``owed`` are unsettled installments due by the date, that day included: loan_id, seq, due, components and total.
    ``$1`` is the tenant and ``$2`` the date; ``arg`` adds more.
    """

    __slots__ = ("_db", "args", "on", "paused", "tables")

    def __init__(self, db: Session, on: date, special: Sequence[Any], loan: UUID | None) -> None:
        self._db, self.on, self.args = db, on, [db.tenant_id, on]
        rules = [row for row in special if row[0] is not None]
        *_, self.paused, restructured = next(row for row in special if row[0] is None)
        one = "" if loan is None else f" AND {{}} = {self.arg(loan)}"
        bound = (
            {
                "ids": self.arg([row[0] for row in rules]),
                "graces": self.arg([row[2] for row in rules]),
                "tolerances": self.arg([_units(row[3], row[1]) or None for row in rules]),
            }
            if rules
            else {}
        )
        parts = {
            "rules": _RULES.format(**bound) if rules else "",
            "grace": "coalesce(k.grace, 0)" if rules else "0",
            "versions": _VERSIONS if restructured else "",
            "restructured": "r.loan_id IS NOT NULL" if restructured else "false",
            "days": f"CASE WHEN p.since IS NULL THEN 0 ELSE greatest(0, {self.age('p.id', 'p.since')} - p.grace) END",
            "loan": one.format("l.id"),
        }
        tolerant = any(row[3] for row in rules)
        if on < db.today():
            names = {"schedule": "s", "installment": "i", "allocation": "a", "reversal": "t", "charge": "c"}
            tables = _HISTORY.format(
                **{name: one.format(f"{table}.loan_id") for name, table in names.items()},
                tolerance="e.tolerance" if tolerant else "NULL::bigint",
                tolerances=_TOLERANCES.format(**bound) if tolerant else "",
                passed=_PASSED if tolerant else "",
                balances=_RUNNING if tolerant else "unsettled",
            )
            loans = _LOANS_THEN.format(**parts)
        else:
            tables = _OWED_NOW.format(installment=one.format("i.loan_id"))
            loans = _LOANS_NOW.format(**parts, since=_SINCE_NOW if tolerant else _SINCE_PLAIN)
        self.tables = f"{tables},{loans}"

    def arg(self, value: Any) -> str:
        """Bind a value; answers its placeholder."""
        self.args.append(value)
        return f"${len(self.args)}"

    def age(self, loan: str, due: str) -> str:
        """SQL for the days since a due date that is before the date, those of pauses left out."""
        days = f"$2::date - {due}"
        if not self.paused:
            return days
        return (
            f"({days} - coalesce((SELECT sum(least(d.ends_on, $2) - greatest(d.starts_on, {due} + 1) + 1) "
            f"FROM tally.delinquency_pause d WHERE d.tenant_id = $1 AND d.loan_id = {loan} "
            f"AND d.starts_on <= $2 AND d.ends_on > {due}), 0))::int"
        )

    async def rows(self, select: str) -> list[Any]:
        """What a SELECT over the frame's rows answers."""
        return await self._db.unit.call(f"WITH {self.tables} {select}", self.args)


def _units(tolerance: Decimal, asset: str) -> int:
    """Whole units as minor ones; what is finer than the asset is left out, as it can never be unpaid."""
    return int(tolerance.scaleb(find_asset(asset).exponent))


async def frame(db: Session, on: date | None = None, *, loan: UUID | None = None) -> Frame:
    """The frame of a date, today unless given; of one loan where one is named. Raises ``Invalid`` for no date."""
    day = db.today() if on is None else as_date(on, "on")
    return Frame(db, day, await db.unit.call(_SPECIAL, (db.tenant_id, day)), loan)
