"""Scenarios of loans as tables: one line is what happens on a day, or what is true after it.

``[label:] MM-DD verb arguments`` does something; ``= what`` says what is true:

    = active 225            the status, and what is outstanding or was paid too much
    = left 0 100 125        what is left of each installment
    = due 125 125 125       what is or was due with each installment
    = row 3: advance 25     of one installment: due, paid, advance, late, left, a component, on (MM-DD), date (MM-DD)
    = label: principal 150  where a transaction's money is now: components and "over"; what is not named is nothing

An amount counts as in advance when its payment was before the due date and as late when it was after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

from tests.lending.support import audit

from tallystick.domains.identity.users import User, UserStatus
from tallystick.domains.ledger.accounts import Account
from tallystick.domains.ledger.transfers import Transfer
from tallystick.domains.lending.calendar import Frequency
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.receipts import LoanReceipt
from tallystick.domains.lending.servicing import ChargeKind, Component
from tallystick.domains.lending.transactions import LoanAllocation, LoanTransaction, TransactionKind
from tallystick.money import Money, money, sum_of
from tallystick.query import one_of
from tallystick.session import Session

PARTS = {"principal": "principal", "interest": "interest", "fees": "fees", "penalties": "penalties", "over": "overpaid"}


class Scenario:
    """A loan to which the lines of a table happen."""

    def __init__(self, db: Session, product: LoanProduct, year: int) -> None:
        self.db, self.product, self.year = db, product, year
        self.loan: Loan
        self.done: dict[str, LoanTransaction] = {}
        self._verbs: dict[str, Callable[..., Awaitable[Any]]] = {
            "lend": self._lend,
            "repay": self._repay,
            "goodwill": self._goodwill,
            "refund": self._refund,
            "undo": self._undo,
            "back": self._back,
            "fee": self._fee,
            "penalty": self._penalty,
            "waive": self._waive,
            "off": self._off,
            "lost": self._lost,
            "recover": self._recover,
            "reamortize": self._reamortize,
            "reage": self._reage,
            "reschedule": self._reschedule,
        }

    async def play(self, table: str, *, approved: str = "10000", first_due: str | None = None) -> Loan:
        """Let a table happen, and look at the books at the end."""
        borrower = await self.db.users.add(User(status=UserStatus.ACTIVE))
        lines = [line.split("#")[0].strip() for line in table.strip().splitlines()]
        started = self.on(next(line for line in lines if line).split()[0].rstrip(":"))
        self.loan = await self.db.loans.request(
            product=self.product,
            borrower=borrower,
            principal=self.of(approved),
            first_due=None if first_due is None else self.on(first_due),
            on=started,
            key=None,
        )
        await self.db.loans.approve(self.loan, on=started, key=None)
        for line in filter(None, lines):
            try:
                await (self._expect(line[1:].strip()) if line.startswith("=") else self.do(line))
            except Exception as error:
                error.add_note(f"in: {line}")
                raise
        await audit(self.db)
        return await self.db.loans.get(self.loan.id)

    async def do(self, line: str) -> None:
        """Let one line happen."""
        label, words = None, line.split()
        if words[0].endswith(":"):
            label, words = words[0][:-1], words[1:]
        made = await self._verbs[words[1]](self.on(words[0]), *words[2:])
        if label is not None and isinstance(made, LoanReceipt):
            self.done[label] = made.transaction

    def on(self, day: str) -> date:
        """MM-DD of the scenario's year, or a whole date."""
        return date.fromisoformat(day if len(day) > 5 else f"{self.year}-{day}")

    def of(self, amount: str) -> Money:
        return money(amount, self.product.asset)

    # -- what happens ----------------------------------------------------------------------------------------------

    async def _lend(self, on: date, amount: str) -> LoanReceipt:
        return await self.db.loans.disburse(self.loan, self.of(amount), on=on, key=None)

    async def _repay(self, on: date, amount: str) -> LoanReceipt:
        return await self.db.loans.repay(self.loan, self.of(amount), on=on, key=None)

    async def _goodwill(self, on: date, amount: str) -> LoanReceipt:
        return await self.db.loans.goodwill(self.loan, self.of(amount), on=on, key=None)

    async def _refund(self, on: date, amount: str) -> LoanReceipt:
        return await self.db.loans.refund(self.loan, self.of(amount), on=on, key=None)

    async def _undo(self, on: date, label: str) -> LoanReceipt:
        return await self.db.loans.reverse(await self._labelled(label), on=on, key=None)

    async def _back(self, on: date, label: str, amount: str) -> LoanReceipt:
        return await self.db.loans.chargeback(await self._labelled(label), self.of(amount), on=on, key=None)

    async def _labelled(self, label: str) -> LoanTransaction:
        if label not in self.done:
            kind = TransactionKind(label)
            self.done[label] = next(t for t in await self.db.loans.transactions(self.loan) if t.kind is kind)
        return self.done[label]

    async def _fee(self, on: date, amount: str, due: str) -> None:
        await self._charge(ChargeKind.FEE, on, amount, due)

    async def _penalty(self, on: date, amount: str, due: str) -> None:
        await self._charge(ChargeKind.PENALTY, on, amount, due)

    async def _charge(self, kind: ChargeKind, on: date, amount: str, due: str) -> None:
        await self.db.loans.charge(self.loan, kind, self.of(amount), code="test", due=self.on(due), on=on, key=None)

    async def _waive(self, on: date, amount: str, component: str) -> LoanReceipt:
        return await self.db.loans.waive(self.loan, self.of(amount), [Component(component)], on=on, key=None)

    async def _off(self, on: date) -> LoanReceipt:
        return await self.db.loans.charge_off(self.loan, on=on, key=None)

    async def _lost(self, on: date) -> LoanReceipt:
        return await self.db.loans.write_off(self.loan, on=on, key=None)

    async def _recover(self, on: date, amount: str) -> LoanReceipt:
        return await self.db.loans.recover(self.loan, self.of(amount), on=on, key=None)

    async def _reamortize(self, on: date) -> LoanReceipt:
        return await self.db.loans.reamortize(self.loan, on=on, key=None)

    async def _reage(self, on: date, first_due: str, count: str, months: str) -> LoanReceipt:
        return await self.db.loans.reage(
            self.loan,
            first_due=self.on(first_due),
            installments=int(count),
            frequency=Frequency.MONTHS,
            every=int(months),
            on=on,
            key=None,
        )

    async def _reschedule(self, on: date, since: str, first_due: str, count: str) -> LoanReceipt:
        return await self.db.loans.reschedule(
            self.loan, since=self.on(since), first_due=self.on(first_due), installments=int(count), on=on, key=None
        )

    # -- what is true ----------------------------------------------------------------------------------------------

    async def _expect(self, what: str) -> None:
        head, _, rest = what.partition(" ")
        if head == "left":
            assert [i.outstanding for i in await self.rows()] == [self.of(a) for a in rest.split()]
        elif head == "due":
            assert [i.total for i in await self.rows()] == [self.of(a) for a in rest.split()]
        elif head == "row":
            number, _, pairs = rest.partition(":")
            await self._expect_row(int(number), pairs.split())
        elif head.endswith(":"):
            await self._expect_parts(head[:-1], rest.split())
        else:
            loan = await self.db.loans.get(self.loan.id)
            assert loan.status.value == head
            if rest:
                found = loan.overpaid if head == "overpaid" else loan.outstanding
                assert found == self.of(rest)

    async def _expect_row(self, number: int, words: list[str]) -> None:
        row = (await self.rows())[number - 1]
        for name, value in zip(words[::2], words[1::2], strict=True):
            if name in ("on", "date"):
                assert (row.settled_on if name == "on" else row.due) == self.on(value), name
            else:
                assert await self._of_row(row, name) == self.of(value), name

    async def _of_row(self, row: LoanInstallment, name: str) -> Money:
        if name in ("due", "left"):
            return row.total if name == "due" else row.outstanding
        if name in PARTS:
            found = getattr(row, name)
            assert isinstance(found, Money)
            return found
        mine = await self.db[LoanAllocation].find(LoanAllocation.installment == row.ref)
        counts = {"paid": mine, "advance": [a for a in mine if a.effective < row.due]}
        counts["late"] = [a for a in mine if a.effective > row.due]
        return sum_of([a.principal + a.interest + a.fees + a.penalties for a in counts[name]], row.principal.asset)

    async def _expect_parts(self, label: str, words: list[str]) -> None:
        current = {i.schedule for i in await self.rows()}
        mine = await self.db.loans.allocations(await self._labelled(label))
        found = {
            name: sum_of([getattr(a, field) for a in mine if a.schedule in current], self.loan.asset)
            for name, field in PARTS.items()
        }
        wanted = dict(zip(words[::2], words[1::2], strict=True))
        assert {name: str(m.amount.normalize()) for name, m in found.items() if m} == {
            name: str(self.of(amount).amount.normalize()) for name, amount in wanted.items()
        }

    async def rows(self) -> list[LoanInstallment]:
        """The installments now."""
        return sorted(await self.db.loans.schedule(self.loan), key=lambda i: (i.due, i.seq))

    async def journal(self, label: str) -> dict[str, Money]:
        """What the journal of a transaction debits (and, below zero, credits), by account without loan and asset."""
        made = await self._labelled(label)
        assert made.journal is not None
        transfers = await self.db[Transfer].find(Transfer.journal == made.journal)
        ids = {t.debit.id for t in transfers} | {t.credit.id for t in transfers}
        accounts = {a.id: a for a in await self.db.ledger.accounts.find(one_of(Account.id, sorted(ids)))}
        net: dict[str, Money] = {}
        for t in transfers:
            for side, amount in ((t.debit.id, t.money), (t.credit.id, -t.money)):
                code = accounts[side].code
                name = code.rpartition(":")[2] if code.startswith("loan:") else code.partition(":")[0]
                name = name.removeprefix("loans.")
                net[name] = net.get(name, self.of("0")) + amount
        return {name: amount for name, amount in net.items() if amount}
