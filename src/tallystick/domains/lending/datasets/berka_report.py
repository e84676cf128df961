"""What the boarded Berka loans say, counted from the database and not from the files."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from tallystick.domains.ledger.accounts import Account
from tallystick.domains.lending.books import Own, own_id
from tallystick.domains.lending.datasets.berka import AS_OF, ASSET, IN_DEBT, SOURCE
from tallystick.domains.lending.datasets.berka_files import STATUSES
from tallystick.domains.lending.loans import Loan
from tallystick.money import Money
from tallystick.query import prefix

if TYPE_CHECKING:
    from tallystick.session import Session


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The data set's published numbers, counted from what is stored.

    ``users`` are all of the tenant. ``payments_agree`` counts loans whose amount is payments times months;
    ``orders_agree`` those whose standing order is their payment to less than half a crown (the file rounds payments to
    crowns), ``orders_exact`` to the heller, ``orders_half_apart`` those exactly half a crown apart. ``bad`` and
    ``groups`` count statuses B and D, the latter of all loans of each sex. ``late_principal`` is all that late loans
    owe.
    """

    loans: int
    users: int
    accounts: int
    statuses: dict[str, int]
    our_statuses: dict[str, int]
    bad: int
    groups: dict[str, tuple[int, int]]
    payments_agree: int
    orders_agree: int
    orders_exact: int
    orders_half_apart: int
    late: int
    principal: Money
    late_principal: Money
    accounts_agree: int
    balanced: bool


async def report(db: Session) -> Report:
    """Count the tenant's loans, clients and accounts of the data set."""
    loans = [loan async for loan in db.loans.stream(prefix(Loan.external_id, SOURCE))]
    told = [loan.details for loan in loans]
    apart = [
        abs(Decimal(one["standing_order"]["amount"]) - Decimal(one["payment"])) for one in told if one["standing_order"]
    ]
    trial = await db.ledger.trial_balance()
    worth = {line.account: line.debits - line.credits for line in trial.lines}
    late = [loan for loan in loans if loan.oldest_due is not None and loan.oldest_due < AS_OF]
    half = Decimal("0.5")
    return Report(
        loans=len(loans),
        users=await db.users.count(),
        accounts=await db.ledger.accounts.count(prefix(Account.code, f"{SOURCE}account:")),
        statuses={status: sum(one["status"] == status for one in told) for status in STATUSES},
        our_statuses={s: sum(loan.status.value == s for loan in loans) for s in ("active", "closed")},
        bad=sum(one["status"] in IN_DEBT for one in told),
        groups={sex: _bad([one for one in told if one["monitoring"]["sex"] == sex]) for sex in ("female", "male")},
        payments_agree=sum("payment_differs" not in one["flags"] for one in told),
        orders_agree=sum(difference < half for difference in apart),
        orders_exact=sum(not difference for difference in apart),
        orders_half_apart=sum(difference == half for difference in apart),
        late=len(late),
        principal=Money(sum(loan.principal_outstanding.units for loan in loans), ASSET),
        late_principal=Money(sum(loan.principal_outstanding.units for loan in late), ASSET),
        accounts_agree=sum(worth[own_id(loan.id, Own.PRINCIPAL)] == loan.principal_outstanding for loan in loans),
        balanced=trial.balanced,
    )


def _bad(told: Sequence[dict[str, Any]]) -> tuple[int, int]:
    return sum(one["status"] in IN_DEBT for one in told), len(told)
