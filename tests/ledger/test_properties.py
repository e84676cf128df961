"""Random books against a model of a few lines: whatever is done, debits equal credits and balances are sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.support import DAY, audit, cents

from tallystick import Conflict, InsufficientFunds, Invalid, Tallystick, uuid7
from tallystick.domains.ledger.accounts import Account, AccountKind, FloorRule
from tallystick.domains.ledger.posting import Receipt
from tallystick.domains.ledger.transfers import Phase, transfer
from tallystick.session import Session
from tallystick.testing import Sandbox

LEG = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 50)).filter(lambda leg: leg[0] != leg[1])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("post"), st.lists(LEG, min_size=1, max_size=4)),
        st.tuples(st.just("pend"), st.lists(LEG, min_size=1, max_size=2)),
        st.tuples(st.just("settle"), st.integers(0, 5), st.integers(1, 60)),
        st.tuples(st.just("void"), st.integers(0, 5)),
        st.tuples(st.just("reverse"), st.integers(0, 8)),
    ),
    max_size=14,
)
# Cash is striped and free, a wallet has one floor, a loan the other, income has none.
ACCOUNTS: list[tuple[str, AccountKind, FloorRule, int]] = [
    ("cash", AccountKind.ASSET, FloorRule.NONE, 3),
    ("wallet", AccountKind.LIABILITY, FloorRule.DEBITS_LE_CREDITS, 0),
    ("loan", AccountKind.ASSET, FloorRule.CREDITS_LE_DEBITS, 0),
    ("income", AccountKind.INCOME, FloorRule.NONE, 0),
]


@dataclass
class Model:
    """The four totals of each account, and what was done."""

    totals: list[list[int]] = field(default_factory=lambda: [[0, 0, 0, 0] for _ in ACCOUNTS])

    def apply(self, legs: list[tuple[int, int, int]], final: int, waits: int) -> bool:
        """Add legs; answer whether the floors allow it, changing nothing when they do not."""
        new = [list(t) for t in self.totals]
        for debit, credit, amount in legs:
            for account, side in ((debit, 0), (credit, 1)):
                new[account][side] += final * amount
                new[account][side + 2] += waits * amount
        for (_, _, floor, _), (debits, credits, dp, cp) in zip(ACCOUNTS, new, strict=True):
            if floor is FloorRule.DEBITS_LE_CREDITS and debits + dp > credits:
                return False
            if floor is FloorRule.CREDITS_LE_DEBITS and credits + cp > debits:
                return False
        self.totals = new
        return True

    def settle(self, leg: tuple[int, int, int], amount: int) -> bool:
        """Make part of a pending leg final and give back the rest."""
        debit, credit, held = leg
        before = [list(t) for t in self.totals]
        for account, side in ((debit, 0), (credit, 1)):
            self.totals[account][side] += amount
            self.totals[account][side + 2] -= held
        if self.apply([], 0, 0):
            return True
        self.totals = before
        return False


async def _open(db: Session) -> list[Account]:
    return [
        await db.ledger.open_account(code, "USD", kind, floor=floor, stripes=stripes)
        for code, kind, floor, stripes in ACCOUNTS
    ]


async def _run(db: Session, steps: list[Any]) -> None:
    accounts = await _open(db)
    model = Model()
    journals: list[tuple[Receipt, list[tuple[int, int, int]]]] = []
    pending: list[tuple[Any, tuple[int, int, int], bool]] = []
    undone: set[Any] = set()

    def legs_of(raw: list[tuple[int, int, int]]) -> list[Any]:
        return [transfer(accounts[a], accounts[b], cents(n)) for a, b, n in raw]

    for step in steps:
        if step[0] in ("post", "pend"):
            verb, final = (db.ledger.post, 1) if step[0] == "post" else (db.ledger.pend, 0)
            allowed = model.apply(step[1], final, 1 - final)
            try:
                receipt = await verb(legs_of(step[1]), op="x", key=str(uuid7()), on=DAY)
            except InsufficientFunds:
                assert not allowed
                continue
            assert allowed
            if final:
                journals.append((receipt, step[1]))
            else:
                pending += [(t, leg, False) for t, leg in zip(receipt.transfers, step[1], strict=True)]
        elif step[0] == "reverse" and journals:
            receipt, raw = journals[step[1] % len(journals)]
            opposite = [(b, a, n) for a, b, n in raw]
            fresh = receipt.id not in undone
            allowed = fresh and model.apply(opposite, 1, 0)
            try:
                back = await db.ledger.reverse(receipt, key=None, on=DAY)
            except InsufficientFunds:
                assert fresh
                assert not allowed
                continue
            except Conflict:
                assert not fresh
                continue
            assert allowed
            undone.add(receipt.id)
            journals.append((back, opposite))
        elif step[0] in ("settle", "void") and pending:
            at = step[1] % len(pending)
            held, leg, over = pending[at]
            amount = step[2] if step[0] == "settle" else leg[2]
            fits = not over and amount <= leg[2]
            allowed = fits and (model.settle(leg, amount) if step[0] == "settle" else model.settle(leg, 0))
            try:
                if step[0] == "settle":
                    done = await db.ledger.settle(held, cents(amount), key=None, on=DAY)
                else:
                    done = await db.ledger.void(held, key=None, on=DAY)
            except (Conflict, Invalid, InsufficientFunds):
                assert not allowed
                continue
            assert allowed
            pending[at] = (held, leg, True)
            if done.transfers[0].phase is Phase.POST:
                journals.append((done, [(leg[0], leg[1], amount)]))
    for account, expected in zip(accounts, model.totals, strict=True):
        b = await db.ledger.balances(account)
        assert [b.debits.units, b.credits.units, b.debits_pending.units, b.credits_pending.units] == expected
    await audit(db)


@settings(max_examples=40)
@given(steps=STEPS)
async def test_the_books_agree_with_the_model(tally: Tallystick, tenant: str, steps: list[Any]):
    async with Sandbox(tally) as sandbox, sandbox.session(tenant, actor="test", permissions=("*",)) as db:
        await _run(db, steps)


@settings(max_examples=25)
@given(raw=st.lists(LEG, min_size=1, max_size=6), before=st.lists(LEG, max_size=3))
async def test_to_do_and_to_undo_is_to_do_nothing(
    tally: Tallystick, tenant: str, raw: list[tuple[int, int, int]], before: list[tuple[int, int, int]]
):
    async with Sandbox(tally) as sandbox, sandbox.session(tenant, actor="test", permissions=("*",)) as db:
        accounts = [await db.ledger.open_account(f"a{n}", "USD", AccountKind.EQUITY, stripes=n) for n in range(4)]

        def legs(given: list[tuple[int, int, int]]) -> list[Any]:
            return [transfer(accounts[a], accounts[b], cents(n)) for a, b, n in given]

        if before:
            await db.ledger.post(legs(before), op="x", key=None)
        nets = [await db.ledger.balance(a) for a in accounts]
        receipt = await db.ledger.post(legs(raw), op="x", key=None)
        await db.ledger.reverse(receipt, key=None)
        assert [await db.ledger.balance(a) for a in accounts] == nets
        await audit(db)
