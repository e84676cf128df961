"""``db.ledger``: accounts, postings, two-phase transfers, reversals, exchange, and what the books say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, cast
from uuid import UUID

from tallystick.domains.idempotency import idempotent
from tallystick.domains.ledger import export, reports
from tallystick.domains.ledger.accounts import Account, AccountKind, Accounts, FloorRule, Stripe
from tallystick.domains.ledger.approval import Approval
from tallystick.domains.ledger.journals import Journal
from tallystick.domains.ledger.periods import Period, Periods
from tallystick.domains.ledger.posting import Draft, Receipt, draft, journal_of, request_of, row, write
from tallystick.domains.ledger.transfers import AccountLike, Leg, Phase, Transfer, account_id, transfer
from tallystick.entity import Entity
from tallystick.errors import Conflict, Duplicate, Invalid
from tallystick.fields import Ref
from tallystick.money import Money
from tallystick.page import Page

if TYPE_CHECKING:
    from tallystick.session import Session

Source = Entity | tuple[str, UUID]
TransferLike = Transfer | Ref[Transfer] | UUID
JournalLike = Journal | Receipt | Ref[Journal] | UUID


class Ledger:
    """The tenant's books.

    Commands take ``key``, which makes a repetition answer the first receipt again (``replayed``); None is for a
    command that is part of a larger one with a key of its own. ``on`` is the business date, today unless given.
    """

    __slots__ = ("_db", "accounts")

    def __init__(self, db: Session) -> None:
        self._db = db
        # Asked for first, because an application that did not choose the domain is told so here.
        self.accounts = cast("Accounts", db[Account])

    @property
    def periods(self) -> Periods:
        """The tenant's accounting periods."""
        return cast("Periods", self._db[Period])

    @property
    def approval(self) -> Approval:
        """Journals that need a second person."""
        return Approval(self._db)

    # -- accounts ------------------------------------------------------------------------------------------------

    async def open_account(
        self,
        code: str,
        asset: str,
        kind: AccountKind,
        *,
        floor: FloorRule = FloorRule.NONE,
        stripes: int = 0,
        name: str | None = None,
    ) -> Account:
        """Add an account; ``stripes`` (up to 64) is for one that many callers post to at once and that has no floor.

        Raises ``Duplicate`` for a code that is taken, ``Invalid`` for stripes on an account with a floor.
        """
        db = self._db
        async with db.transaction():
            made = await self.accounts.add(
                Account(code=code, asset=asset, kind=kind, floor_rule=floor, stripes=stripes, name=name)
            )
            await db[Stripe].add_many([Stripe(account=Ref(made.id), number=n) for n in range(stripes)])
        return made

    async def conversion_account(self, asset: str) -> Account:
        """The account through which an asset is exchanged for others, opened when it is first asked for."""
        code = f"conversion:{asset}"
        found = await self.accounts.by_code(code)
        if found is not None:
            return found
        try:
            return await self.open_account(code, asset, AccountKind.EQUITY)
        except Duplicate:
            return await self.accounts.one(Account.code == code)

    # -- posting -------------------------------------------------------------------------------------------------

    async def post(
        self,
        legs: Sequence[Leg],
        *,
        op: str,
        key: str | None,
        on: date | None = None,
        source: Source | None = None,
        description: str | None = None,
    ) -> Receipt:
        """Write a journal of transfers, all or nothing: ``post([transfer(cash, loan, usd("85"))], op="repay", ...)``.

        Raises ``InsufficientFunds``, ``UnknownReference`` (no such account, or not of this asset), ``KeyReused``,
        ``Conflict`` in a period that is closing or closed, ``Denied`` above the tenant's limits, ``Invalid``.
        """
        given = draft(legs, op=op, on=on, source=source, description=description)
        return await self._once("post", key, given, Phase.POSTED)

    async def pend(
        self,
        legs: Sequence[Leg],
        *,
        op: str,
        key: str | None,
        on: date | None = None,
        source: Source | None = None,
        description: str | None = None,
    ) -> Receipt:
        """Reserve transfers until each is settled or void; errors are those of ``post``."""
        given = draft(legs, op=op, on=on, source=source, description=description)
        return await self._once("pend", key, given, Phase.PENDING)

    async def post_many(self, drafts: Sequence[Draft], *, key: str | None) -> list[Receipt]:
        """Write many journals in one statement, all or nothing: the way to post a batch to a hot account.

        At most 1,000 transfers in all. Errors are those of ``post``.
        """
        db = self._db
        if not drafts or not all(d.__class__ is Draft for d in drafts):
            raise Invalid("A batch needs drafts.", field="drafts", remedy="Write post_many([draft([...], op=...)]).")
        given = [journal_of(db, d) for d in drafts]
        makes = [j.id for j, _ in given]
        async with idempotent(db, "ledger.post_many", key, [request_of(d) for d in drafts], makes=makes) as once:
            if once.replayed:
                return [await self.receipt(id, replayed=True) for id in once.results]
            written = await write(db, given)
        return [Receipt(journal=j, transfers=ts) for j, ts in written]

    async def settle(
        self, pending: TransferLike, amount: Money | None = None, *, key: str | None, on: date | None = None
    ) -> Receipt:
        """Make a pending transfer final, for its whole amount or less; the rest is given back.

        Raises ``Conflict`` when it is settled or void already, ``Invalid`` for more than is pending.
        """
        return await self._resolve(pending, Phase.POST, amount, key, on)

    async def void(self, pending: TransferLike, *, key: str | None, on: date | None = None) -> Receipt:
        """Give a pending transfer back. Raises ``Conflict`` when it is settled or void already."""
        return await self._resolve(pending, Phase.VOID, None, key, on)

    async def reverse(
        self, journal: JournalLike, *, key: str | None, on: date | None = None, description: str | None = None
    ) -> Receipt:
        """Write the opposite of a journal, once: every account stands as if it had not been.

        Raises ``Conflict`` when it was reversed before, ``InsufficientFunds`` when the money is gone, ``Invalid`` for a
        journal with pending transfers, which are settled or void instead.
        """
        id = _journal_id(journal)
        db = self._db
        async with idempotent(db, "ledger.reverse", key, (id, on, description)) as once:
            if once.replayed:
                return await self.receipt(once.results[0], replayed=True)
            given = Draft(
                legs=tuple(await self.reversal_of(id)), op="reverse", on=on, description=description, reverses=id
            )
            ((made, transfers),) = await write(db, [journal_of(db, given)])
            once.results = (made.id,)
        return Receipt(journal=made, transfers=transfers)

    async def exchange(
        self,
        debit: AccountLike,
        credit: AccountLike,
        *,
        debited: Money,
        credited: Money,
        op: str,
        key: str | None,
        on: date | None = None,
        source: Source | None = None,
        description: str | None = None,
    ) -> Receipt:
        """Debit one asset and credit another, each against its conversion account, whose balances are the position.

        Raises ``Invalid`` when both are of one asset; else the errors of ``post``.
        """
        if debited.asset == credited.asset:
            raise Invalid("An exchange is between two assets.", field="credited", remedy="Use ledger.post().")
        async with self._db.transaction():
            into = await self.conversion_account(debited.asset)
            out_of = await self.conversion_account(credited.asset)
            legs = [transfer(debit, into, debited), transfer(out_of, credit, credited)]
            return await self.post(legs, op=op, key=key, on=on, source=source, description=description)

    async def reversal_of(self, journal: JournalLike) -> list[Leg]:
        """The transfers that undo a journal. Raises ``NotFound``, and ``Invalid`` when nothing of it is final."""
        receipt = await self.receipt(_journal_id(journal))
        if any(t.phase is Phase.PENDING for t in receipt.transfers):
            raise Invalid(
                "A journal with pending transfers is not reversed.",
                field="journal",
                remedy="Settle or void them; reverse the journal that settled one.",
            )
        legs = [Leg(t.credit.id, t.debit.id, t.money) for t in receipt.transfers if t.phase is not Phase.VOID]
        if not legs:
            raise Invalid("The journal moved nothing that could be reversed.", field="journal")
        return legs

    # -- reading -------------------------------------------------------------------------------------------------

    async def receipt(self, journal: UUID, *, replayed: bool = False) -> Receipt:
        """A journal with its transfers. Raises ``NotFound``."""
        header = await self._db[Journal].get(journal)
        legs = await self._db[Transfer].find(Transfer.journal == header.ref, order=Transfer.seq)
        return Receipt(journal=header, transfers=tuple(legs), replayed=replayed)

    async def balance(self, account: AccountLike, on: date | None = None) -> Money:
        """What an account has on its normal side, without what is pending: now, or as of the end of a date."""
        return (await self.balances(account, on)).net

    async def balances(self, account: AccountLike, on: date | None = None) -> reports.Balances:
        """The four totals of an account, its stripes summed: now, or as of the end of a business date."""
        return await reports.balances(self._db, account_id(account, "account"), on)

    async def trial_balance(self, on: date | None = None) -> reports.TrialBalance:
        """Every account's totals in one snapshot: now, or as of the end of a business date."""
        return await reports.trial_balance(self._db, on)

    async def statement(
        self, account: AccountLike, *, after: str | None = None, limit: int = 100
    ) -> Page[reports.Line]:
        """A page of an account's transfers in the order they were recorded; ``after`` is the ``next`` of the last."""
        known = account if isinstance(account, Account) else await self.accounts.get(account_id(account, "account"))
        return await reports.statement(self._db, known, after, limit)

    def entries(self, since: date, until: date) -> AsyncIterator[export.Entry]:
        """Every final transfer of a span of business dates, for ``csv_lines`` and other exports."""
        return export.entries(self._db, since, until)

    # -- inside --------------------------------------------------------------------------------------------------

    async def _once(self, verb: str, key: str | None, given: Draft, phase: Phase) -> Receipt:
        db = self._db
        journal, _ = journal_of(db, given)
        op = f"ledger.{verb}.{given.op}"
        async with idempotent(db, op, key, request_of(given), makes=(journal.id,)) as once:
            if once.replayed:
                return await self.receipt(once.results[0], replayed=True)
            rows = tuple(row(journal, n, leg, phase) for n, leg in enumerate(given.legs, 1))
            ((made, transfers),) = await write(db, [(journal, rows)])
        return Receipt(journal=made, transfers=transfers)

    async def _resolve(
        self, pending: TransferLike, phase: Phase, amount: Money | None, key: str | None, on: date | None
    ) -> Receipt:
        id = pending if isinstance(pending, UUID) else pending.id
        db, op = self._db, "settle" if phase is Phase.POST else "void"
        async with idempotent(db, f"ledger.{op}", key, (id, amount, on)) as once:
            if once.replayed:
                return await self.receipt(once.results[0], replayed=True)
            found = await db[Transfer].get(id)
            leg = _resolving(found, amount)
            about = await db[Journal].get(found.journal.id)
            source = (about.source, about.source_id) if about.source and about.source_id else None
            header, _ = journal_of(db, Draft(legs=(leg,), op=op, on=on, source=source))
            ((made, transfers),) = await write(db, [(header, (row(header, 1, leg, phase, id),))])
            once.results = (made.id,)
        return Receipt(journal=made, transfers=transfers)


def _resolving(pending: Transfer, amount: Money | None) -> Leg:
    if pending.phase is not Phase.PENDING:
        raise Conflict("The transfer is not pending.", entity="Transfer", remedy="Reverse its journal instead.")
    leg = transfer(pending.debit.id, pending.credit.id, pending.money if amount is None else amount)
    if leg.money > pending.money:
        raise Invalid("More than is pending cannot be settled.", field="amount", remedy="Pend the rest first.")
    return leg


def _journal_id(given: JournalLike) -> UUID:
    if isinstance(given, UUID):
        return given
    if isinstance(given, (Journal, Receipt, Ref)):
        return given.id
    raise Invalid("A journal is named by itself, its receipt, its ref or its id.", field="journal")
