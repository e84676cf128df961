"""Writing boarded loans: a few statements for all of them, in the order that the database's triggers want."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from tallystick.codec import codec_of
from tallystick.domains.identity.users import user_id
from tallystick.domains.ledger.accounts import Account
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.ledger.posting import Draft, Written, journal_of, write
from tallystick.domains.ledger.transfers import MOST_TRANSFERS, Leg
from tallystick.domains.lending import numbers
from tallystick.domains.lending.boarded_checks import Checked, community_of
from tallystick.domains.lending.boarded_plan import Amounts
from tallystick.domains.lending.books import Book, Own, book_id, own_account, own_id
from tallystick.domains.lending.checks import as_fraction
from tallystick.domains.lending.installments import LoanInstallment, LoanSchedule, ScheduleReason
from tallystick.domains.lending.loans import Loan, LoanStatus
from tallystick.domains.lending.transactions import LoanAllocation, LoanTransaction, Settlement, TransactionKind
from tallystick.entity import Entity, spec_of
from tallystick.fields import Ref
from tallystick.money import Money
from tallystick.query import one_of

if TYPE_CHECKING:
    from tallystick.session import Session

_NONE: Amounts = (0, 0, 0, 0)


class _Parts(NamedTuple):
    principal: Money
    interest: Money
    fees: Money
    penalties: Money


@dataclass(slots=True)
class _Rows:
    """Everything that is written, by table."""

    loans: list[Loan] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    schedules: list[LoanSchedule] = field(default_factory=list)
    installments: list[LoanInstallment] = field(default_factory=list)
    journals: list[Written] = field(default_factory=list)
    transactions: list[LoanTransaction] = field(default_factory=list)
    allocations: list[LoanAllocation] = field(default_factory=list)


_TOGETHER = 300
"""Loans a statement: triggers look up all rows of a statement, and a planner without statistics may look them up the
long way, which is quadratic."""


async def write_all(db: Session, checked: Sequence[Checked]) -> tuple[UUID, ...]:
    """Store checked loans; answers their ids. Needs an open transaction."""
    taken = list(await _numbers(db, checked))
    ids: list[UUID] = []
    for start in range(0, len(checked), _TOGETHER):
        ids += await _write(db, checked[start : start + _TOGETHER], taken[start : start + _TOGETHER])
    return tuple(ids)


async def _write(db: Session, checked: Sequence[Checked], taken: Sequence[int]) -> list[UUID]:
    rows = _Rows()
    for one, number in zip(checked, taken, strict=True):
        _Maker(db, one, number, rows).make()
    ids = [loan.id for loan in rows.loans]
    await _add(db, rows.loans)
    await _add(db, rows.accounts)
    for start in range(0, len(rows.journals), MOST_TRANSFERS):
        await write(db, rows.journals[start : start + MOST_TRANSFERS])
    await _add(db, rows.schedules)
    await _add(db, rows.installments)
    await _add(db, rows.transactions)
    await _to_status(db, rows, checked, ids)
    await _add(db, rows.allocations)
    return ids


async def _add(db: Session, entities: Sequence[Entity]) -> None:
    """Store entities as ``add_many`` does, without making each of them anew as it is stored: nobody looks at them."""
    if entities:
        codec = codec_of(spec_of(type(entities[0])))
        await db.unit.insert_many(codec, [codec.encode(e, db.tenant_id, db.sealer) for e in entities])


async def _numbers(db: Session, checked: Sequence[Checked]) -> Iterator[int]:
    """The numbers that loans bring with them, and new ones for the others."""
    given = [one.given.number for one in checked]
    own = [number for number in given if number is not None]
    if own:
        await numbers.keep(db, max(own))
    fresh = iter(await numbers.take(db, len(given) - len(own)) if len(own) < len(given) else ())
    return (next(fresh) if number is None else number for number in given)


async def _to_status(db: Session, rows: _Rows, checked: Sequence[Checked], ids: Sequence[UUID]) -> None:
    """Walk the state machine. From "active" on the database goes on by itself, when the allocations are there."""
    await db[Loan].update_where(one_of(Loan.id, list(ids)), status=LoanStatus.ACTIVE)
    days: dict[date, list[UUID]] = {}
    for one, id in zip(checked, ids, strict=True):
        if one.given.written_off_on is not None:
            days.setdefault(one.given.written_off_on, []).append(id)
    for day, lost in days.items():
        await db[Loan].update_where(one_of(Loan.id, lost), status=LoanStatus.WRITTEN_OFF, written_off_on=day)


class _Maker:
    """Makes the rows of one loan."""

    def __init__(self, db: Session, one: Checked, number: int, rows: _Rows) -> None:
        self.db, self.one, self.rows = db, one, rows
        self.asset = one.product.asset
        self.zero = Money.zero(self.asset)
        self.loan = self._loan(number)
        self.plan = LoanSchedule(loan=self.loan.ref, edition=1, reason=ScheduleReason.BOARDED, since=one.on)
        self.installments = self.transactions = 0

    def make(self) -> None:
        """Add them to what is written."""
        one, rows, loan = self.one, self.rows, self.loan
        rows.loans.append(loan)
        rows.schedules.append(self.plan)
        for own in (Own.PRINCIPAL, Own.OVERPAID):
            rows.accounts.append(own_account(loan.id, loan.number, own, self.asset))
        journal = self._journal()
        self._transaction(TransactionKind.DISBURSEMENT, one.given.disbursed_on, (one.principal, 0, 0, 0), 0, journal)
        self._settle()
        left = [self._installment(row.start, row.due, row.amounts) for row in one.rows]
        owed = one.owed
        if one.given.charged_off_on is not None:
            self._transaction(TransactionKind.CHARGE_OFF, one.given.charged_off_on, owed, 0, None)
        if one.given.written_off_on is not None:
            lost = self._transaction(TransactionKind.WRITE_OFF, one.given.written_off_on, owed, 0, None)
            for installment, row in zip(left, one.rows, strict=True):
                self._allocate(lost, installment, row.amounts, 0, Settlement.WRITTEN_OFF)

    def _loan(self, number: int) -> Loan:
        one, given = self.one, self.one.given
        community = community_of(given)
        exact = as_fraction(given.annual_rate, "annual_rate")
        return Loan(
            number=number,
            borrower=Ref(user_id(given.borrower, "borrower")),
            product=one.product.ref,
            community=None if community is None else Ref(community),
            external_id=given.external_id,
            purpose=given.purpose,
            principal=self._money(one.principal),
            annual_rate=Decimal(exact.numerator) / Decimal(exact.denominator),
            installments=given.installments,
            status=LoanStatus.APPROVED,
            status_reason=given.reason,
            requested_on=given.disbursed_on,
            approved_on=given.disbursed_on,
            disbursed_on=given.disbursed_on,
            matures_on=one.rows[-1].due if one.rows else one.paid_on,
            charged_off_on=given.charged_off_on,
            fraud=given.fraud,
            boarded=True,
            details=dict(given.details),
        )

    def _journal(self) -> Ref[Journal] | None:
        """The opening balance: what of the loan has worth in the books, or what is owed to the borrower."""
        one, given = self.one, self.one.given
        opening = book_id(self.db, Book.OPENING, self.asset)
        principal = one.owed[0]
        if given.written_off_on is None and given.charged_off_on is None and principal:
            leg = Leg(own_id(self.loan.id, Own.PRINCIPAL), opening, self._money(principal))
        elif one.overpaid:
            leg = Leg(opening, own_id(self.loan.id, Own.OVERPAID), self._money(one.overpaid))
        else:
            return None
        written = journal_of(self.db, Draft(legs=(leg,), op="loan.boarding", on=one.on, source=("loan", self.loan.id)))
        self.rows.journals.append(written)
        return written[0].ref

    def _settle(self) -> None:
        """One settled installment for all that had been paid, due on the day by which it was."""
        one = self.one
        if any(one.paid) or one.overpaid:
            paid = self._transaction(TransactionKind.BOARDING, one.paid_on, one.paid, one.overpaid, None)
            if any(one.paid):
                installment = self._installment(one.given.disbursed_on, one.paid_on, one.paid)
                self._allocate(paid, installment, one.paid, 0)
            if one.overpaid:
                self._allocate(paid, None, _NONE, one.overpaid)

    def _transaction(
        self,
        kind: TransactionKind,
        on: date,
        parts: Amounts,
        overpaid: int,
        journal: Ref[Journal] | None,
    ) -> LoanTransaction:
        self.transactions += 1
        made = LoanTransaction(
            loan=self.loan.ref,
            seq=self.transactions,
            kind=kind,
            effective=on,
            amount=self._money(sum(parts) + overpaid),
            overpaid=self._money(overpaid),
            journal=journal,
            **self._parts(parts)._asdict(),
        )
        self.rows.transactions.append(made)
        return made

    def _installment(self, start: date, due: date, amounts: Amounts) -> LoanInstallment:
        self.installments += 1
        principal, interest, fees, penalties = self._parts(amounts)
        made = LoanInstallment(
            loan=self.loan.ref,
            schedule=self.plan.ref,
            seq=self.installments,
            start=start,
            due=due,
            principal=principal,
            interest=interest,
            fees=fees,
            penalties=penalties,
        )
        self.rows.installments.append(made)
        return made

    def _allocate(
        self,
        transaction: LoanTransaction,
        installment: LoanInstallment | None,
        amounts: Amounts,
        overpaid: int,
        settlement: Settlement = Settlement.PAID,
    ) -> None:
        principal, interest, fees, penalties = self._parts(amounts)
        self.rows.allocations.append(
            LoanAllocation(
                loan=self.loan.ref,
                schedule=self.plan.ref,
                transaction=transaction.ref,
                cause=transaction.ref,
                effective=transaction.effective,
                installment=None if installment is None else installment.ref,
                settlement=settlement,
                principal=principal,
                interest=interest,
                fees=fees,
                penalties=penalties,
                overpaid=self._money(overpaid),
            )
        )

    def _parts(self, amounts: Amounts) -> _Parts:
        principal, interest, fees, penalties = amounts
        return _Parts(self._money(principal), self._money(interest), self._money(fees), self._money(penalties))

    def _money(self, units: int) -> Money:
        return Money(units, self.asset) if units else self.zero
