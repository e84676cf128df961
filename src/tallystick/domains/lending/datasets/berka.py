"""The 682 loans of the Czech bank of the PKDD'99 challenge, and its clients and accounts, boarded as they stand.

The files say whether a loan is in debt and not how much: without the bank's transactions nobody can tell. One
installment is the least it can be, so one is late where something is, and the loan is flagged.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

import msgspec

from tallystick.domains.identity.users import User, UserRole, UserStatus
from tallystick.domains.ledger.accounts import Account, AccountKind
from tallystick.domains.lending.boarding import Boarding
from tallystick.domains.lending.calendar import Frequency, add_months
from tallystick.domains.lending.datasets.berka_files import STATUSES, Bank, BankLoan, read
from tallystick.domains.lending.datasets.tables import cents
from tallystick.domains.lending.daycount import DayCount
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.terms import Amortization, EmiAdjustment, InterestCalc, InterestMethod, Terms
from tallystick.money import Money
from tallystick.query import one_of, prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallystick.session import Session

    Told = Callable[[int], None]

SOURCE: Final = "berka:"
"""What external ids begin with; the loan's id of the file follows."""
AS_OF: Final = date(1998, 12, 31)
"""The last day of the bank's data: every finished loan had ended by then, every running one ends later."""
ASSET: Final = "CZK"
PRODUCT: Final = "berka"
_FINISHED: Final = "AB"
IN_DEBT: Final = "BD"
_AT_ONCE: Final = 2_000
TERMS: Final = Terms(
    interest_method=InterestMethod.DECLINING_BALANCE,
    amortization=Amortization.EQUAL_INSTALLMENTS,
    interest_calc=InterestCalc.PER_PERIOD,
    day_count=DayCount.THIRTY_360,
    frequency=Frequency.MONTHS,
    emi_adjustment=EmiAdjustment.NONE,
)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading did: how many clients, accounts and loans of the files were new to the tenant."""

    records: int
    clients_added: int
    accounts_added: int
    added: int
    orders: int
    loan_orders: int
    loan_orders_without_loan: int


def boarding_of(loan: BankLoan, product: LoanProduct, borrower: UUID, woman: bool) -> Boarding:
    """A loan to be boarded: paid as it fell due until ``AS_OF``, but for the last installment where it is in debt.

    The bank's amount is payments times months, so it has its interest in it, and the rate here is zero.
    """
    due = [add_months(loan.paid_out, n) for n in range(1, loan.months + 1)]
    settled = sum(day <= AS_OF for day in due) - (loan.status in IN_DEBT)
    settled = max(0, loan.months - (loan.status in IN_DEBT) if loan.status in _FINISHED else settled)
    payment = cents(loan.payment, ASSET)
    owed = cents(loan.amount, ASSET) - payment * settled
    return Boarding(
        product=product,
        borrower=borrower,
        principal=cents(loan.amount, ASSET),
        principal_outstanding=owed,
        annual_rate=Decimal(0),
        installments=loan.months,
        disbursed_on=loan.paid_out,
        on=AS_OF,
        next_due=due[settled] if owed else None,
        installments_left=loan.months - settled if owed else None,
        installment=payment if owed else None,
        closed_on=None if owed else min(due[-1], AS_OF),
        external_id=f"{SOURCE}{loan.id}",
        details=_details(loan, woman),
    )


def _details(loan: BankLoan, woman: bool) -> dict[str, Any]:
    flags = {
        "arrears_not_in_file": loan.status in IN_DEBT,
        "payment_differs": loan.payment * loan.months != loan.amount,
        "no_standing_order": loan.order is None,
    }
    return {
        "source": "PKDD'99 (Berka)",
        "status": loan.status,
        "status_text": STATUSES[loan.status],
        "account": loan.account,
        "district": loan.district,
        "payment": str(loan.payment),
        "joint_holders": len(loan.holders),
        "monitoring": {"sex": "female" if woman else "male"},
        "standing_order": None if loan.order is None else {"order": loan.order.id, "amount": str(loan.order.amount)},
        "flags": [name for name, raised in flags.items() if raised],
    }


async def load(db: Session, path: Path, told: Told | None = None) -> Loaded:
    """Store the clients, accounts and loans of the files that the tenant does not have yet, all or none.

    Clients become users without a name, their accounts deposit accounts without a balance, since what was on them is
    not in the files. Needs the permission "loans.board". Raises ``Invalid`` for a damaged file.
    """
    bank = read(path)
    async with db.transaction():
        clients = await _clients(db, bank)
        accounts = await _accounts(db, bank)
        known = {loan.external_id async for loan in db.loans.stream(prefix(Loan.external_id, SOURCE))}
        fresh = [loan for loan in bank.loans if f"{SOURCE}{loan.id}" not in known]
        if fresh:
            product = await _product(db)
            given = [boarding_of(x, product, _id(db, "client", x.owner), x.owner in bank.women) for x in fresh]
            await db.loans.board_many(given, key=None)
        if told is not None:
            told(len(bank.loans))
    return Loaded(
        records=len(bank.loans),
        clients_added=clients,
        accounts_added=accounts,
        added=len(fresh),
        orders=bank.orders,
        loan_orders=bank.loan_orders,
        loan_orders_without_loan=bank.loan_orders_without_loan,
    )


def _id(db: Session, what: str, number: int) -> UUID:
    """The id of a client or account, which follows from the tenant and the file's number."""
    return uuid5(db.tenant_id, f"{SOURCE}{what}:{number}")


async def _clients(db: Session, bank: Bank) -> int:
    borrowers = {loan.owner for loan in bank.loans}
    users = [
        User(
            id=_id(db, "client", client),
            role=UserRole.BORROWER if client in borrowers else UserRole.USER,
            status=UserStatus.ACTIVE,
        )
        for client in bank.clients
    ]
    added = 0
    for start in range(0, len(users), _AT_ONCE):
        part = users[start : start + _AT_ONCE]
        known = {user.id for user in await db.users.find(one_of(User.id, [user.id for user in part]))}
        added += len(await db.users.add_many([user for user in part if user.id not in known]))
    return added


async def _accounts(db: Session, bank: Bank) -> int:
    wanted = [
        Account(id=_id(db, "account", n), code=f"{SOURCE}account:{n}", asset=ASSET, kind=AccountKind.LIABILITY)
        for n in bank.accounts
    ]
    added = 0
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        known = {a.id for a in await db.ledger.accounts.find(one_of(Account.id, [a.id for a in part]))}
        added += len(await db.ledger.accounts.add_many([a for a in part if a.id not in known]))
    return added


async def _product(db: Session) -> LoanProduct:
    found = await db.products.find(LoanProduct.code == PRODUCT, LoanProduct.active == True)  # noqa: E712  a condition
    if found:
        return found[0]
    return await db.products.add(
        LoanProduct(
            code=PRODUCT,
            name="Czech bank loan, interest included",
            min_principal=Money.of(1_000, ASSET),
            max_principal=Money.of(1_000_000, ASSET),
            default_rate=Decimal(0),
            max_rate=Decimal(0),
            min_installments=12,
            default_installments=36,
            max_installments=60,
            terms=TERMS,
        )
    )
