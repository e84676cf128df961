"""What the books say: balances now and as of a date, the trial balance, an account's statement."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tallystick.codec import codec_of
from tallystick.domains.ledger.accounts import Account, AccountKind, net_of
from tallystick.domains.ledger.transfers import Phase, Transfer
from tallystick.entity import spec_of
from tallystick.errors import Invalid, NotFound
from tallystick.money import Money
from tallystick.page import MAX_LIMIT, Page, fingerprint, read_cursor, write_cursor
from tallystick.query import any_of, orders

if TYPE_CHECKING:
    from tallystick.session import Session

_SUMS = ("debits", "credits", "debits_pending", "credits_pending")
_NOW = (
    "SELECT a.id, a.code, a.kind, a.asset, "
    + ", ".join(f"a.{s} + coalesce(s.{s}, 0)" for s in _SUMS)
    + " FROM tally.account a LEFT JOIN (SELECT tenant_id, account_id, "
    + ", ".join(f"sum({s}) AS {s}" for s in _SUMS)
    + " FROM tally.account_stripe WHERE tenant_id = $1{stripe} GROUP BY tenant_id, account_id) s "
    "ON s.tenant_id = a.tenant_id AND s.account_id = a.id WHERE a.tenant_id = $1{account} ORDER BY a.code"
)
_SIDE = (
    "SELECT t.tenant_id, t.{side}_id AS account_id, "
    "CASE WHEN t.phase IN ('posted', 'post') THEN t.amount ELSE 0 END AS {side}, 0 AS {other}, "
    "CASE t.phase WHEN 'pending' THEN t.amount WHEN 'posted' THEN 0 ELSE -p.amount END AS {side}_pending, "
    "0 AS {other}_pending FROM tally.transfer t "
    "JOIN tally.journal j ON j.tenant_id = t.tenant_id AND j.id = t.journal_id "
    "LEFT JOIN tally.transfer p ON p.tenant_id = t.tenant_id AND p.id = t.resolves_id "
    "WHERE t.tenant_id = $1 AND j.effective <= $2{account}"
)


def _then(account: str) -> str:
    sides = [
        _SIDE.format(side=side, other=other, account=f" AND t.{side}_id = {account}" if account else "")
        for side, other in (("debit", "credit"), ("credit", "debit"))
    ]
    plural = ", ".join(f"coalesce(sum({s.replace('debits', 'debit').replace('credits', 'credit')}), 0)" for s in _SUMS)
    by_side = "tenant_id, account_id, debit, credit, debit_pending, credit_pending"
    moved = " UNION ALL ".join(f"SELECT {by_side} FROM ({side}) x" for side in sides)
    where = f" AND a.id = {account}" if account else ""
    return (
        f"SELECT a.id, a.code, a.kind, a.asset, {plural} FROM tally.account a LEFT JOIN ({moved}) m "
        f"ON m.tenant_id = a.tenant_id AND m.account_id = a.id WHERE a.tenant_id = $1{where} "
        "GROUP BY a.id, a.code, a.kind, a.asset ORDER BY a.code"
    )


BALANCES_NOW = _NOW.format(stripe="", account="")
BALANCE_NOW = _NOW.format(stripe=" AND account_id = $2", account=" AND a.id = $2")
BALANCES_THEN = _then("")
BALANCE_THEN = _then("$3")


class Balances(msgspec.Struct, frozen=True, kw_only=True):
    """The four totals of an account. What is pending is reserved and not yet in debits or credits."""

    account: UUID
    code: str
    kind: AccountKind
    debits: Money
    credits: Money
    debits_pending: Money
    credits_pending: Money

    @property
    def net(self) -> Money:
        """The balance on the account's normal side: debits less credits for assets and expenses, else the opposite."""
        return net_of(self.kind, self.debits.units, self.credits.units, self.debits.asset)


class TrialBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Every account with its totals, by code; ``on`` None means now, with what was not yet recorded left out."""

    lines: tuple[Balances, ...]
    on: date | None = None

    @property
    def totals(self) -> dict[str, tuple[Money, Money]]:
        """Debits and credits of each asset."""
        found: dict[str, tuple[Money, Money]] = {}
        for line in self.lines:
            zero = Money(0, line.debits.asset)
            debits, credits = found.get(zero.asset, (zero, zero))
            found[zero.asset] = (debits + line.debits, credits + line.credits)
        return found

    @property
    def balanced(self) -> bool:
        """Whether debits equal credits in every asset; the schema cannot express anything else."""
        return all(debits == credits for debits, credits in self.totals.values())


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer as an account sees it; ``change`` is positive on the account's normal side, zero while pending."""

    transfer: UUID
    journal: UUID
    effective: date
    recorded_at: datetime
    op: str
    description: str | None
    phase: Phase
    other: UUID
    debit: Money
    credit: Money
    change: Money


def _balances(row: Any) -> Balances:
    id, code, kind, asset, *sums = row
    amounts = dict(zip(_SUMS, (Money(int(s), asset) for s in sums), strict=True))
    return Balances(account=id, code=code, kind=AccountKind(kind), **amounts)


async def balances(db: Session, account: UUID, on: date | None) -> Balances:
    """The totals of one account, now or of everything effective up to a date."""
    if on is None:
        rows = await db.unit.call(BALANCE_NOW, (db.tenant_id, account))
    else:
        rows = await db.unit.call(BALANCE_THEN, (db.tenant_id, _day(on), account))
    if not rows:
        raise NotFound("No Account has this id.", entity="Account", id=account)
    return _balances(rows[0])


async def trial_balance(db: Session, on: date | None) -> TrialBalance:
    """The totals of every account in one snapshot."""
    if on is None:
        rows = await db.unit.call(BALANCES_NOW, (db.tenant_id,))
    else:
        rows = await db.unit.call(BALANCES_THEN, (db.tenant_id, _day(on)))
    return TrialBalance(lines=tuple(_balances(r) for r in rows), on=on)


_LINE = (
    "(SELECT t.id, t.journal_id, j.effective, t.created_at, j.op, j.description, t.phase, t.{other}_id, {debit}, "
    "t.amount FROM tally.transfer t JOIN tally.journal j ON j.tenant_id = t.tenant_id AND j.id = t.journal_id "
    "WHERE t.tenant_id = $1 AND t.{side}_id = $2{after} ORDER BY t.id LIMIT $3)"
)


def statement_sql(*, after: bool) -> str:
    """A page of an account's transfers: an ordered page of each side, merged."""
    sides = [
        _LINE.format(side=side, other=other, debit=debit, after=" AND t.id > $4" if after else "")
        for side, other, debit in (("debit", "credit", "true"), ("credit", "debit", "false"))
    ]
    return " UNION ALL ".join(sides) + " ORDER BY 1 LIMIT $3"


async def statement(db: Session, account: Account, after: str | None, limit: int) -> Page[Line]:
    """One page of the account's transfers, in the order they were recorded."""
    if limit.__class__ is not int or not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit should be between 1 and {MAX_LIMIT}.", field="limit", remedy="Follow `next` for more.")
    codec = codec_of(spec_of(Transfer))
    order = orders(codec.spec, None)
    side = [any_of(Transfer.debit == account.ref, Transfer.credit == account.ref)]
    mark = fingerprint(db.tenant_id, "statement", codec.query(side, order, db.sealer))
    args: list[Any] = [db.tenant_id, account.id, limit + 1]
    if after is not None:
        args += read_cursor(after, mark, order)
    rows = await db.unit.call(statement_sql(after=after is not None), args)
    lines = [_line(account, r) for r in rows[:limit]]
    return Page(items=lines, limit=limit, next=write_cursor(mark, (lines[-1].transfer,)) if len(rows) > limit else None)


def _line(account: Account, row: Any) -> Line:
    id, journal, effective, at, op, description, phase, other, is_debit, amount = row
    money, zero = Money(int(amount), account.asset), Money(0, account.asset)
    debit, credit = (money, zero) if is_debit else (zero, money)
    final = phase in (Phase.POSTED, Phase.POST)
    return Line(
        transfer=id,
        journal=journal,
        effective=effective,
        recorded_at=at,
        op=op,
        description=description,
        phase=Phase(phase),
        other=other,
        debit=debit,
        credit=credit,
        change=net_of(account.kind, debit.units, credit.units, account.asset) if final else zero,
    )


def _day(on: Any) -> date:
    if not isinstance(on, date) or isinstance(on, datetime):
        raise Invalid("A balance is as of a date.", field="on", remedy="Write date(2026, 1, 31).")
    return on
