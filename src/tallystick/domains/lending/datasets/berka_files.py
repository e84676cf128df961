"""The tables of the Czech bank of the PKDD'99 challenge (P. Berka), as far as loans need them.

Birth numbers tell sex and birthday: sex is kept and the day dropped. The bank's transactions are not among the files.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from tallystick.domains.lending.datasets.tables import Line, find, lines
from tallystick.errors import Invalid

FOLDER: Final = "berka_czech_loans"
FILES: Final = ("loan.csv", "account.csv", "client.csv", "disp.csv", "order.csv")
STATUSES: Final = {
    "A": "finished, no problems",
    "B": "finished, not paid",
    "C": "running, fine",
    "D": "running, client in debt",
}
_BIRTH: Final = re.compile(r"\d{6}")
_PURPOSES: Final = ("UVER", "SIPO", "POJISTNE", "LEASING", " ")
_LOAN_PAYMENT: Final = "UVER"


class Order(msgspec.Struct, frozen=True):
    """A standing order from an account; ``pays_loan`` says that the bank knows it as a loan payment."""

    id: int
    account: int
    amount: Decimal
    pays_loan: bool


class BankLoan(msgspec.Struct, frozen=True):
    """A loan, its owner and joint holder (clients), and the standing order that pays it."""

    id: int
    account: int
    district: int
    paid_out: date
    amount: Decimal
    months: int
    payment: Decimal
    status: str
    owner: int
    holders: tuple[int, ...]
    order: Order | None


class Bank(msgspec.Struct, frozen=True, kw_only=True):
    """The tables, joined. ``women`` are clients; ``accounts`` maps each to its owner."""

    loans: tuple[BankLoan, ...]
    accounts: dict[int, int]
    clients: tuple[int, ...]
    women: frozenset[int]
    orders: int
    loan_orders: int
    loan_orders_without_loan: int


def read(path: Path) -> Bank:
    """Every table, and what belongs together. Raises ``Invalid`` with a file and line where one is damaged."""
    folder = find(path, FOLDER, FILES)

    def table(name: str, columns: str) -> list[Line]:
        return list(lines(folder / name, columns.split(), ";"))

    districts = {
        line.whole("account_id", 1): line.whole("district_id", 1)
        for line in table("account.csv", "account_id district_id")
    }
    women = {line.whole("client_id", 1): _is_woman(line) for line in table("client.csv", "client_id birth_number")}
    owners: dict[int, int] = {}
    holders: dict[int, tuple[int, ...]] = {}
    for line in table("disp.csv", "account_id client_id type"):
        account, client = line.whole("account_id", 1), line.whole("client_id", 1)
        if client not in women or account not in districts:
            raise line.bad("client_id", "a client or account that is in no other table")
        if line.text("type", ("OWNER", "DISPONENT")) == "OWNER":
            owners[account] = client
        else:
            holders[account] = (*holders.get(account, ()), client)
    orders = [_order(line) for line in table("order.csv", "order_id account_id amount k_symbol")]
    paying: dict[int, list[Order]] = {}
    for order in orders:
        if order.pays_loan:
            paying.setdefault(order.account, []).append(order)
    loans = []
    for line in table("loan.csv", "loan_id account_id date amount duration payments status"):
        account = line.whole("account_id", 1)
        if account not in owners:
            raise line.bad("account_id", "an account without an owner")
        found = paying.get(account, [])
        loans.append(
            BankLoan(
                id=line.whole("loan_id", 1),
                account=account,
                district=districts[account],
                paid_out=line.day("date"),
                amount=line.decimal("amount"),
                months=line.whole("duration", 1, 600),
                payment=line.decimal("payments"),
                status=line.text("status", STATUSES),
                owner=owners[account],
                holders=holders.get(account, ()),
                order=found[0] if len(found) == 1 else None,
            )
        )
    if not loans:
        raise Invalid("loan.csv holds no loans.", field="path", remedy="Check that the download is complete.")
    lent_to = {loan.account for loan in loans}
    return Bank(
        loans=tuple(loans),
        accounts=owners,
        clients=tuple(women),
        women=frozenset(client for client, is_woman in women.items() if is_woman),
        orders=len(orders),
        loan_orders=sum(order.pays_loan for order in orders),
        loan_orders_without_loan=sum(order.pays_loan and order.account not in lent_to for order in orders),
    )


def _is_woman(line: Line) -> bool:
    """Whether 50 was added to the month of a birth number (YYMMDD), as it is for women."""
    month = int(line.text("birth_number", _BIRTH)[2:4])
    if not (1 <= month <= 12 or 51 <= month <= 62):
        raise line.bad("birth_number", "no birth number")
    return month > 50


def _order(line: Line) -> Order:
    return Order(
        id=line.whole("order_id", 1),
        account=line.whole("account_id", 1),
        amount=line.decimal("amount"),
        pays_loan=line.text("k_symbol", _PURPOSES) == _LOAN_PAYMENT,
    )
