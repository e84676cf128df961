"""Handing the books to a general ledger: final transfers as lines of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.money import Money

if TYPE_CHECKING:
    from tallystick.session import Session

HEADER = ("date", "journal", "line", "operation", "account", "debit", "credit", "asset", "recorded_at", "description")
_BATCH = 1_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ENTRIES = (
    "SELECT j.effective, j.id, t.seq, j.op, d.code, c.code, t.amount, t.asset, j.created_at, j.description "
    "FROM tally.journal j JOIN tally.transfer t ON t.tenant_id = j.tenant_id AND t.journal_id = j.id "
    "JOIN tally.account d ON d.tenant_id = t.tenant_id AND d.id = t.debit_id "
    "JOIN tally.account c ON c.tenant_id = t.tenant_id AND c.id = t.credit_id "
    "WHERE j.tenant_id = $1 AND j.effective BETWEEN $2 AND $3 AND t.phase IN ('posted', 'post') "
    "AND (j.effective, j.id, t.seq) > ($4, $5, $6) ORDER BY j.effective, j.id, t.seq LIMIT $7"
)
_FIRST = UUID(int=0)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One final transfer with the codes of its accounts."""

    effective: date
    journal: UUID
    seq: int
    op: str
    debit: str
    credit: str
    amount: Money
    recorded_at: datetime
    description: str | None


async def entries(db: Session, since: date, until: date) -> AsyncIterator[Entry]:
    """Every final transfer effective from ``since`` to ``until``, both included, in order of date, by keyset."""
    position: tuple[date, UUID, int] = (since, _FIRST, 0)
    while True:
        rows = await db.unit.call(_ENTRIES, (db.tenant_id, position[0], until, *position, _BATCH))
        for effective, journal, seq, op, debit, credit, amount, asset, at, description in rows:
            yield Entry(
                effective=effective,
                journal=journal,
                seq=seq,
                op=op,
                debit=debit,
                credit=credit,
                amount=Money(int(amount), asset),
                recorded_at=at,
                description=description,
            )
        if len(rows) < _BATCH:
            return
        position = (rows[-1][0], rows[-1][1], rows[-1][2])


def csv_lines(given: Iterable[Entry]) -> Iterator[str]:
    """Lines of CSV (RFC 4180), the header first: a debit and a credit line for each transfer, amounts in whole units.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    yield _csv(HEADER)
    for e in given:
        amount = str(e.amount.amount)
        shared = (e.amount.asset, e.recorded_at.isoformat(), _plain(e.description or ""))
        start = (e.effective.isoformat(), str(e.journal))
        yield _csv((*start, f"{e.seq}D", _plain(e.op), _plain(e.debit), amount, "", *shared))
        yield _csv((*start, f"{e.seq}C", _plain(e.op), _plain(e.credit), "", amount, *shared))


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv(values: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(values)
    return out.getvalue()
