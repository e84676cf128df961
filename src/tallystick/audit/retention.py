"""How long bodies of entries are kept, which months are past that, and how the owner changes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import asyncpg

from tallystick.errors import Invalid, TallystickError
from tallystick.schema.model import quote_name
from tallystick.stores.postgres.errors import FAILURES, translate

__all__ = ["ExpiredMonth", "Retention", "read_retention", "set_retention"]

MOST_MONTHS = 1_200


@dataclass(frozen=True, slots=True)
class ExpiredMonth:
    """A month that the policy keeps no longer: its first day, its entries, those not sealed yet, and its bytes.

    While entries wait for the sealer the month cannot be dropped.
    """

    month: date
    entries: int
    unsealed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Retention:
    """The policy: ``months`` that are kept whole, the legal ``basis`` in words, and what is past it, oldest first."""

    months: int
    basis: str
    expired: tuple[ExpiredMonth, ...]


async def read_retention(conn: asyncpg.Connection, months: int | None = None) -> Retention:
    """The policy and what is past it, or would be with another number of ``months``; nothing is changed.

    As the sealing role. Raises ``Invalid``, ``Unavailable``.
    """
    check_months(months)
    problem: Exception
    try:
        (rule,) = await conn.fetch("SELECT keep_months, basis FROM tally_audit.retention")
        rows = await conn.fetch(_EXPIRED, rule["keep_months"] if months is None else months)
    except FAILURES as caught:
        problem = caught
    else:
        return Retention(
            rule["keep_months"] if months is None else months,
            rule["basis"],
            tuple(ExpiredMonth(r["month"], r["entries"], r["unsealed"], r["bytes"]) for r in rows),
        )
    raise translate(problem)


async def set_retention(conn: asyncpg.Connection, owner: str, months: int, basis: str) -> None:
    """Change the policy, as the role ``owner``; the installation's own log says so. Raises ``Invalid``."""
    check_months(months)
    if not isinstance(basis, str) or not 1 <= len(basis.strip()) <= 500:
        raise Invalid(
            "Retention has a basis in words, of at most 500 characters.",
            field="basis",
            remedy="Name the law or the contract that says how long.",
        )
    problem: TallystickError
    try:
        async with conn.transaction():
            await conn.execute(f"SET LOCAL ROLE {quote_name(owner)}")
            await conn.execute("SELECT tally_audit.set_retention($1, $2)", months, basis.strip())
        return
    except FAILURES as caught:
        problem = translate(caught)
    raise problem


def check_months(months: int | None) -> None:
    """Raises ``Invalid`` for what is no number of months."""
    if months is not None and (months.__class__ is not int or not 1 <= months <= MOST_MONTHS):
        raise Invalid(
            f"Entries are kept for 1 to {MOST_MONTHS:,} months.", field="months", remedy="Ten years are 120 months."
        )


# The month itself is kept as well; see tally_audit.drop_bodies.
_EXPIRED = """
SELECT p.month, p.bytes, n.entries, n.unsealed
FROM tally_audit.partitions() p CROSS JOIN LATERAL (
  SELECT count(*) AS entries, count(*) FILTER (WHERE NOT EXISTS (
    SELECT FROM tally_audit.leaf l WHERE l.tenant_id = e.tenant_id AND l.seq = e.seq)) AS unsealed
  FROM tally_audit.entry e
  WHERE e.at >= p.month::timestamp AT TIME ZONE 'UTC'
    AND e.at < (p.month + interval '1 month') AT TIME ZONE 'UTC'
) n
WHERE (p.month + make_interval(months => $1::integer + 1)) AT TIME ZONE 'UTC' <= now() ORDER BY p.month
"""
