"""What the boarded Lending Club loans say, counted from the database and not from the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tallystick.domains.lending.books import Own, own_id
from tallystick.domains.lending.datasets.lending_club import AS_OF, ASSET, SOURCE, STATUSES
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.transactions import LoanTransaction, TransactionKind
from tallystick.money import Money
from tallystick.query import prefix

if TYPE_CHECKING:
    from tallystick.session import Session

_HALF_A_CENT = Decimal("0.005")
_LATE = (0, 30, 60, 90)


class Differs(msgspec.Struct, frozen=True, kw_only=True):
    """A row whose recorded installment is not the annuity of its amount, rate and term."""

    row: int
    installment: Money
    annuity: Money


class Late(msgspec.Struct, frozen=True, kw_only=True):
    """Loans more than so many days late on the day of boarding, and all the principal they owe."""

    days: int
    loans: int
    principal: Money


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The data set's published numbers, recomputed.

    ``statuses`` are the file's words, ``our_statuses`` what they became. ``balances_agree`` counts loans whose worth in
    the books and repaid principal make up the loan; ``payments_agree`` those whose parts are the file's total to the
    cent. ``books`` is the principal that the loans' accounts hold, ``principal`` what borrowers owe of it and of what
    is charged off.
    """

    loans: int
    statuses: Mapping[str, int]
    our_statuses: Mapping[str, int]
    groups: Mapping[str, Mapping[str, int]]
    annuities_agree: int
    differ: tuple[Differs, ...]
    balances_agree: int
    payments_agree: int
    with_late_fees: int
    below_the_cent: int
    late: tuple[Late, ...]
    principal: Money
    charged_off: Money
    books: Money
    accounts_agree: int
    balanced: bool


async def report(db: Session) -> Report:
    """Count the tenant's Lending Club loans."""
    paid = {t.loan.id: t async for t in db[LoanTransaction].stream(LoanTransaction.kind == TransactionKind.BOARDING)}
    trial = await db.ledger.trial_balance()
    worth = {line.account: line.debits - line.credits for line in trial.lines}
    tally = _Tally(paid, worth)
    async for loan in db.loans.stream(prefix(Loan.external_id, SOURCE)):
        tally.add(loan)
    return tally.report(balanced=trial.balanced)


class _Tally:
    def __init__(self, paid: Mapping[UUID, LoanTransaction], worth: Mapping[UUID, Money]) -> None:
        self.paid, self.worth = paid, worth
        self.statuses: Counter[str] = Counter()
        self.ours: Counter[str] = Counter()
        self.groups: Counter[tuple[str, str]] = Counter()
        self.counts: Counter[str] = Counter()
        self.late: Counter[int] = Counter()
        self.late_principal: Counter[int] = Counter()
        self.differ: list[Differs] = []
        self.principal = self.charged_off = self.books = 0

    def add(self, loan: Loan) -> None:
        told, zero = loan.details, Money.zero(ASSET)
        self.statuses[told["status"]] += 1
        self.ours[loan.status.value] += 1
        self.groups[told["application_type"], told["homeownership"].lower()] += 1
        recorded, annuity = (Money.of(told[name], ASSET) for name in ("installment", "annuity"))
        if recorded != annuity:
            self.differ.append(Differs(row=told["row"], installment=recorded, annuity=annuity))
        paid, worth = self.paid.get(loan.id), self.worth[own_id(loan.id, Own.PRINCIPAL)]
        repaid, total = (zero, zero) if paid is None else (paid.principal, paid.amount)
        self.counts["annuity"] += recorded == annuity
        self.counts["balance"] += worth + repaid == loan.principal
        self.counts["payment"] += abs(total.amount - Decimal(told["paid_total"])) <= _HALF_A_CENT
        self.counts["late fee"] += paid is not None and bool(paid.penalties)
        self.counts["below the cent"] += "below_the_cent" in told["flags"]
        owed = loan.principal_outstanding.units
        self.counts["account"] += worth.units == (0 if loan.charged_off_on else owed)
        self.principal += owed
        self.books += worth.units
        if loan.charged_off_on is not None:
            self.charged_off += owed
        days = 0 if loan.oldest_due is None else (AS_OF - loan.oldest_due).days
        for threshold in _LATE:
            if days > threshold:
                self.late[threshold] += 1
                self.late_principal[threshold] += owed

    def report(self, *, balanced: bool) -> Report:
        return Report(
            loans=sum(self.statuses.values()),
            statuses={name: self.statuses[name] for name in STATUSES},
            our_statuses=dict(sorted(self.ours.items())),
            groups={
                kind: {home: self.groups[kind, home] for home in ("mortgage", "own", "rent")}
                for kind in ("individual", "joint")
            },
            annuities_agree=self.counts["annuity"],
            differ=tuple(sorted(self.differ, key=lambda one: one.row)),
            balances_agree=self.counts["balance"],
            payments_agree=self.counts["payment"],
            with_late_fees=self.counts["late fee"],
            below_the_cent=self.counts["below the cent"],
            late=tuple(
                Late(days=days, loans=self.late[days], principal=Money(self.late_principal[days], ASSET))
                for days in _LATE
            ),
            principal=Money(self.principal, ASSET),
            charged_off=Money(self.charged_off, ASSET),
            books=Money(self.books, ASSET),
            accounts_agree=self.counts["account"],
            balanced=balanced,
        )
